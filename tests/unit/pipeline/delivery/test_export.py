"""The card of a model that leaves, and the bundle that is written of it."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from components.data.framing import Framing
from components.evaluation.calibration import Calibration
from components.models.forward import Ensemble
from components.serving.bundle import load_bundle
from components.serving.card import ModelCard
from pipeline.delivery import export
from pipeline.delivery.export import Part, export_model, model_card, network_member
from pipeline.delivery.frozen import frozen_part
from pipeline.sections.recipe import ModelConfig, Recipe, RecipeConfig


@pytest.fixture
def context(tmp_path, embedded) -> SimpleNamespace:
    (tmp_path / "prepare").mkdir()
    (tmp_path / "prepare" / "data_report.json").write_text(json.dumps({"digest": "d"}))
    (tmp_path / "deliver").mkdir()
    return SimpleNamespace(
        input=embedded.input,
        run=SimpleNamespace(id="0123456789"),
        commit="c",
        inputs={"prepare": SimpleNamespace(fingerprint="f")},
        directory=tmp_path / "deliver",
        work=tmp_path / "work",
        tracker=SimpleNamespace(log_model=lambda run, folder, *, name, params: f"{name}: {params['members']}"),
    )


GIVEN = {"precision": "float32", "calibration": Calibration(2.0, -1.0), "point": None}


def test_the_card_takes_its_framing_from_the_data_and_survives_json(context) -> None:
    framing = Framing(size=64, region=(1, 2, 90, 80), fit="letterbox", tile_size=None, tile_overlap=0.25)
    data = SimpleNamespace(classes=("pit", "scratch"), good_classes=(), pack=SimpleNamespace(framing=framing))
    values = torch.tensor([25.5, 51.0, 102.0])
    recipe = Recipe(model=ModelConfig(backbone="net"), recipe=RecipeConfig())
    seen = SimpleNamespace(mean255=values, std255=values, size=32)
    member = network_member(recipe, seen, side=64, weight=1.0, views=(0,))  # type: ignore[arg-type]
    card = model_card(context, data, [member], recipe=recipe, **GIVEN | {"precision": "bfloat16"})
    read = ModelCard.from_json(card.to_json())
    (member,) = read.members
    assert (member.mean, member.input_size) == ((0.1, 0.2, 0.4), 32)
    assert Framing.from_dict(read.framing) == framing
    assert (read.name, read.precision) == ("network-net-01234567", "bfloat16")
    assert read.calibration == {"scale": 2.0, "bias": -1.0}
    assert read.provenance["fingerprints"] == {"prepare": "f"}
    assert read.provenance["manifest_digest"] == "d"
    assert read.provenance["recipe"]["model"]["backbone"] == "net"


def test_what_was_not_trained_has_no_recipe(context, images) -> None:
    data = SimpleNamespace(classes=("bad", "good"), good_classes=(), pack=images().pack)
    card = model_card(context, data, [frozen_part(context).member], recipe=None, **GIVEN)
    assert card.name.startswith("frozen-test_resnet-")
    assert "recipe" not in card.provenance


def test_the_bundle_has_all_members_and_names_every_image_but_those_of_the_test(context, networks, monkeypatch) -> None:
    import shutil

    monkeypatch.setattr(
        export, "save_pyfunc", lambda target, **given: shutil.copytree(given["artifacts"]["bundle"], target)
    )
    three = networks()
    data = SimpleNamespace(
        classes=three.data.classes, good_classes=(), pack=three.data.pack, manifest=three.data.manifest
    )
    recipe = three.recipe
    member = network_member(recipe, three.learner.preprocessing, side=32, weight=0.5, views=(0, 4))
    parts = [Part(member=member, state=one.store.best().weights) for one in three.trained[:2]]
    parts.append(frozen_part(context))
    card = model_card(context, data, [part.member for part in parts], recipe=recipe, **GIVEN)
    (context.directory / "model").mkdir()  # left by an export that was interrupted
    shown = export_model(context, data, card, parts)
    assert shown == (
        "model: 2 networks (test_resnet at 32 px, 2 views) and 1 frozen classifier (test_resnet at 24 px, 1 view)"
    )
    read, state = load_bundle(context.directory / "model")
    served = Ensemble.from_card(json.loads(read.to_json()), state, torch.device("cpu"))
    assert served.logits(torch.zeros(2, 3, 32, 32, dtype=torch.uint8)).shape == (2, 2)
    seen = (context.directory / "model" / "seen_images.txt").read_text().split()
    rows = data.manifest
    np.testing.assert_array_equal(
        sorted(seen), sorted({digest[:16] for digest in rows.loc[rows["split"] != "test", "sha256"]})
    )
