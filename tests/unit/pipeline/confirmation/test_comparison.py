"""From trainings to a decision: on the same images, whole groups resampled, replicate by replicate."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from components.evaluation.expected_difference import Normal
from components.evaluation.scalars import auroc
from pipeline.confirmation import comparison
from pipeline.confirmation.comparison import decide, held_out_rows, sampling_variance
from pipeline.confirmation.trainings import Replicate, repeated_over_folds, repeated_over_seeds
from pipeline.sections.recipe import ModelConfig, Recipe, RecipeConfig
from pipeline.training.data import TrainingData

RECIPE = Recipe(model=ModelConfig(), recipe=RecipeConfig(objective="auroc"))
PRIOR = Normal(0.0, 0.05)
COUNT = 120


@pytest.fixture(autouse=True)
def few_samples(monkeypatch) -> None:
    monkeypatch.setattr(comparison, "SAMPLES", 100)


def data(*, folds: int) -> TrainingData:
    """Groups of two, good and defective in turn; all are val, or in folds."""
    label = np.where(np.arange(COUNT) % 4 < 2, "good", "dent")
    manifest = pd.DataFrame(
        {
            "split": "train" if folds else "val",
            "fold": np.arange(COUNT) // 4 % folds if folds else -1,
            "label": label,
            "is_defect": label == "dent",
            "pack_index": np.arange(COUNT),
            "group": [f"g{number // 2}" for number in range(COUNT)],
        }
    )
    return TrainingData(manifest, np.zeros((COUNT, 2, 2, 3), np.uint8), ("dent", "good"), ("good",))


def result(label: str, replicate: Replicate, images: TrainingData, *, signal: float, failed: bool = False):
    """A training whose defect scores are noise, the same for both recipes, and as much signal."""
    (rows,) = held_out_rows(images, [replicate])
    noise = np.random.default_rng(replicate.seed).normal(size=len(rows))
    defect = noise + signal * rows["is_defect"].to_numpy()
    logits = np.stack([defect, np.zeros(len(rows))], axis=1).astype(np.float32)
    score = None if failed else auroc(defect, rows["is_defect"].to_numpy())
    store = SimpleNamespace(best=lambda: SimpleNamespace(val_logits=logits))
    return SimpleNamespace(label=label, replicate=replicate, store=store, failed=failed, score=score)


def trained(replicates, images: TrainingData, *, winner: float, defaults: float):
    return [
        result(label, replicate, images, signal=signal)
        for replicate in replicates
        for label, signal in (("winner", winner), ("defaults", defaults))
    ]


def pairs(results):
    return list(zip(results[::2], results[1::2], strict=True))


def decided(results, images):
    return decide(results, images, RECIPE, PRIOR, confidence=0.9, seed=0)


@pytest.mark.parametrize("replicates", [repeated_over_folds(0, [1, 2]), repeated_over_seeds(0, 2)])
def test_the_better_recipe_is_kept_in_either_design(replicates) -> None:
    images = data(folds=3 if replicates[0].fold is not None else 0)
    assert decided(trained(replicates, images, winner=2.0, defaults=0.5), images).chosen == "winner"
    verdict = decided(trained(replicates, images, winner=0.5, defaults=2.0), images)
    assert verdict.chosen == "defaults"
    assert verdict.certain
    assert ("over 2 folds" if replicates[0].fold is not None else "over 2 seeds") in verdict.statement


def test_the_variances_of_folds_add_up_to_that_of_their_mean() -> None:
    images = data(folds=3)
    both = pairs(trained(repeated_over_folds(0, [1, 2]), images, winner=1.0, defaults=0.5))
    options = {"confidence": 0.9, "seed": 0}
    alone = [sampling_variance([pair], images, RECIPE, **options) for pair in both]
    assert sampling_variance(both, images, RECIPE, **options) == pytest.approx(sum(alone) / 4)


def test_recipes_that_score_alike_have_no_variance_of_their_difference() -> None:
    images = data(folds=0)
    same = pairs(trained(repeated_over_seeds(0, 2), images, winner=1.0, defaults=1.0))
    assert sampling_variance(same, images, RECIPE, confidence=0.9, seed=0) == pytest.approx(0.0, abs=1e-12)


def test_images_of_one_kind_have_none_and_the_search_decides() -> None:
    images = data(folds=0)
    alike = replace(images, manifest=images.manifest.assign(label="good", is_defect=False))
    results = trained(repeated_over_seeds(0, 1), alike, winner=1.0, defaults=1.0)
    assert sampling_variance(pairs(results), alike, RECIPE, confidence=0.9, seed=0) is None
    assert "so that the search's scores decide" in decided(results, alike).statement


def test_a_recipe_that_diverged_on_a_fold_is_named_with_it() -> None:
    images = data(folds=3)
    first, second = repeated_over_folds(0, [1, 2])
    results = [
        result("winner", first, images, signal=2.0),
        result("defaults", first, images, signal=0.5),
        result("winner", second, images, signal=2.0, failed=True),
        result("defaults", second, images, signal=0.5),
    ]
    assert "the winner diverged at full length with fold 2" in decided(results, images).statement
