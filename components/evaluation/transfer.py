"""Takes a threshold over from the models of the folds to one model that was trained on all images.

Two things can go wrong. The delivered model may be surer of itself: a model that was trained on more images, or for
more steps, gives larger log-odds of both signs, so that more defectives lie below the same threshold. In
`benchmarks/operating_point.py` 12 % of the certified budgets were broken so after short trainings, at a confidence of
95 %. So the threshold is carried over in the units of the scores that both kinds of model give to images that they were
trained on. And thresholds may differ between models of one kind: `transfer_check` applies those of the other folds to
each fold.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from components.evaluation.decision import is_rejected
from components.evaluation.intervals import upper_bound
from components.evaluation.thresholds import allowed_misses, budget_threshold, unit_scores


@dataclass(frozen=True)
class SeenScores:
    """Log-odds (or logits, as the function says) that models give to images that they were trained on.

    folds: (A,) by the models of the folds, pooled; delivered: (B,) by the delivered model, of the same images. Some
    hundreds of images are enough.
    """

    folds: np.ndarray
    delivered: np.ndarray


@dataclass(frozen=True)
class TransferCheck:
    """Thresholds chosen without a fold, applied to that fold: how many of its units escaped, summed over the folds."""

    escapes: int
    units: int
    upper_bound: float

    def keeps(self, budget: float) -> bool:
        """Whether the share that escaped is within the budget: another model may then take a threshold over."""
        return self.escapes <= budget * self.units


def carried_over(threshold: float, seen: SeenScores) -> float:
    """The threshold as far from the mean of the delivered model's log-odds, in their standard deviations, as it is for
    the models of the folds; never above the threshold itself."""
    spread = float(np.std(seen.folds))
    if not spread > 0:
        return threshold
    distance = (threshold - float(np.mean(seen.folds))) / spread
    return min(threshold, float(np.mean(seen.delivered)) + distance * float(np.std(seen.delivered)))


def transfer_check(
    log_odds: np.ndarray,
    is_defect: np.ndarray,
    groups: np.ndarray,
    folds: np.ndarray,
    *,
    budget: float,
    confidence: float,
) -> TransferCheck | None:
    """Choose a threshold on all folds but one, apply it to that one, and count the units that escape over all folds.

    Where the other folds are too few to certify the budget, their threshold allows no miss.

    log_odds: (N,) out of fold; is_defect: (N,) bool; groups: (N,) part ids, none in two folds; folds: (N,) int. None
    with fewer than two folds that hold defectives.
    """
    scores, is_defect = np.asarray(log_odds, dtype=np.float64), np.asarray(is_defect, dtype=bool)
    numbers = np.unique(folds[is_defect])
    if numbers.size < 2:
        return None
    escapes = total = 0
    for number in numbers:
        others = folds != number
        left_out = unit_scores(scores[~others], is_defect[~others], groups[~others])
        units = unit_scores(scores[others], is_defect[others], groups[others])
        allowed = allowed_misses(units.size, budget, confidence=confidence) or 0
        threshold = budget_threshold(scores[others], is_defect[others], units, budget, allowed)
        escapes += int((~is_rejected(left_out, threshold)).sum())
        total += left_out.size
    return TransferCheck(escapes, total, upper_bound(escapes, total, confidence=confidence))
