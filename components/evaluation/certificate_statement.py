"""The certificate of an operating point as sentences: what is shown, on which kind of scores, and for which model."""

from __future__ import annotations

from typing import TYPE_CHECKING

from components.display import counted
from components.evaluation.intervals import defects_needed

if TYPE_CHECKING:
    from components.evaluation.operating_point import OperatingPoint

SOURCES = {
    "held_out": "the calibration split",
    "out_of_fold": "out-of-fold scores",
    "transferred": "out-of-fold scores of other models",
}
"""Where the scores are from, by the kind of evidence."""


def certificate_statement(point: OperatingPoint) -> str:
    """What is certified, or how many defectives are lacking; then the kind of evidence, and what it leaves open."""
    parts = [_verdict(point), _evidence(point), *_choices(point), *_left_out(point)]
    cost = percent(point.overkills / point.goods)
    parts.append(f"It rejects {point.overkills} of {counted(point.goods, 'good image')} ({cost}).")
    return " ".join(parts)


def percent(value: float) -> str:
    return f"{100 * value:.3g} %"


def _verdict(point: OperatingPoint) -> str:
    source = SOURCES[point.evidence.kind]
    one, many, rule = "defective image", "defective images", ""
    if point.unit == "group":
        one, many = "group with defective images", "groups with defective images"
        rule = " (a group escapes when any of its defective images is accepted)"
    units = counted(point.defects, one, many)
    bound, budget = percent(point.escape_upper_bound), percent(point.escape_budget)
    seen, level = f"{point.escapes} of {units} escaped", percent(point.confidence)
    if point.certified:
        return (
            f"Certified on {source}: with {level} confidence at most {budget} of {many} escape ({seen}, upper bound"
            f" {bound}){rule}."
        )
    if point.escape_upper_bound <= point.escape_budget:
        return (
            f"Not certified: {seen} (upper bound {bound}){rule} on {source}, but their threshold may not hold for"
            " another model, see the check."
        )
    needed = defects_needed(point.escape_budget, confidence=point.evidence.confidence_each(point.confidence))
    more = needed - point.defects
    place = "in the calibration split" if point.evidence.kind == "held_out" else "in the folds that certify"
    return (
        f"Not certified: {units} cannot prove an escape rate of at most {budget} at {level} confidence, even without a"
        f" miss; at least {more} more {'is' if more == 1 else 'are'} needed {place}. The threshold keeps the estimate"
        f" within the budget ({seen}), not the upper bound, which is {bound}{rule}."
    )


def _evidence(point: OperatingPoint) -> str:
    evidence = point.evidence
    if evidence.kind == "held_out":
        return "These are scores of the delivered model, on images that nothing had used before."
    if evidence.kind == "out_of_fold" and evidence.folds == 1:
        return "The delivered network had not seen these images."
    if evidence.kind == "out_of_fold":
        return (
            f"Each image was scored by the one of {evidence.folds} models that had not seen it: the bound is for these"
            " models on average; the delivered one is their mean, which itself was not measured."
        )
    check = point.transfer
    taken = (
        "The delivered model was trained on all images and not measured: it takes over the threshold of"
        f" {evidence.folds} models, each of which scored the images that it had not seen"
    )
    if check is None:
        return f"{taken}; whether it can was not checked."
    return (
        f"{taken}, in the scale of its own scores. Check: thresholds chosen without a fold and applied to it let"
        f" {check.escapes} of {check.units} escape (upper bound {percent(check.upper_bound)})."
    )


def _choices(point: OperatingPoint) -> list[str]:
    choices = point.evidence.choices
    if choices == 1:
        return []
    each = percent(point.evidence.confidence_each(point.confidence))
    return [f"It was chosen among {choices} candidates on these scores, so each has to show the budget at {each}."]


def _left_out(point: OperatingPoint) -> list[str]:
    folds = point.evidence.not_certifying
    if not folds:
        return []
    names = ", ".join(str(fold) for fold in folds)
    one = len(folds) == 1
    subject, verb, them = ("Fold", "does", "it") if one else ("Folds", "do", "them")
    return [f"{subject} {names} {verb} not certify, since settings were chosen on {them}."]
