"""How a model is put together: views, networks, and the classifier on frozen features.

All is chosen on images that the networks had not seen, and within the latency limit.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import log_softmax

from components.display import counted
from components.evaluation.blending import fit_blend
from components.evaluation.intervals import bootstrap_values
from components.evaluation.objectives import Objective, score_of_images
from components.serving.latency import Candidate, choose_delivery

#: Resamples of the images, by which the noise of a score is known.
SAMPLES = 200
#: Parts over which a blend is cross-fitted where the images have no folds.
PARTS = 3


#: Of the weight that the classifier on frozen features has to get, so as to be worth a pass more.
LEAST_SHARE = 0.1


@dataclass(frozen=True, kw_only=True)
class Unseen:
    """N images, scored by a network that had not seen them.

    rows: (N,) of the manifest, in its order. labels: (N,) int. views: (V, N, K) log-probabilities, one view each, in
    the order of `nested_views`. frozen: (N, K) log-probabilities of the classifier on frozen features, NaN where it has
    none.
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

    def mean(self, views: int) -> np.ndarray:
        """(N, K) float64 over the first so many views."""
        return np.asarray(self.views[:views].mean(axis=0, dtype=np.float64))


@dataclass(frozen=True, kw_only=True)
class Scorer:
    """What models are compared by, and on which classes."""

    objective: Objective
    classes: tuple[str, ...]
    good_classes: tuple[str, ...]
    seed: int

    def score(self, logits: np.ndarray, unseen: Unseen) -> float:
        return float(self._statistic(logits, unseen)(np.arange(len(logits))))

    def measured(self, logits: np.ndarray, unseen: Unseen) -> tuple[np.ndarray, np.ndarray]:
        """(2,) the score and the mean log-likelihood, and (SAMPLES, 2) both on resamples of whole groups, which are the
        same for every model."""
        score = self._statistic(logits, unseen)
        likelihood = log_softmax(logits, axis=1)[np.arange(len(logits)), unseen.labels]

        def both(index: np.ndarray) -> np.ndarray:
            return np.array([score(index), likelihood[index].mean()])

        groups = unseen.rows["group"].to_numpy()
        values = bootstrap_values(both, groups, samples=SAMPLES, seed=self.seed)
        return both(np.arange(len(logits))), np.nan_to_num(values)

    def _statistic(self, logits: np.ndarray, unseen: Unseen) -> Any:  # noqa: ANN401 - a function of positions
        return score_of_images(
            self.objective, logits, unseen.labels, classes=self.classes, good_classes=self.good_classes
        )


@dataclass(frozen=True, kw_only=True)
class Assembly:
    """views: how many are averaged. network, frozen: the weights of the networks together, and of the classifier on
    frozen features. logits: (N, K) of the images that this was chosen on, blended by weights that were fitted on other
    folds. record: what it was chosen by, JSON-ready.
    """

    views: int
    network: float
    frozen: float
    logits: np.ndarray
    record: dict[str, Any]

    def combine(self, views: np.ndarray, frozen: np.ndarray) -> np.ndarray:
        """(M, K) logits of other images. views: (V, M, K), frozen: (M, K), as in `Unseen`."""
        networks = self.network * views[: self.views].mean(axis=0, dtype=np.float64)
        return np.asarray(networks + self.frozen * frozen if self.frozen else networks)


def choose_views(
    unseen: Unseen, scorer: Scorer, latency_ms: Mapping[int, float], *, limit_ms: float | None
) -> tuple[int, list[dict[str, float]]]:
    """The fewest views that lose nothing beyond noise, within the limit; and what each number is worth and costs.

    They are compared by the log loss, too, which notices what a score from ranks does not on few images. latency_ms: by
    number of views. Raises InputError: no number is within the limit.
    """
    candidates = {}
    for count, latency in latency_ms.items():
        scores, resampled = scorer.measured(unseen.mean(count), unseen)
        name = counted(count, "view")
        candidates[count] = Candidate(name=name, passes=count, scores=scores, resampled=resampled, latency_ms=latency)
    chosen = choose_delivery(list(candidates.values()), limit_ms=limit_ms)
    table = [
        {"views": count, "score": one.scores[0], "log_loss": -one.scores[1], "latency_ms": one.latency_ms}
        for count, one in candidates.items()
    ]
    return next(count for count, one in candidates.items() if one is chosen), table


def assemble(unseen: Unseen, scorer: Scorer, *, views: int, may_blend: bool) -> Assembly:
    """Decide whether the classifier on frozen features joins: where it has a tenth of the weight, unless, out of fold,
    that raises the log loss beyond its noise.

    The doubt is in its favour: it errs in other ways. Joined to five networks of 3 epochs it raised the AUROC on the
    test by .010, to four of 6 by .003, to three of 8 by .001 (ELPV). Scores of the few images of one fold would leave
    it out by chance."""
    alone = unseen.mean(views)
    record: dict[str, Any] = {"views": views, "score": scorer.score(alone, unseen), "blend": None}
    plain = Assembly(views=views, network=1.0, frozen=0.0, logits=alone, record=record)
    if not may_blend or len(np.unique(unseen.folds)) < 2:
        return plain
    lacking = int((~np.isfinite(unseen.frozen).all(axis=1)).sum())
    if lacking:
        record["blend"] = {
            "taken": False,
            "reason": f"it has no score of {lacking:,} of the {len(unseen.frozen):,} images on which this is decided; "
            "raise embed.max_images",
        }
        return plain
    blend = fit_blend(
        np.stack([alone, unseen.frozen]), unseen.labels, unseen.folds, groups=unseen.rows["group"].to_numpy()
    )
    network, frozen = (float(weight) for weight in blend.weights)
    score = scorer.score(blend.blended, unseen)
    taken = frozen >= LEAST_SHARE * (network + frozen) and blend.gain > -blend.gain_error
    record["blend"] = {
        "taken": taken,
        "weights": [network, frozen],
        "score": score,
        "score_of_frozen": scorer.score(unseen.frozen, unseen),
        "log_loss_gain": blend.gain,
        "standard_error": blend.gain_error if math.isfinite(blend.gain_error) else None,
    }
    if not taken:
        return plain
    return Assembly(views=views, network=network, frozen=frozen, logits=blend.blended, record=record)
