"""The stage embed and the first model from its results: what they write, say, and refuse to conclude."""

import contextlib
import json
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any
from unittest.mock import MagicMock

import numpy as np
import pandas as pd
import pytest
import torch
from packs import SIZE, Pixels
from rich.console import Console as RichConsole
from rich.table import Table

from components.errors import InputError
from components.models.forward import Ensemble
from components.models.heads import read_heads
from components.serving.bundle import load_bundle
from pipeline.config import ComputeConfig, OperatingPointConfig
from pipeline.console import Console
from pipeline.delivery import export
from pipeline.sections.embedding import EmbedConfig
from pipeline.sections.recipe import ModelConfig, RecipeConfig
from pipeline.stage import StageContext, StageRecord
from pipeline.stages import embed, first_model
from pipeline.training.data import TrainingData


class Said(Console):
    """What was said, as text."""

    def __init__(self) -> None:
        super().__init__(quiet=True)
        self.lines: list[str] = []

    def say(self, message: str, style: str = "") -> None:
        self.lines.append(message)

    def table(self, table: Table) -> None:
        plain = RichConsole(width=200)
        with plain.capture() as caught:
            plain.print(table)
        self.lines.append(caught.get())


@dataclass(frozen=True)
class Place:
    images: TrainingData
    compute: ComputeConfig
    share: None = None

    def open(self) -> TrainingData:
        return self.images


def data(*, folds: int, told: bool = True, seed: int = 0) -> TrainingData:
    """Forty parts of two images, a fifth of them test; defective ones are bright where the classes are to be told."""
    part = np.repeat(np.arange(40), 2)
    defect = part % 2 == 1
    noise = np.random.default_rng(seed).integers(0, 60, (len(part), SIZE, SIZE, 3))
    pixels = (noise + (150 * defect[:, None, None, None] if told else 0)).astype(np.uint8)
    place = part // 2 % 5
    names = ["train", "train", "train", "train", "test"] if folds else ["train", "train", "val", "calibration", "test"]
    split = np.array(names, dtype=object)[place]
    manifest = pd.DataFrame(
        {
            "image_id": [f"{row}.png" for row in range(len(part))],
            "path": [f"{row}.png" for row in range(len(part))],
            "label": np.where(defect, "bad", "good"),
            "is_defect": defect,
            "group": [f"part-{name}" for name in part],
            "split": split,
            "fold": np.where(split == "test", -1, place % max(folds, 1)) if folds else -1,
            "sha256": [f"{row:064x}" for row in range(len(part))],
            "pack_index": np.arange(len(part)),
        }
    )
    return TrainingData(manifest, Pixels(pixels), ("bad", "good"), ("good",))  # type: ignore[arg-type]


@pytest.fixture
def stages(tmp_path, monkeypatch):
    """Run embed, then the first model, on images in memory."""
    prepared = tmp_path / "prepare" / "one"
    prepared.mkdir(parents=True)
    (prepared / "data_report.json").write_text('{"digest": "d"}')
    values = dict.fromkeys(("stage", "fingerprint", "run_id", "commit"), "")
    record = StageRecord(
        **values, version=1, result_id="result", inputs={}, sections={}, headline={}, artifacts={}, seconds=0.0,
        versions={}, directory=prepared,
    )  # fmt: skip
    record.write()

    def context(stage: str, said: Said, **inputs: StageRecord) -> StageContext:
        (tmp_path / stage / "one").mkdir(parents=True, exist_ok=True)
        run = MagicMock(id="0123456789abcdef")
        return StageContext(
            directory=tmp_path / stage / "one", inputs={"prepare": record, **inputs}, run=run, tracker=MagicMock(),
            compute=ComputeConfig(device="cpu"), console=said, commit="c",
        )  # fmt: skip

    def run(
        images: TrainingData,
        *,
        weights: str = "none",
        keep: int = 2,
        augment: tuple[str, ...] | None = None,
        **settings: Any,
    ) -> SimpleNamespace:
        for module in (embed, first_model):
            monkeypatch.setattr(module, "open_data", lambda directory: images)
            monkeypatch.setattr(module, "log_lineage", lambda *args, **options: None)
        monkeypatch.setattr(
            embed, "task_placement", lambda context: contextlib.nullcontext(Place(images, context.compute))
        )
        said = Said()
        asked = EmbedConfig(keep_backbones=keep, bootstrap_samples=50, **settings)
        model = ModelConfig(backbone="test_efficientnet", weights=weights)
        recipe = RecipeConfig() if augment is None else RecipeConfig(augment=augment)
        headline = embed.run(context("embed", said), seed=0, budget=None, model=model, recipe=recipe, embed=asked)
        made = replace(record, directory=tmp_path / "embed" / "one")
        first = context("first_model", said, embed=made)
        headline |= first_model.run(first, operating_point=OperatingPointConfig(escape_budget=0.4, confidence=0.9))
        return SimpleNamespace(
            headline=headline, said=said.lines, folder=made.directory, model=first.directory / "model",
            record=json.loads((made.directory / "embedding.json").read_text()),
        )  # fmt: skip

    return run


@pytest.fixture
def saved_as_bundle(monkeypatch) -> None:
    """Instead of MLflow's model around the bundle, the bundle itself."""
    import shutil

    monkeypatch.setattr(export, "save_pyfunc", lambda target, **given: shutil.copytree(
        given["artifacts"]["bundle"], target
    ))  # fmt: skip


