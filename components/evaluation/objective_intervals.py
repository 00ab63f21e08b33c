"""The uncertainty of an objective, or of its difference between two models on the same images.

Efron's percentile bootstrap over whole groups. Both models of a difference are scored on the same resamples, so that
the difficulty of the images cancels.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from components.evaluation.intervals import bootstrap_values, percentile_interval
from components.evaluation.objectives import Objective, score_of_images


@dataclass(frozen=True, kw_only=True)
class ObjectiveInterval:
    """An objective, or a difference of two, with its two-sided limits.

    value: on all images; None where it is not defined, like the others then. low, high: also None where all resamples
    are equal (as for a perfect score) or too many have no value. variance: over the resamples with a value, without the
    spread between seeds; None with fewer than two. samples, dropped: numbers of resamples, and of those without value.
    """

    value: float | None
    low: float | None
    high: float | None
    variance: float | None
    units: int
    confidence: float
    samples: int
    dropped: int

    def to_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self)


def objective_interval(
    objective: Objective,
    logits: np.ndarray,
    labels: np.ndarray,
    classes: Sequence[str],
    good_classes: Sequence[str],
    groups: np.ndarray,
    *,
    reference: np.ndarray | None = None,
    confidence: float,
    samples: int,
    seed: int,
) -> ObjectiveInterval:
    """One model's objective, the mean of several models' (one recipe over its seeds), or its difference to another.

    logits: (N, K), or (S, N, K) for S models on the same images. labels: (N,) int positions in `classes`.
    groups: (N,) part ids. reference: logits of the models whose objective is subtracted, as many seeds as they have.
    confidence: in (0, 1). samples: number of resamples, which depend on the seed. The limits do not contain the spread
    between seeds: with few of them, add it to the variance.
    """
    mean = _mean_score(objective, logits, labels, classes, good_classes)
    if reference is None:
        return _resampled(mean, groups, confidence=confidence, samples=samples, seed=seed)
    other = _mean_score(objective, reference, labels, classes, good_classes)
    return _resampled(
        lambda index: mean(index) - other(index), groups, confidence=confidence, samples=samples, seed=seed
    )


def _mean_score(
    objective: Objective,
    logits: np.ndarray,
    labels: np.ndarray,
    classes: Sequence[str],
    good_classes: Sequence[str],
) -> Callable[[np.ndarray], float]:
    """The mean objective over the models, as a function of the positions of the images."""
    models = np.asarray(logits, dtype=np.float64)
    scores = [
        score_of_images(objective, model, labels, classes=classes, good_classes=good_classes)
        for model in (models if models.ndim == 3 else models[None])
    ]
    return lambda index: sum(score(index) for score in scores) / len(scores)


def _resampled(
    statistic: Callable[[np.ndarray], float], groups: np.ndarray, *, confidence: float, samples: int, seed: int
) -> ObjectiveInterval:
    units = len(np.unique(groups))
    value = statistic(np.arange(len(groups)))
    values = np.full(samples, math.nan)
    if not math.isnan(value):
        values = bootstrap_values(statistic, groups, samples=samples, seed=seed)[:, 0]
    limits = percentile_interval(values, confidence=confidence)
    kept = values[~np.isnan(values)]
    return ObjectiveInterval(
        value=None if math.isnan(value) else value,
        low=limits.low,
        high=limits.high,
        variance=float(kept.var(ddof=1)) * units / (units - 1) if kept.size > 1 and units > 1 else None,
        units=units,
        confidence=confidence,
        samples=samples,
        dropped=limits.dropped,
    )
