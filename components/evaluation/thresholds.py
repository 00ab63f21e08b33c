"""Thresholds of a defect score: the one that keeps an escape budget at the least overkill, and the balanced one.

An image is rejected at or above the threshold. Scores are log-odds, which rounding does not make equal (`decision.py`).
"""

from __future__ import annotations

import math

import numpy as np

from components.evaluation.intervals import upper_bound


def budget_threshold(
    scores: np.ndarray, is_defect: np.ndarray, units: np.ndarray, budget: float, allowed: int | None
) -> float:
    """The threshold of least overkill that lets no more than `allowed` units escape; None: than the budget's share."""
    misses = allowed if allowed is not None else math.floor(budget * units.size + 1e-9)
    return _least_overkill(scores, is_defect, ceiling=float(np.sort(units)[misses]))


def allowed_misses(defects: int, budget: float, *, confidence: float) -> int | None:
    """The most misses among `defects` that still prove the budget; None if not even 0 do."""
    misses = None
    for candidate in range(defects):
        if upper_bound(candidate, defects, confidence=confidence) > budget:
            break
        misses = candidate
    return misses


def unit_scores(scores: np.ndarray, is_defect: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """One score per independent unit: that of the defective image, or the lowest one of its group."""
    defective = scores[is_defect]
    _, codes = np.unique(np.asarray(groups)[is_defect], return_inverse=True)
    lowest = np.full(int(codes.max()) + 1, np.inf)
    np.minimum.at(lowest, codes, defective)
    return lowest


def _least_overkill(scores: np.ndarray, is_defect: np.ndarray, *, ceiling: float) -> float:
    """The threshold at or below `ceiling` with the least overkill and, among those, the fewest escapes."""
    goods_below = scores[~is_defect & (scores < ceiling)]
    floor = float(goods_below.max()) if goods_below.size else -np.inf
    cut = float(scores[is_defect & (scores > floor)].min())
    return _half_way(scores, cut)


def balanced_threshold(scores: np.ndarray, is_defect: np.ndarray) -> float:
    """The threshold of greatest balanced accuracy; of several, the lowest (fewest escapes)."""
    cuts = np.unique(scores)
    defective, good = np.sort(scores[is_defect]), np.sort(scores[~is_defect])
    sensitivity = 1 - np.searchsorted(defective, cuts, side="left") / defective.size
    specificity = np.searchsorted(good, cuts, side="left") / good.size
    balanced = sensitivity + specificity
    best = int(np.argmax(balanced >= balanced.max() - 1e-12))
    return _half_way(scores, float(cuts[best]))


def _half_way(scores: np.ndarray, cut: float) -> float:
    """Half-way from `cut` to the next lower score, or at half its odds, so that rounding changes no decision."""
    lower = scores[scores < cut]
    if not lower.size:
        return cut - math.log(2)
    middle = (float(lower.max()) + cut) / 2
    return middle if middle > lower.max() else cut
