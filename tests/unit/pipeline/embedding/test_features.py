"""The features of each candidate: what they are, and what is kept of them for the next time."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import timm
import torch

from components.errors import InputError
from components.models.backbones import build_embedder
from components.models.forward import Preprocessing, pooled_features
from pipeline.embedding import features as module
from pipeline.embedding.features import Candidate, Features, embed_all
from pipeline.embedding.images import choose_images
from pipeline.sections.recipe import ModelConfig

ONE = Candidate("test_efficientnet", 32)


@pytest.fixture
def embedded(monkeypatch) -> list[tuple[str, int, int]]:
    """Backbone, size and first image of each part that is embedded, as it happens."""
    made: list[tuple[str, int, int]] = []
    embed = module._embed

    def noting(part):
        made.append((part.candidate.backbone, part.candidate.image_size, part.start))
        return embed(part)

    monkeypatch.setattr(module, "_embed", noting)
    return made


@pytest.fixture
def embed(context: Any, made, here):
    def found(*candidates: Candidate, data=None, most: int = 10_000, seed: int = 0) -> dict[Candidate, Features]:
        data = data or made()
        chosen = choose_images(data, most=most, several=False, seed=0)
        model = ModelConfig(backbone=candidates[0].backbone, weights="none")
        return dict(embed_all(context, candidates, data, chosen, model, here(data), seed=seed))

    return found


def kept(context: Any) -> set[Path]:
    return set((context.storage / "features").glob("*"))


def test_the_first_ones_are_what_the_classifier_would_get(embed, made) -> None:
    (features,) = embed(ONE).values()
    data = made()
    chosen = choose_images(data, most=10_000, several=False, seed=0)
    built = build_embedder(backbone=ONE.backbone, weights="none", seed=0)
    pixels = torch.from_numpy(data.pack[chosen.images.indices[:5]]).permute(0, 3, 1, 2).float() / 255
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (built.mean, built.std))
    with torch.inference_mode():
        expected = built.model.eval()((pixels - mean) / std).numpy()
    assert features.pooled == expected.shape[1] < features.values.shape[1]
    np.testing.assert_allclose(features.values[:5, : features.pooled], expected, atol=1e-4)
    assert len(features.values) == len(chosen)
    assert features.values.dtype == np.float32
    assert features.seconds > 0
    assert features.serve_ms > 0


def test_views_are_averaged_and_kept_by_themselves(embed, embedded, made) -> None:
    (one,), (both,) = embed(ONE).values(), embed(replace(ONE, views=(0, 4))).values()
    data = made()
    chosen = choose_images(data, most=10_000, several=False, seed=0)
    built = build_embedder(backbone=ONE.backbone, weights="none", seed=0)
    seen = torch.from_numpy(data.pack[chosen.images.indices[:5]]).permute(0, 3, 1, 2).flip(-1)
    preprocessing = Preprocessing.from_unit_scale(built.mean, built.std)
    with torch.inference_mode():
        mirrored = pooled_features(built.model.eval(), preprocessing.apply(seen)).numpy()
    np.testing.assert_allclose(both.values[:5], (one.values[:5] + mirrored) / 2, atol=1e-4)
    assert (len(embedded), both.pooled) == (2, one.pooled)
    assert str(replace(ONE, views=(0, 4))) == "test_efficientnet at 32 px in 2 views"
    embed(replace(ONE, views=(0, 4)))
    assert len(embedded) == 2


def test_parts_are_put_together_in_the_order_of_the_images(embed, embedded, monkeypatch) -> None:
    (whole,) = embed(ONE).values()
    monkeypatch.setattr(module, "PART", 40)
    monkeypatch.setattr(module, "FORMAT", -1)
    (parts,) = embed(ONE).values()
    assert [start for _, _, start in embedded] == [0, 0, 40, 80]
    np.testing.assert_allclose(parts.values, whole.values, atol=1e-4)


def test_each_candidate_sees_images_of_its_size(embed, embedded) -> None:
    found = embed(ONE, Candidate("test_resnet", 48))
    assert [one[:2] for one in embedded] == [("test_efficientnet", 32), ("test_resnet", 48)]
    assert [str(candidate) for candidate in found] == ["test_efficientnet at 32 px", "test_resnet at 48 px"]


def test_what_was_embedded_is_used_again(embed, embedded) -> None:
    (first,) = embed(ONE).values()
    again = embed(ONE, Candidate("test_resnet", 32))
    assert [one[0] for one in embedded] == ["test_efficientnet", "test_resnet"]
    np.testing.assert_array_equal(again[ONE].values, first.values)
    assert (again[ONE].pooled, again[ONE].serve_ms, again[ONE].mean) == (first.pooled, first.serve_ms, first.mean)


@pytest.mark.parametrize("change", ["seed", "images", "content", "timm"])
def test_features_of_something_else_are_not_used(embed, embedded, made, monkeypatch, change) -> None:
    embed(ONE)
    data = made()
    if change == "timm":
        monkeypatch.setattr(timm, "__version__", "0.0")
    if change == "content":
        data = replace(data, manifest=data.manifest.assign(sha256=data.manifest["sha256"].str.replace("0", "f")))
    embed(ONE, data=data, most=60 if change == "images" else 10_000, seed=int(change == "seed"))
    assert len(embedded) == 2


@pytest.mark.parametrize("kind", ["file", "package"])
def test_weights_from_a_file_go_by_its_content(tmp_path, monkeypatch, kind) -> None:
    path = tmp_path / "weights"
    monkeypatch.setattr(module, "packaged_weights", lambda backbone: SimpleNamespace(file=lambda: path))
    digests = set()
    for content in ("one", "another"):
        path.write_text(content)
        digests.add(module._weights("a backbone", f"file:{path}" if kind == "file" else kind))
    assert len(digests) == 2


def test_the_same_images_prepared_anew_are_not_embedded_again(context, embed, embedded, made) -> None:
    embed(ONE)
    record = replace(context.inputs["prepare"], result_id="made anew")
    record.write()
    context.inputs["prepare"] = record
    data = made()
    embed(ONE, data=replace(data, manifest=data.manifest.assign(fold=data.manifest["fold"].clip(upper=1))))
    assert len(embedded) == 1
    assert [path.name.partition("-")[0] for path in kept(context)] == ["made anew"]


def test_features_of_prepared_data_that_are_gone_are_removed(context, embed) -> None:
    embed(ONE)
    (before,) = kept(context)
    record = replace(context.inputs["prepare"], result_id="made anew")
    record.write()
    context.inputs["prepare"] = record
    embed(ONE, most=60)
    (after,) = kept(context)
    assert before != after
    assert after.name.startswith("made anew-")


def test_features_that_are_not_finite_are_a_fault_of_the_weights(context, embed, monkeypatch) -> None:
    monkeypatch.setattr(module, "predict", lambda *args, **options: np.full((96, 4), np.nan))
    with pytest.raises(InputError, match=r"model\.weights=none: test_efficientnet with these weights gives features"):
        embed(ONE)
    assert not kept(context)