@pytest.mark.usefixtures("saved_as_bundle")
@pytest.mark.parametrize("folds", [4, 0])
def test_the_first_model_gives_what_its_scores_promise(stages, folds: int) -> None:
    images = data(folds=folds)
    done = stages(images)
    logits = np.load(done.folder / "frozen_logits.npy")
    scored = images.manifest["split"].isin(("train",) if folds else ("val", "calibration"))
    assert logits.dtype == np.float32
    np.testing.assert_array_equal(np.isfinite(logits).all(axis=1), scored)
    card, state = load_bundle(done.model)
    assert [one.kind for one in card.members] == ["frozen"]
    served = Ensemble.from_card(json.loads(card.to_json()), state, torch.device("cpu"))
    test = np.flatnonzero(images.manifest["split"] == "test")
    pixels = torch.from_numpy(images.pack[test]).permute(0, 3, 1, 2)
    truth = images.manifest["label"].to_numpy()[test]
    assert [card.classes[one] for one in served.logits(pixels).argmax(dim=1)] == truth.tolist()
    assert card.operating_point is not None
    assert card.operating_point["evidence"]["kind"] == ("out_of_fold" if folds else "held_out")
    assert done.headline["first_model_overkill"] == 0.0
    assert any(line.startswith("  the first model is there: AUROC 1.000") for line in done.said)
    assert f"  try it: escapement predict --model {done.model} images/" in done.said


@pytest.mark.usefixtures("saved_as_bundle")
def test_a_fold_on_which_candidates_were_compared_does_not_certify(stages) -> None:
    done = stages(data(folds=4), backbones=("test_efficientnet", "test_resnet"))
    point = json.loads((done.model.parent / "operating_point.json").read_text())["operating_point"]
    assert point["evidence"]["not_certifying"] == [0]
    assert point["defects"] == 12  # parts: half of the 32 that are not test, less the fold's four
    assert (len(done.record["candidates"]), done.record["not_certifying"]) == (2, [0])


@pytest.mark.usefixtures("saved_as_bundle")
def test_random_weights_rank_nothing_and_start_no_training(stages) -> None:
    done = stages(data(folds=4), keep=1, backbones=("test_efficientnet", "test_resnet"))
    assert done.record["kept"] == ["test_efficientnet", "test_resnet"]
    assert read_heads(done.folder) == {}
    assert any("features of random weights tell little" in line for line in done.said)
    assert pd.read_csv(done.folder / "doubtful.csv").empty


@pytest.fixture
def weights(tmp_path) -> str:
    from safetensors.torch import save_file

    from components.models.backbones import build_model

    given = {"weights": "none", "num_classes": 2, "drop_rate": 0.0, "drop_path_rate": 0.0, "seed": 3}
    save_file(build_model(backbone="test_efficientnet", **given).model.state_dict(), tmp_path / "w.safetensors")
    return f"file:{tmp_path / 'w.safetensors'}"


@pytest.mark.usefixtures("saved_as_bundle")
def test_of_known_weights_there_are_head_starts_and_a_ranking_at_each_size(stages, weights) -> None:
    done = stages(data(folds=4), weights=weights, keep=1, image_sizes=(32, 48))
    assert [one["image_size"] for one in done.record["candidates"]] == [32, 48]  # equals: the smaller first
    assert done.record["kept"] == ["test_efficientnet"]
    assert set(read_heads(done.folder)) == {("test_efficientnet", fold) for fold in (0, 1, 2, 3, None)}
    assert "images of 32 px were resized to 48 px" in " ".join(done.said)
    page = (done.folder / "embed.html").read_text()
    assert "Backbones and sizes" in page
    assert "scored out of fold, 4 folds of whole groups; compared on the first, 16 images" in page


@pytest.mark.usefixtures("saved_as_bundle")
def test_the_best_of_known_weights_sees_several_views_and_the_candidates_are_compared_by_one(stages, weights) -> None:
    images = data(folds=4)
    one, all_of_them = (stages(images, weights=weights, image_sizes=(32, 48), views=views) for views in ("auto", 8))
    assert [done.record["best"]["views"] for done in (one, all_of_them)] == [[0], [*range(8)]]
    timed = {"images_per_second", "seconds", "serve_ms", "epoch_seconds"}
    compared = [
        [{key: value for key, value in row.items() if key not in timed} for row in done.record["candidates"]]
        for done in (one, all_of_them)
    ]
    assert compared[0] == compared[1]
    assert "test_efficientnet, 8 views" in (all_of_them.folder / "embed.html").read_text()
    card, state = load_bundle(all_of_them.model)
    served = Ensemble.from_card(json.loads(card.to_json()), state, torch.device("cpu"))
    pixels = torch.from_numpy(images.pack[np.arange(4)]).permute(0, 3, 1, 2)
    torch.testing.assert_close(served.logits(pixels.flip(-1)), served.logits(pixels), atol=1e-3, rtol=1e-3)


def test_views_that_training_does_not_show_are_refused_before_anything_is_embedded(stages) -> None:
    with pytest.raises(InputError, match=r"^embed\.views=8: .*\(recipe\.augment\) allows 1, 2 only; give one of"):
        stages(data(folds=4), views=8, augment=("horizontal_flip",))


@pytest.mark.usefixtures("saved_as_bundle")
def test_where_nothing_is_found_it_says_what_to_check(stages, weights, monkeypatch) -> None:
    monkeypatch.setattr(embed, "head_starts", lambda *args, **options: {})
    done = stages(data(folds=4, told=False), weights=weights)
    (warning,) = [line for line in done.said if "finds nothing" in line]
    assert "Check that the labels belong to the images" in warning
    assert read_heads(done.folder) == {}
    (note,) = done.record["notes"]
    assert note.startswith("test_efficientnet: no training starts from a fitted classifier")
    assert pd.read_csv(done.folder / "doubtful.csv").empty
