"""The probe of frozen backbones: what it scores, what it keeps for the next time, and which backbones stay."""

import json
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from components.errors import InputError
from pipeline.config import ComputeConfig
from pipeline.console import Console
from pipeline.range_test import backbone_probe
from pipeline.range_test.backbone_probe import ProbedBackbone, keep_best, probe_backbones
from pipeline.sections.learning_rate import RangeTestConfig
from pipeline.sections.recipe import ModelConfig, Recipe, RecipeConfig
from pipeline.stage import StageRecord
from pipeline.training.build import TrainingData

BACKBONES = ("test_efficientnet", "test_resnet")


def data(*, per_split: int = 60, size: int = 32) -> TrainingData:
    """Good images are dark and defective ones bright; three images of each part."""
    defect = np.arange(2 * per_split) // 3 % 2 == 1
    noise = np.random.default_rng(0).integers(0, 60, (len(defect), size, size, 3))
    pixels = (noise + 150 * defect[:, None, None, None]).astype(np.uint8)
    manifest = pd.DataFrame(
        {
            "label": np.where(defect, "bad", "good"),
            "is_defect": defect,
            "group": [f"part-{number // 3}" for number in range(len(defect))],
            "split": np.repeat(["train", "val"], per_split),
            "pack_index": np.arange(len(defect)),
        }
    )
    return TrainingData(manifest, pixels, ("bad", "good"), ("good",))  # type: ignore[arg-type]


@dataclass(frozen=True)
class Here:
    """This process as the place of work."""

    images: TrainingData = field(default_factory=data)
    compute: ComputeConfig = field(default_factory=lambda: ComputeConfig(device="cpu"))
    share: None = None

    def open(self) -> TrainingData:
        return self.images


@pytest.fixture
def context(tmp_path) -> SimpleNamespace:
    values = dict.fromkeys(("stage", "fingerprint", "run_id", "commit"), "")
    folder = tmp_path / "prepare" / "one"
    folder.mkdir(parents=True)
    record = StageRecord(
        **values, version=1, result_id="result", inputs={}, sections={}, headline={}, artifacts={}, seconds=0.0,
        versions={}, directory=folder,
    )  # fmt: skip
    record.write()
    return SimpleNamespace(storage=tmp_path, inputs={"prepare": record}, console=Console(quiet=True))


@pytest.fixture
def embedded(monkeypatch) -> list[str]:
    """The backbones that have embedded the sample, as it happens."""
    made: list[str] = []
    embed = backbone_probe._embed

    def noting(train, held_out, probe):
        made.append(probe.recipe.model.backbone)
        return embed(train, held_out, probe)

    monkeypatch.setattr(backbone_probe, "_embed", noting)
    return made


def probe(
    context: Any, *, backbones=BACKBONES, place: Here | None = None, seed: int = 0, **changes: Any
) -> list[ProbedBackbone]:
    model = ModelConfig(backbone=backbones[0], weights="none")
    recipe = RecipeConfig(**{"objective": "auroc", **changes.pop("recipe", {})})
    settings = RangeTestConfig(bootstrap_samples=50, **changes)
    configured = Recipe(model=model, recipe=recipe)
    return probe_backbones(context, backbones, configured, settings, place or Here(), seed=seed)  # type: ignore[arg-type]


def kept(context: Any) -> set[Path]:
    return set((context.storage / "features").glob("*"))


def test_each_backbone_is_scored_on_validation_by_the_recipes_objective(context) -> None:
    found = probe(context)
    assert [one.backbone for one in found] == list(BACKBONES)
    for one in found:
        assert one.score > 0.95  # dark against bright
        assert one.seconds > 0
        assert one.images_per_second > 0


