"""The operating point: the threshold with the least overkill among those that keep the escape budget.

A one-sided Clopper–Pearson bound on images that their model has not seen must be within the budget. The choice of the
threshold on the same images does not bias the bound: the number of allowed misses depends on the number of defectives
alone, so the threshold is at or below a fixed order statistic of their scores, and the bound is that of a
distribution-free tolerance limit (Wilks 1941). Scores of several folds come from several models: the bound is then for
their mean escape rate (Hoeffding 1956: unequal rates make few misses no likelier).

Thresholds are chosen and applied on log-odds, which rounding does not make equal (`decision.py`).
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from components.errors import InputError
from components.evaluation.certificate_statement import SOURCES, certificate_statement
from components.evaluation.decision import is_rejected, sigmoid
from components.evaluation.intervals import upper_bound

EvidenceKind = Literal["held_out", "out_of_fold", "transferred"]


@dataclass(frozen=True)
class Evidence:
    """What the scores are that a threshold is chosen on.

    kind: `held_out`, scores of the delivered model on images that nothing had used before; `out_of_fold`, each image
    is scored by the one of `folds` models that had not seen it, and their mean is delivered; `transferred`, scores as
    for `out_of_fold`, but a model trained on all images is delivered. folds: 0 for `held_out`. choices: number of
    candidates among which the delivered one was chosen on these very images; 1 if none was chosen. not_certifying:
    folds left out, since something was chosen on them.
    """

    kind: EvidenceKind
    folds: int
    choices: int
    not_certifying: tuple[int, ...] = ()

    def confidence_each(self, confidence: float) -> float:
        """What each candidate has to show, so that the one chosen does at `confidence` (Bonferroni's union bound)."""
        return 1 - (1 - confidence) / self.choices


@dataclass(frozen=True)
class TransferCheck:
    """Thresholds chosen without a fold, applied to that fold: how many of its units escaped, summed over the folds."""

    escapes: int
    units: int
    upper_bound: float

    def keeps(self, budget: float) -> bool:
        """Whether the share that escaped is within the budget: another model may then take a threshold over."""
        return self.escapes <= budget * self.units


@dataclass(frozen=True)
class OperatingPoint:
    """An image is rejected when its calibrated log-odds are at or above `threshold_log_odds`.

    threshold: the same as a defect score in [0, 1], for display; it may be rounded to 0 or 1.
    balanced_threshold_log_odds: that of the greatest balanced accuracy, for comparison. certified: whether the bound
    holds at `confidence`; statement: the same as a sentence, with the kind of evidence. unit: what the bound counts:
    images, or groups of images where several share a part (a group escapes when any of its defective images is
    accepted). escapes, defects: units at the threshold; overkills, goods: images. escape_upper_bound: at the confidence
    of each candidate, see `Evidence.confidence_each`. transfer: for the kind `transferred`, else None.
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
    evidence: Evidence
    transfer: TransferCheck | None

    def to_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self)


def choose_operating_point(
    log_odds: np.ndarray,
    is_defect: np.ndarray,
    *,
    escape_budget: float,
    confidence: float,
    groups: np.ndarray,
    evidence: Evidence,
    folds: np.ndarray | None,
) -> OperatingPoint:
    """Choose the threshold on images that certify.

    log_odds: (N,) calibrated, finite; is_defect: (N,) bool; groups: (N,) part ids; folds: (N,) int, None but for the
    kind `transferred`. Among thresholds of equal overkill the one with the fewest escapes is taken, half-way to the
    next lower one. If so few defectives cannot certify the budget even without a miss, the escape rate of these images
    (an estimate) is kept within the budget, and `certified` is False. So it is for the kind `transferred` where the
    check could not be made, or lets more than the budget escape.
    Raises InputError without good or without defective images; ValueError for log-odds that are not finite.
    """
    scores, is_defect = np.asarray(log_odds, dtype=np.float64), np.asarray(is_defect, dtype=bool)
    _check(scores, is_defect, evidence)
    each = evidence.confidence_each(confidence)
    units = _unit_scores(scores, is_defect, groups)
    allowed = allowed_misses(units.size, escape_budget, confidence=each)
    threshold = _budget_threshold(scores, is_defect, units, escape_budget, allowed)
    escapes = int((~is_rejected(units, threshold)).sum())
    transfer = None
    if evidence.kind == "transferred":
        assert folds is not None
        transfer = transfer_check(scores, is_defect, groups, folds, budget=escape_budget, confidence=each)
    point = OperatingPoint(
        threshold=float(sigmoid(np.asarray(threshold))),
        threshold_log_odds=threshold,
        balanced_threshold_log_odds=_balanced_threshold(scores, is_defect),
        escape_budget=escape_budget,
        confidence=confidence,
        certified=allowed is not None
        and (evidence.kind != "transferred" or (transfer is not None and transfer.keeps(escape_budget))),
        statement="",
        unit="image" if units.size == is_defect.sum() else "group",
        escapes=escapes,
        defects=units.size,
        escape_upper_bound=upper_bound(escapes, units.size, confidence=each),
        overkills=int(is_rejected(scores[~is_defect], threshold).sum()),
        goods=int((~is_defect).sum()),
        evidence=evidence,
        transfer=transfer,
    )
    return dataclasses.replace(point, statement=certificate_statement(point))


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

    log_odds: (N,) out of fold; is_defect: (N,) bool; groups: (N,) part ids, none in two folds; folds: (N,) int.
    None with fewer than two folds that hold defectives.
    """
    scores, is_defect = np.asarray(log_odds, dtype=np.float64), np.asarray(is_defect, dtype=bool)
    numbers = np.unique(folds[is_defect])
    if numbers.size < 2:
        return None
    escapes = total = 0
    for number in numbers:
        others = folds != number
        left_out = _unit_scores(scores[~others], is_defect[~others], groups[~others])
        units = _unit_scores(scores[others], is_defect[others], groups[others])
        allowed = allowed_misses(units.size, budget, confidence=confidence)
        threshold = _budget_threshold(scores[others], is_defect[others], units, budget, allowed)
        escapes += int((~is_rejected(left_out, threshold)).sum())
        total += left_out.size
    return TransferCheck(escapes, total, upper_bound(escapes, total, confidence=confidence))


def _budget_threshold(
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


def _check(scores: np.ndarray, is_defect: np.ndarray, evidence: Evidence) -> None:
    if not np.isfinite(scores).all():
        raise ValueError(f"{int((~np.isfinite(scores)).sum())} of {scores.size} scores are not finite")
    remedy = "add images"
    if evidence.kind == "held_out":
        remedy += " or raise data.splits.calibration"
    for missing, count in (("defective", is_defect.sum()), ("good", (~is_defect).sum())):
        if count == 0:
            raise InputError(
                f"no {missing} image in {SOURCES[evidence.kind]} (of {is_defect.size}): an operating point needs both"
                f" kinds; {remedy}"
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
