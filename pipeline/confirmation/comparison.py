"""From the trainings of a confirmation to its decision: both recipes on the same images, replicate by replicate."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from components.display import counted
from components.evaluation.expected_difference import Normal
from components.evaluation.objective_intervals import objective_interval
from pipeline.confirmation.trainings import LABELS, Replicate, Result
from pipeline.confirmation.verdict import Measured, Verdict, diverged, judge
from pipeline.sections.recipe import Recipe
from pipeline.training.build import recipe_objective
from pipeline.training.data import TrainingData
from pipeline.training.job import data_of

#: Resamples of the validation images.
SAMPLES = 1000


def decide(
    results: Sequence[Result], data: TrainingData, recipe: Recipe, prior: Normal, *, confidence: float, seed: int
) -> Verdict:
    """Compare the recipes, each training at its kept epoch.

    results: of both recipes with every replicate. prior: the difference as it was expected before.
    """
    winners, defaults = ([result for result in results if result.label == label] for label in LABELS)
    lost = [[result.replicate.words for result in some if result.failed] for some in (winners, defaults)]
    pairs = list(zip(winners, defaults, strict=True))
    differences = [a.score - b.score for a, b in pairs if a.score is not None and b.score is not None]
    if any(lost):
        return diverged(*lost, others=differences)
    independent = winners[0].replicate.fold is not None
    return judge(
        Measured(
            differences=differences,
            sampling=sampling_variance(pairs, data, recipe, confidence=confidence, seed=seed),
            independent=independent,
        ),
        prior,
        confidence=confidence,
        objective=recipe.recipe.objective,
        over=f"over {counted(len(pairs), 'fold')}"
        if independent
        else f"over {counted(len(pairs), 'seed')} (on validation images that the search has used, too)",
    )


def sampling_variance(
    pairs: Sequence[tuple[Result, Result]], data: TrainingData, recipe: Recipe, *, confidence: float, seed: int
) -> float | None:
    """Of the mean difference, over resamples of whole groups; None where too many resamples have no value.

    pairs: winner and defaults of each replicate. Those that were scored on the same images share their resamples.
    """
    by_fold: dict[int | None, list[tuple[Result, Result]]] = {}
    for pair in pairs:
        by_fold.setdefault(pair[0].replicate.fold, []).append(pair)
    total = 0.0
    for fold, some in by_fold.items():
        own = data_of(fold, data)
        rows = own.manifest[own.manifest["split"] == "val"]
        logits = [np.stack([pair[side].store.best().val_logits for pair in some]) for side in (0, 1)]
        sampled = objective_interval(
            recipe_objective(recipe),
            logits[0],
            own.split("val").labels,
            data.classes,
            data.good_classes,
            rows["group"].to_numpy(),
            reference=logits[1],
            confidence=confidence,
            samples=SAMPLES,
            seed=seed,
        )
        if sampled.variance is None or sampled.dropped >= SAMPLES / 2:
            return None
        total += sampled.variance * (len(some) / len(pairs)) ** 2
    return total


def held_out_rows(data: TrainingData, replicates: Sequence[Replicate]) -> list[pd.DataFrame]:
    """Rows of the manifest on which the replicates are scored, a table for each set of images."""
    folds = dict.fromkeys(replicate.fold for replicate in replicates)
    manifests = [data_of(fold, data).manifest for fold in folds]
    return [manifest[manifest["split"] == "val"] for manifest in manifests]


def scores_by_recipe(results: Sequence[Result]) -> Mapping[str, list[float | None]]:
    return {label: [result.score for result in results if result.label == label] for label in LABELS if results}