def test_the_interval_is_that_of_parts(context) -> None:
    """Half of the validation labels swapped, part by part: a score in the middle, of twenty parts."""
    images = data()
    swapped = (images.manifest["split"] == "val") & (np.arange(120) // 6 % 2 == 1)
    labels = images.manifest["label"].where(~swapped, images.manifest["label"].map({"good": "bad", "bad": "good"}))
    manifest = images.manifest.assign(label=labels, is_defect=labels == "bad")
    (one,) = probe(context, backbones=BACKBONES[:1], place=Here(replace(images, manifest=manifest)))
    assert one.low is not None
    assert one.high is not None
    assert one.low < one.score < one.high
    assert one.high - one.low > 0.3  # of sixty parts it would be half as much


def test_what_a_backbone_made_of_the_sample_is_used_again(context, embedded) -> None:
    first = probe(context)
    again = probe(context, backbones=(*BACKBONES, "test_convnext"))
    assert embedded == [*BACKBONES, "test_convnext"]
    scores = [(one.score, one.low, one.high, one.images_per_second) for one in first]
    assert [(one.score, one.low, one.high, one.images_per_second) for one in again[:2]] == scores


@pytest.mark.parametrize(
    "change", [{"seed": 1}, {"probe_images": 50}, {"recipe": {"image_size": 32}}, {"result": "made anew"}]
)
def test_features_of_something_else_are_not_used(context, embedded, change) -> None:
    probe(context, backbones=BACKBONES[:1])
    if "result" in change:
        context.inputs["prepare"] = replace(context.inputs["prepare"], result_id=change.pop("result"))
    probe(context, backbones=BACKBONES[:1], **change)
    assert len(embedded) == 2


@pytest.mark.parametrize("change", [{"objective": "average_precision"}, {"class_weights": "none"}])
def test_another_objective_needs_no_other_features(context, embedded, change) -> None:
    probe(context, backbones=BACKBONES[:1])
    probe(context, backbones=BACKBONES[:1], recipe=change)
    assert len(embedded) == 1


def test_features_of_prepared_data_that_are_gone_are_removed(context) -> None:
    probe(context, backbones=BACKBONES[:1])
    (before,) = kept(context)
    record = replace(context.inputs["prepare"], result_id="made anew")
    record.write()
    context.inputs["prepare"] = record
    probe(context, backbones=BACKBONES[:1])
    (after,) = kept(context)
    assert before != after
    assert after.name.startswith("made anew-")


def test_the_sample_has_so_many_images_at_most(context, monkeypatch) -> None:
    seen = []
    embed = backbone_probe._embed
    monkeypatch.setattr(
        backbone_probe, "_embed", lambda train, val, one: seen.append((len(train), len(val))) or embed(train, val, one)
    )
    probe(context, backbones=BACKBONES[:1], probe_images=50, place=Here(data(per_split=240)))
    assert seen == [(50, 100)]


def test_features_that_are_not_finite_are_a_fault_of_the_weights(context, monkeypatch) -> None:
    monkeypatch.setattr(backbone_probe, "predict", lambda *args, **options: np.full((60, 4), np.nan))
    with pytest.raises(InputError, match=r"model\.weights=none: test_efficientnet with these weights gives features"):
        probe(context)
    assert not kept(context)


def test_the_verdicts_come_best_first_and_as_json() -> None:
    def scored(backbone: str, score: float) -> ProbedBackbone:
        return ProbedBackbone(
            backbone=backbone, score=score, low=score - 0.02, high=score + 0.02, seconds=1.0,
            images_per_second=50.0,
        )  # fmt: skip

    verdicts = keep_best([scored("a", 0.5), scored("b", 0.9), scored("c", 0.89)], keep=1, configured="a")
    assert [(verdict.backbone, verdict.kept) for verdict in verdicts] == [("b", True), ("c", False), ("a", True)]
    assert json.loads(json.dumps(asdict(verdicts[0]))) == {
        "backbone": "b", "score": 0.9, "low": 0.88, "high": 0.92, "seconds": 1.0,
        "images_per_second": 50.0, "kept": True, "reason": "the best",
    }  # fmt: skip
