"""From a network's scores to probabilities: a scale and a bias on the logit, fitted on the calibration split.

Platt 1999 (logistic regression on the score, with his smoothed targets). A temperature alone could not
undo what class weights do: they shift the logits, and only a bias shifts them back. The map is increasing,
so it changes no ranking.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import special
from sklearn.linear_model import LogisticRegression

from components.errors import InputError

SCORE_CLIP = 1e-7
"""Scores are kept this far from 0 and 1: float32 softmax saturates there, and a logit has to stay finite."""

SMALLEST_SCALE = 1e-2
"""A flatter fit carries no information, and would press the scores of float32 arithmetic into ties."""


@dataclass(frozen=True)
class Calibration:
    """calibrated = sigmoid(scale · logit(score) + bias); scale > 0. note: what was out of the ordinary."""

    scale: float
    bias: float
    note: str = ""

    def to_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> Calibration:
        return cls(float(record["scale"]), float(record["bias"]), str(record.get("note", "")))


def fit_calibration(scores: np.ndarray, is_defect: np.ndarray) -> Calibration:
    """Fit scale and bias by logistic regression on the logit of the score.

    scores: (N,) float in [0, 1]; is_defect: (N,) bool. Without both classes the identity is returned, with a
    note. When the fitted scale is not positive (the scores rank no better than chance) the scale stays 1, the
    bias alone is fitted, and the note says so.
    """
    is_defect = np.asarray(is_defect, dtype=bool)
    defects, goods = int(is_defect.sum()), int((~is_defect).sum())
    if defects == 0 or goods == 0:
        missing = "defective" if defects == 0 else "good"
        return Calibration(1.0, 0.0, f"not calibrated: no {missing} image among {is_defect.size}")
    logits = _logit(scores)
    # Platt's targets: without them, classes that separate perfectly would drive the scale to infinity.
    targets = np.where(is_defect, (defects + 1) / (defects + 2), 1 / (goods + 2))
    scale, bias, note = *_fit_line(logits, targets), ""
    if not scale > SMALLEST_SCALE:
        note = f"fitted scale {scale:.3g} is not positive: the scores do not rank defectives higher; bias only"
        scale, bias = 1.0, _fit_bias(logits, float(targets.mean()))
    return Calibration(float(scale), float(bias), note)


def apply_calibration(scores: np.ndarray, cal: Calibration) -> np.ndarray:
    """(N,) float64 calibrated scores in (0, 1) from (N,) scores in [0, 1]."""
    return special.expit(cal.scale * _logit(scores) + cal.bias)


def defect_scores(probabilities: np.ndarray, classes: Sequence[str], good_labels: Sequence[str]) -> np.ndarray:
    """(N,) float64: the probability mass of the classes that are not good. probabilities: (N, K).

    Raises InputError for a good label that is no class.
    """
    unknown = sorted(set(good_labels) - set(classes))
    if unknown:
        raise InputError(f"data.good_labels={unknown}: no such class; the classes are {list(classes)}")
    is_defect_class = np.array([name not in good_labels for name in classes], dtype=bool)
    return np.asarray(probabilities, dtype=np.float64)[:, is_defect_class].sum(axis=1).clip(0.0, 1.0)


def calibrate_probabilities(probabilities: np.ndarray, is_good_mask: np.ndarray, cal: Calibration) -> np.ndarray:
    """(N, K) float64 class probabilities whose defect mass is the calibrated defect score.

    probabilities: (N, K), rows sum to 1; is_good_mask: (K,) bool. The ratios within the good classes and
    within the defect classes stay as they are; a group of mass 0 gets its new mass in equal parts.
    Without a good or without a defect class the probabilities come back unchanged.
    """
    probabilities = np.asarray(probabilities, dtype=np.float64)
    good = np.asarray(is_good_mask, dtype=bool)
    if good.all() or not good.any():
        return probabilities.copy()
    defect_mass = probabilities[:, ~good].sum(axis=1)
    calibrated = apply_calibration(defect_mass.clip(0.0, 1.0), cal)
    result = np.empty_like(probabilities)
    result[:, ~good] = _shares(probabilities[:, ~good]) * calibrated[:, None]
    result[:, good] = _shares(probabilities[:, good]) * (1 - calibrated)[:, None]
    return result


def _shares(block: np.ndarray) -> np.ndarray:
    mass = block.sum(axis=1, keepdims=True)
    equal = np.full_like(block, 1 / block.shape[1])
    return np.divide(block, mass, out=equal, where=mass > 0)


def _logit(scores: np.ndarray) -> np.ndarray:
    return special.logit(np.clip(np.asarray(scores, dtype=np.float64), SCORE_CLIP, 1 - SCORE_CLIP))


def _fit_line(logits: np.ndarray, targets: np.ndarray) -> tuple[float, float]:
    """Unregularised logistic regression on soft targets: each image once as either class, weighted."""
    features = np.concatenate([logits, logits])[:, None]
    labels = np.repeat([1, 0], logits.size)
    weights = np.concatenate([targets, 1 - targets])
    model = LogisticRegression(C=np.inf, solver="newton-cholesky", tol=1e-8, max_iter=1000)
    model.fit(features, labels, sample_weight=weights)
    return float(model.coef_[0, 0]), float(model.intercept_[0])


def _fit_bias(logits: np.ndarray, mean_target: float) -> float:
    """The bias at which the mean calibrated score is the mean target (the likelihood's stationary point)."""
    low, high = -100.0, 100.0  # logits lie within ±17, see SCORE_CLIP
    for _ in range(80):
        middle = (low + high) / 2
        if special.expit(logits + middle).mean() < mean_target:
            low = middle
        else:
            high = middle
    return (low + high) / 2
