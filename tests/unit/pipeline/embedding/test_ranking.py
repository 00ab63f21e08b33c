"""How candidates compare, and which backbones go on."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from components.errors import InputError
from components.evaluation.linear_probe import LinearClassifier
from components.evaluation.objectives import Objective
from pipeline.embedding.classifier import Judged
from pipeline.embedding.features import Candidate, Features
from pipeline.embedding.images import choose_images
from pipeline.embedding.ranking import Ranked, best_first, keep_best, rank

AUROC = Objective(name="auroc", escape_budget=None, escape_cost=1.0, defect_rate=None)


def ranked(backbone: str, size: int, score: float, *, low: float | None = 0.5) -> Ranked:
    return Ranked(
        backbone=backbone, image_size=size, score=score, low=low, high=None if low is None else score + 0.02,
        separation=score, separation_low=low, separation_high=None, chance=0.5, images_per_second=1.0, seconds=1.0,
        serve_ms=1.0, epoch_seconds=1.0, penalties=(),
    )  # fmt: skip


def scored(data: Any, *, apart: float, objective: Objective = AUROC) -> Ranked:
    chosen = choose_images(data, most=10_000, several=False, seed=0)
    second = apart * chosen.images.labels + np.random.default_rng(0).normal(size=len(chosen))
    logits = np.stack([-second, second], axis=1)
    logits[~chosen.compared] = np.nan
    features = Features(
        values=np.zeros((len(chosen), 2), np.float32), pooled=1, mean=(0.5,), std=(0.5,), seconds=2.0, serve_ms=3.456
    )
    judged = Judged(logits=logits, doubts=logits, classifier=LinearClassifier(np.zeros(1), np.zeros(1)), penalties=())
    return rank(Candidate("a", 32), features, judged, chosen, data, objective, samples=50, seed=0)


@pytest.mark.parametrize("folds", [4, 0])
def test_a_candidate_has_a_score_an_interval_and_its_cost(made, folds: int) -> None:
    data = made(folds=folds)
    found = scored(data, apart=2.0)
    assert found.low is not None
    assert found.high is not None
    assert 0.6 < found.low < found.score < found.high <= 1
    assert (found.separation, found.separation_low) == (found.score, found.low)
    images = int((data.manifest["split"] != "test").sum())
    assert found.images_per_second == round(images / 2.0, 1)
    assert found.epoch_seconds == 6.0  # three passes over the images that took 2 s to embed
    assert found.serve_ms == 3.46
    assert not found.finds_nothing


def test_images_of_one_kind_compare_nothing(made) -> None:
    data = made()
    of_one = replace(data, manifest=data.manifest[data.manifest["label"] == "good"])
    with pytest.raises(InputError, match=r"embed\.max_images: the 48 images .* are of one kind only"):
        scored(of_one, apart=1.0)


def test_chance_within_the_interval_means_that_nothing_was_found(made) -> None:
    assert scored(made(), apart=0.0).finds_nothing


def test_without_a_good_class_balanced_accuracy_tells_learning_from_chance(made) -> None:
    objective = Objective(name="balanced_accuracy", escape_budget=None, escape_cost=1.0, defect_rate=None)
    found = scored(replace(made(), good_classes=()), apart=2.0, objective=objective)
    assert (found.chance, found.separation) == (0.5, found.score)


def test_the_best_stands_first_and_of_equals_the_smaller() -> None:
    order = best_first([ranked("a", 224, 0.8), ranked("b", 128, 0.8), ranked("c", 128, 0.9), ranked("d", 128, 0.8)])
    assert [one.backbone for one in order] == ["c", "b", "d", "a"]


def test_a_backbone_counts_at_the_size_of_trainings() -> None:
    found = [ranked("a", 128, 0.7), ranked("a", 224, 0.95), ranked("b", 128, 0.8), ranked("b", 224, 0.8)]
    assert keep_best(found, keep=1, configured="b", size=128) == {
        "b": (True, "the best"), "a": (False, "not the best")
    }  # fmt: skip
    assert keep_best(found, keep=1, configured="b", size=256) == {
        "a": (True, "the best"), "b": (True, "the configured one; not the best")
    }  # fmt: skip
