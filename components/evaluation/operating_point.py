"""The operating point: the threshold with the least overkill among those that keep the escape budget.

A one-sided Clopper–Pearson bound on the calibration split must be within the budget. The choice of the threshold on the
same images does not bias the bound: the number of allowed misses depends on the number of defectives alone, so the
threshold is at or below a fixed order statistic of their scores, and the bound is that of a distribution-free tolerance
limit (Wilks 1941).

Thresholds are chosen and applied on log-odds, which rounding does not make equal (`decision.py`).
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from components.display import counted
from components.errors import InputError
from components.evaluation.decision import is_rejected, sigmoid
from components.evaluation.intervals import defects_needed, upper_bound


@dataclass(frozen=True)
class OperatingPoint:
    """An image is rejected when its calibrated log-odds are at or above `threshold_log_odds`.

    threshold: the same as a defect score in [0, 1], for display; it may be rounded to 0 or 1.
    balanced_threshold_log_odds: that of the greatest balanced accuracy, for comparison. certified: whether the bound
    holds at `confidence`; statement: the same as a sentence. unit: what the bound counts: images, or groups of images
    where several share a part (a group escapes when any of its defective images is accepted). escapes, defects: units
    at the threshold; overkills, goods: images.
    """

    threshold: float
    threshold_log_odds: float
    balanced_threshold_log_odds: float
    escape_budget: float
    confidence: float
    certified: bool
    statement: str
    unit: str
    escapes: int
    defects: int
    escape_upper_bound: float
    overkills: int
    goods: int

    def to_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self)


def choose_operating_point(
    log_odds: np.ndarray,
    is_defect: np.ndarray,
    *,
    escape_budget: float,
    confidence: float,
    groups: np.ndarray,
) -> OperatingPoint:
    """Choose the threshold on the calibration split.

    log_odds: (N,) calibrated, finite; is_defect: (N,) bool; groups: (N,) part ids.
    Among thresholds of equal overkill the one with the fewest escapes is taken, half-way to the next
    lower one. If so few defectives cannot certify the budget even without a miss, the escape rate in
    the calibration split (an estimate) is kept within the budget, and `certified` is False.
    Raises InputError without good or without defective images; ValueError for log-odds that are not finite.
    """
    scores, is_defect = np.asarray(log_odds, dtype=np.float64), np.asarray(is_defect, dtype=bool)
    _check(scores, is_defect)
    units = _unit_scores(scores, is_defect, groups)
    allowed = allowed_misses(units.size, escape_budget, confidence=confidence)
    misses = allowed if allowed is not None else math.floor(escape_budget * units.size + 1e-9)
    threshold = _least_overkill(scores, is_defect, ceiling=float(np.sort(units)[misses]))
    escapes = int((~is_rejected(units, threshold)).sum())
    point = OperatingPoint(
        threshold=float(sigmoid(np.asarray(threshold))),
        threshold_log_odds=threshold,
        balanced_threshold_log_odds=_balanced_threshold(scores, is_defect),
        escape_budget=escape_budget,
        confidence=confidence,
        certified=allowed is not None,
        statement="",
        unit="image" if units.size == is_defect.sum() else "group",
        escapes=escapes,
        defects=units.size,
        escape_upper_bound=upper_bound(escapes, units.size, confidence=confidence),
        overkills=int(is_rejected(scores[~is_defect], threshold).sum()),
        goods=int((~is_defect).sum()),
    )
    return dataclasses.replace(point, statement=_statement(point))


def allowed_misses(defects: int, budget: float, *, confidence: float) -> int | None:
    """The most misses among `defects` that still prove the budget; None if not even 0 do."""
    misses = None
    for candidate in range(defects):
        if upper_bound(candidate, defects, confidence=confidence) > budget:
            break
        misses = candidate
    return misses


def _check(scores: np.ndarray, is_defect: np.ndarray) -> None:
    if not np.isfinite(scores).all():
        raise ValueError(f"{int((~np.isfinite(scores)).sum())} of {scores.size} scores are not finite")
    for missing, count in (("defective", is_defect.sum()), ("good", (~is_defect).sum())):
        if count == 0:
            raise InputError(
                f"the calibration split has no {missing} image (of {is_defect.size}): an operating point"
                " needs both kinds; add images or raise data.splits.calibration"
            )


def _unit_scores(scores: np.ndarray, is_defect: np.ndarray, groups: np.ndarray) -> np.ndarray:
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


def _balanced_threshold(scores: np.ndarray, is_defect: np.ndarray) -> float:
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


def _statement(point: OperatingPoint) -> str:
    one, many = ("defective image", "defective images")
    rule = ""
    if point.unit == "group":
        one, many = ("group with defective images", "groups with defective images")
        rule = " (a group escapes when any of its defective images is accepted)"
    units = counted(point.defects, one, many)
    bound, budget = _percent(point.escape_upper_bound), _percent(point.escape_budget)
    level, cost = _percent(point.confidence), _percent(point.overkills / point.goods)
    seen = f"{point.escapes} of {units} escaped"
    overkill = f"It rejects {point.overkills} of {counted(point.goods, 'good image')} ({cost})."
    if point.certified:
        return (
            f"Certified on the calibration split: with {level} confidence at most {budget} of {many} escape"
            f" ({seen}, upper bound {bound}){rule}. {overkill}"
        )
    more = defects_needed(point.escape_budget, confidence=point.confidence) - point.defects
    return (
        f"Not certified: {units} cannot prove an escape rate of at most {budget} at {level} confidence, even without a"
        f" miss; at least {more} more {'is' if more == 1 else 'are'} needed in the calibration split. The threshold"
        f" keeps the estimate within the budget ({seen}), not the upper bound, which is {bound}{rule}. {overkill}"
    )


def _percent(value: float) -> str:
    return f"{100 * value:.3g} %"
