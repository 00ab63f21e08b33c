"""How a model is put together from networks, views and the classifier on frozen features.

All is chosen on images that the network had not seen: how many views to average, and whether the classifier on frozen
features helps.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from components.evaluation.blending import fit_blend
from components.evaluation.objective_intervals import objective_interval
from components.evaluation.objectives import Objective, objective_score
from pipeline.config import ServingConfig

#: Resamples behind the noise of a difference between numbers of views.
SAMPLES = 200
#: Parts over which a blend is cross-fitted where the images have no folds.
PARTS = 3


@dataclass(frozen=True, kw_only=True)
class Unseen:
    """N images, scored by a network that had not seen them.

    rows: (N,) of the manifest, in its order. labels: (N,) int. views: (V, N, K) log-probabilities, one view each, the
    unturned one first. frozen: (N, K) log-probabilities of the classifier on frozen features, NaN where it has none.
    """

    rows: pd.DataFrame
    labels: np.ndarray
    views: np.ndarray
    frozen: np.ndarray

    @property
    def folds(self) -> np.ndarray:
        """(N,) int: of the manifest where there are several, or else parts by group."""
        folds = self.rows["fold"].to_numpy()
        if len(np.unique(folds)) > 1:
            return np.asarray(folds)
        return np.asarray(pd.factorize(self.rows["group"], sort=True)[0] % PARTS)


@dataclass(frozen=True, kw_only=True)
class Assembly:
    """views: how many are averaged. network, frozen: the weights of the networks together, and of the classifier on
    frozen features. logits: (N, K) of the images that this was chosen on, with weights fitted on the other folds.
    record: what it was chosen by, JSON-ready.
    """

    views: int
    network: float
    frozen: float
    logits: np.ndarray
    record: dict[str, Any]

    def combine(self, views: np.ndarray, frozen: np.ndarray) -> np.ndarray:
        """(M, K) logits of other images. views: (V, M, K) of a network; frozen: (M, K); log-probabilities."""
        networks = self.network * views[: self.views].mean(axis=0, dtype=np.float64)
        return np.asarray(networks + self.frozen * frozen if self.frozen else networks)


@dataclass(frozen=True, kw_only=True)
class Judge:
    """What is compared, and on which classes."""

    objective: Objective
    classes: tuple[str, ...]
    good_classes: tuple[str, ...]
    seed: int

    def score(self, logits: np.ndarray, unseen: Unseen) -> float:
        return objective_score(
            self.objective, logits, unseen.labels, classes=self.classes, good_classes=self.good_classes
        )

    def noise(self, one: np.ndarray, other: np.ndarray, unseen: Unseen) -> float:
        """The standard error of the difference of two models on the same images, over resampled groups."""
        found = objective_interval(
            self.objective,
            one,
            unseen.labels,
            self.classes,
            self.good_classes,
            unseen.rows["group"].to_numpy(),
            reference=other,
            confidence=0.95,
            samples=SAMPLES,
            seed=self.seed,
        )
        return math.sqrt(found.variance) if found.variance is not None else 0.0


def assemble(unseen: Unseen, judge: Judge, counts: Sequence[int], settings: ServingConfig) -> Assembly:
    """Choose the views and the blend. counts: numbers of views that may be averaged, rising."""
    means = {count: unseen.views[:count].mean(axis=0, dtype=np.float64) for count in counts}
    views, compared = _choose_views(means, unseen, judge)
    alone = means[views]
    record: dict[str, Any] = {"views": views, "compared_views": compared, "score": judge.score(alone, unseen)}
    if settings.blend == "never" or not np.isfinite(unseen.frozen).all():
        return Assembly(views=views, network=1.0, frozen=0.0, logits=alone, record=record | {"blend": None})
    blend = fit_blend(
        np.stack([alone, unseen.frozen]), unseen.labels, unseen.folds, groups=unseen.rows["group"].to_numpy()
    )
    blended = judge.score(blend.blended, unseen)
    network, frozen = (float(weight) for weight in blend.weights)
    taken = frozen > 0 and blend.gain > blend.gain_error and blended >= record["score"]
    record["blend"] = {
        "taken": taken,
        "weights": [network, frozen],
        "score": blended,
        "score_of_frozen": judge.score(unseen.frozen, unseen),
        "log_loss_gain": blend.gain,
        "standard_error": blend.gain_error if math.isfinite(blend.gain_error) else None,
    }
    if not taken:
        return Assembly(views=views, network=1.0, frozen=0.0, logits=alone, record=record)
    return Assembly(views=views, network=network, frozen=frozen, logits=blend.blended, record=record)


def _choose_views(
    means: dict[int, np.ndarray], unseen: Unseen, judge: Judge
) -> tuple[int, list[dict[str, float | int]]]:
    """The fewest whose score is within a standard error of the best; and the comparison."""
    scores = {count: judge.score(mean, unseen) for count, mean in means.items()}
    best = max(scores, key=lambda count: (scores[count], -count))
    noise = {count: 0.0 if count == best else judge.noise(means[best], means[count], unseen) for count in means}
    table: list[dict[str, float | int]] = [
        {"views": count, "score": scores[count], "noise": noise[count]} for count in means
    ]
    return next(count for count in means if scores[best] - scores[count] <= noise[count]), table
