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
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from components.errors import InputError
from components.evaluation.certificate_statement import SOURCES, certificate_statement
from components.evaluation.decision import is_rejected, sigmoid
from components.evaluation.intervals import upper_bound
from components.evaluation.thresholds import allowed_misses, balanced_threshold, budget_threshold, unit_scores
from components.evaluation.transfer import SeenScores, TransferCheck, carried_over, transfer_check

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
class OperatingPoint:
    """An image is rejected when its calibrated log-odds are at or above `threshold_log_odds`.

    threshold: the same as a defect score in [0, 1], for display; it may be rounded to 0 or 1.
    balanced_threshold_log_odds: that of the greatest balanced accuracy, for comparison. certified: whether the bound
    holds at `confidence`; statement: the same as a sentence, with the kind of evidence. unit: what the bound counts:
    images, or groups of images where several share a part (a group escapes when any of its defective images is
    accepted). escapes, defects: units at the threshold; overkills, goods: images; for the kind `transferred` at the
    threshold of the models that were measured. escape_upper_bound: at the confidence of each candidate, see
    `Evidence.confidence_each`. transfer: for the kind `transferred`; None where it was not checked.
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
    seen: SeenScores | None,
) -> OperatingPoint:
    """Choose the threshold on images that certify.

    log_odds: (N,) calibrated, finite; is_defect: (N,) bool; groups: (N,) part ids. folds: (N,) int, and seen:
    calibrated log-odds, both for the kind `transferred`, else None. Among thresholds of equal overkill the one with the
    fewest escapes is taken, half-way to the next lower one. If so few defectives cannot certify the budget even without
    a miss, the escape rate of these images (an estimate) is kept within the budget, and `certified` is False. So it is
    for the kind `transferred` without `seen`, and where the check cannot be made, or lets more than the budget escape.
    Raises InputError without good or without defective images; ValueError for log-odds that are not finite.
    """
    scores, is_defect = np.asarray(log_odds, dtype=np.float64), np.asarray(is_defect, dtype=bool)
    _check(scores, is_defect, evidence)
    each = evidence.confidence_each(confidence)
    units = unit_scores(scores, is_defect, groups)
    allowed = allowed_misses(units.size, escape_budget, confidence=each)
    threshold = budget_threshold(scores, is_defect, units, escape_budget, allowed)
    escapes = int((~is_rejected(units, threshold)).sum())
    delivered, transfer = threshold, None
    if evidence.kind == "transferred" and folds is not None and seen is not None:
        delivered = carried_over(threshold, seen)
        transfer = transfer_check(scores, is_defect, groups, folds, budget=escape_budget, confidence=each)
    point = OperatingPoint(
        threshold=float(sigmoid(np.asarray(delivered))),
        threshold_log_odds=delivered,
        balanced_threshold_log_odds=balanced_threshold(scores, is_defect),
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
