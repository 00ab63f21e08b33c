"""Calibrates the log-odds by a scale and a bias, and then chooses the threshold, on images that the model had not seen.

Platt 1999 (logistic regression on the score, with his smoothed targets). A temperature alone could not undo the effect
of class weights, which shift the logits; a bias can. The map is increasing, so it changes no ranking.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy import optimize, special

from components.evaluation.decision import DecisionRule, defect_log_odds, good_mask
from components.evaluation.operating_point import Evidence, OperatingPoint, choose_operating_point
from components.evaluation.predictions import prediction_table, worst_per_file

SMALLEST_SLOPE = 1e-2
"""Per standard deviation of the log-odds: with a smaller slope they do not rank defectives higher."""


@dataclass(frozen=True)
class Calibration:
    """Calibrated log-odds = scale · log-odds + bias; scale > 0. note: a warning, or empty."""

    scale: float
    bias: float
    note: str = ""

    def to_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self)


def fit_decision(
    logits: np.ndarray,
    rows: pd.DataFrame,
    *,
    classes: Sequence[str],
    good_classes: Sequence[str],
    escape_budget: float,
    confidence: float,
    evidence: Evidence,
    certifying: np.ndarray | None,
) -> tuple[Calibration, OperatingPoint | None, pd.DataFrame]:
    """Calibration from all rows, the operating point from those that certify, and the table of predictions of all.

    logits: (N, K), finite; rows: (N,) of the manifest, with the column `fold` for evidence of the kind `transferred`.
    certifying: (N,) bool, whole groups; None for all. The worst tile decides for an image, so the threshold is chosen
    on image files. Without a good class the calibration is the identity, and there is no operating point. Raises
    `InputError` without good or without defective images, ValueError where a group certifies in part.
    """
    is_good = good_mask(classes, good_classes)
    if not good_classes:
        rule = DecisionRule(is_good, 1.0, 0.0, None)
        return Calibration(1.0, 0.0), None, prediction_table(rows, rule.decide(logits), classes)
    found = fit_calibration(defect_log_odds(logits, is_good), rows["is_defect"].to_numpy(dtype=bool))
    rule = DecisionRule(is_good, found.scale, found.bias, None)
    counted = np.ones(len(rows), dtype=bool) if certifying is None else np.asarray(certifying, dtype=bool)
    if np.intersect1d(rows["group"][counted], rows["group"][~counted]).size:
        raise ValueError("a group must certify as a whole, or not at all")
    files = worst_per_file(prediction_table(rows[counted], rule.decide(logits[counted]), classes))
    fold_of_path = dict(zip(rows["path"], rows["fold"], strict=True)) if evidence.kind == "transferred" else {}
    point = choose_operating_point(
        files["log_odds"].to_numpy(),
        files["is_defect"].to_numpy(dtype=bool),
        escape_budget=escape_budget,
        confidence=confidence,
        groups=files["group"].to_numpy(),
        evidence=evidence,
        folds=files["path"].map(fold_of_path).to_numpy() if fold_of_path else None,
    )
    rule = dataclasses.replace(rule, threshold=point.threshold_log_odds)
    return found, point, prediction_table(rows, rule.decide(logits), classes)


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
        note = f"all {is_defect.size} scores are equal: only the bias is fitted"
        return Calibration(1.0, _fit_bias(log_odds, float(targets.mean())), note)
    centre = float(log_odds.mean())
    slope, level = _fit_line((log_odds - centre) / spread, targets)
    if not slope > SMALLEST_SLOPE:
        note = f"the fitted scale {slope / spread:.3g} is not positive: defectives do not score higher; bias only"
        return Calibration(1.0, _fit_bias(log_odds, float(targets.mean())), note)
    return Calibration(slope / spread, level - slope * centre / spread)


def _fit_line(values: np.ndarray, targets: np.ndarray) -> tuple[float, float]:
    """Slope and level of an unregularised logistic regression on soft targets; values: (N,), centred and of spread 1.

    The loss is convex, and its least value is at a finite place, as no target is 0 or 1.
    """
    design = np.stack([values, np.ones_like(values)], axis=1)

    def loss(weights: np.ndarray) -> float:
        line = design @ weights
        return float((np.logaddexp(0, line) - targets * line).mean())

    def gradient(weights: np.ndarray) -> np.ndarray:
        return np.asarray(design.T @ (special.expit(design @ weights) - targets) / len(targets))

    def curvature(weights: np.ndarray) -> np.ndarray:
        chance = special.expit(design @ weights)
        return np.asarray((design * (chance * (1 - chance))[:, None]).T @ design / len(targets))

    start = np.array([0.0, special.logit(targets.mean())])
    found = optimize.minimize(loss, start, jac=gradient, hess=curvature, method="trust-exact", options={"gtol": 1e-9})
    return float(found.x[0]), float(found.x[1])


def _fit_bias(log_odds: np.ndarray, mean_target: float) -> float:
    """The bias at which the mean calibrated score is the mean target (the likelihood's stationary point)."""
    low, high = special.logit(mean_target) - log_odds.max(), special.logit(mean_target) - log_odds.min()
    for _ in range(80):
        middle = (low + high) / 2
        is_low = special.expit(log_odds + middle).mean() < mean_target
        low, high = (middle, high) if is_low else (low, middle)
    return float((low + high) / 2)
