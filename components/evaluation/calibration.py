"""From a network's logits to the defect score: its log-odds, with a scale and a bias fitted on the calibration split.

Platt 1999 (logistic regression on the score, with his smoothed targets). A temperature alone could not
undo what class weights do: they shift the logits, and only a bias shifts them back. The map is increasing,
so it changes no ranking.

What is ranked or held against a threshold is the log-odds, never the probability: 1 − 1e-17 is 1.0 in float64, so
images that the network tells apart with certainty would become ties.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import optimize, special

from components.errors import InputError

SMALLEST_SLOPE = 1e-2
"""Per standard deviation of the log-odds: a flatter fit says that they do not rank defectives higher."""


@dataclass(frozen=True)
class Calibration:
    """calibrated log-odds = scale · log-odds + bias; scale > 0. note: what was out of the ordinary."""

    scale: float
    bias: float
    note: str = ""

    def to_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> Calibration:
        return cls(float(record["scale"]), float(record["bias"]), str(record.get("note", "")))


def fit_calibration(log_odds: np.ndarray, is_defect: np.ndarray) -> Calibration:
    """Fit scale and bias by logistic regression.

    log_odds: (N,) float, finite; is_defect: (N,) bool. Without both classes the identity is returned, with a
    note. Where the log-odds rank no better than chance, or are all the same, the scale stays 1, the bias alone is
    fitted, and the note says so.
    """
    log_odds, is_defect = np.asarray(log_odds, dtype=np.float64), np.asarray(is_defect, dtype=bool)
    defects, goods = int(is_defect.sum()), int((~is_defect).sum())
    if defects == 0 or goods == 0:
        missing = "defective" if defects == 0 else "good"
        return Calibration(1.0, 0.0, f"not calibrated: no {missing} image among {is_defect.size}")
    # Platt's targets: without them, classes that separate perfectly would drive the scale to infinity.
    targets = np.where(is_defect, (defects + 1) / (defects + 2), 1 / (goods + 2))
    spread = float(log_odds.std())
    if np.ptp(log_odds) == 0 or not spread > 0:
        note = f"all {is_defect.size} scores are the same, so they tell nothing apart: bias only"
        return Calibration(1.0, _fit_bias(log_odds, float(targets.mean())), note)
    centre = float(log_odds.mean())
    slope, level = _fit_line((log_odds - centre) / spread, targets)
    if not slope > SMALLEST_SLOPE:
        note = f"fitted scale {slope / spread:.3g} is not positive: the scores do not rank defectives higher; bias only"
        return Calibration(1.0, _fit_bias(log_odds, float(targets.mean())), note)
    return Calibration(slope / spread, level - slope * centre / spread)


def calibrate_log_odds(log_odds: np.ndarray, cal: Calibration) -> np.ndarray:
    """(N,) float64 calibrated log-odds from (N,) log-odds, in the same order."""
    return cal.scale * np.asarray(log_odds, dtype=np.float64) + cal.bias


def defect_log_odds(logits: np.ndarray, classes: Sequence[str], good_labels: Sequence[str]) -> np.ndarray:
    """(N,) float64: log-odds of the classes that are not good against those that are. logits: (N, K).

    Finite where the logits are, however certain the network is. Infinite where one of the two sides has no class.
    Raises InputError for a good label that is no class.
    """
    unknown = sorted(set(good_labels) - set(classes))
    if unknown:
        raise InputError(f"data.good_labels={unknown}: no such class; the classes are {list(classes)}")
    is_good = np.array([name in good_labels for name in classes], dtype=bool)
    logits = np.asarray(logits, dtype=np.float64)
    # A sum of nothing has the logarithm −inf.
    defect, good = (np.logaddexp.reduce(logits[:, side], axis=1, initial=-np.inf) for side in (~is_good, is_good))
    return defect - good


def calibrated_probabilities(logits: np.ndarray, is_good_mask: np.ndarray, cal: Calibration) -> np.ndarray:
    """(N, K) float64 class probabilities whose defect mass is the calibrated defect score.

    logits: (N, K), finite; is_good_mask: (K,) bool. The ratios within the good classes and within the defect classes
    stay as they are. Without a good or without a defect class these are the probabilities of the logits.
    """
    logits, good = np.asarray(logits, dtype=np.float64), np.asarray(is_good_mask, dtype=bool)
    if good.all() or not good.any():
        return special.softmax(logits, axis=1)
    names = np.where(good, "good", "defect")
    log_odds = calibrate_log_odds(defect_log_odds(logits, list(names), ["good"]), cal)
    result = np.empty_like(logits)
    result[:, ~good] = special.softmax(logits[:, ~good], axis=1) * special.expit(log_odds)[:, None]
    result[:, good] = special.softmax(logits[:, good], axis=1) * special.expit(-log_odds)[:, None]
    return result


def _fit_line(values: np.ndarray, targets: np.ndarray) -> tuple[float, float]:
    """Slope and level of an unregularised logistic regression on soft targets; values: (N,), centred and of spread 1.

    The loss is convex, and its least value is at a finite place, as no target is 0 or 1.
    """
    design = np.stack([values, np.ones_like(values)], axis=1)

    def loss(weights: np.ndarray) -> float:
        line = design @ weights
        return float((np.logaddexp(0, line) - targets * line).mean())

    def gradient(weights: np.ndarray) -> np.ndarray:
        return design.T @ (special.expit(design @ weights) - targets) / len(targets)

    def curvature(weights: np.ndarray) -> np.ndarray:
        chance = special.expit(design @ weights)
        return (design * (chance * (1 - chance))[:, None]).T @ design / len(targets)

    start = np.array([0.0, special.logit(targets.mean())])
    found = optimize.minimize(loss, start, jac=gradient, hess=curvature, method="trust-exact", options={"gtol": 1e-9})
    return float(found.x[0]), float(found.x[1])


def _fit_bias(log_odds: np.ndarray, mean_target: float) -> float:
    """The bias at which the mean calibrated score is the mean target (the likelihood's stationary point)."""
    low, high = special.logit(mean_target) - log_odds.max(), special.logit(mean_target) - log_odds.min()
    for _ in range(80):
        middle = (low + high) / 2
        if special.expit(log_odds + middle).mean() < mean_target:
            low = middle
        else:
            high = middle
    return float((low + high) / 2)
