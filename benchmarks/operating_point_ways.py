"""The ways to a threshold that `operating_point.py` compares, each on the scores of one run."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from components.evaluation.blending import fit_blend
from components.evaluation.operating_point import Evidence, OperatingPoint, choose_operating_point
from components.evaluation.transfer import SeenScores

BUDGET, CONFIDENCE = 0.1, 0.95


@dataclass(frozen=True)
class Scored:
    """Log-odds of one run: of its images, each by a model that has not seen it, and of fresh ones by the delivered."""

    own: np.ndarray
    fresh_defective: np.ndarray
    fresh_good: np.ndarray


@dataclass(frozen=True)
class Result:
    """One run of one way. escape: share of fresh defective units; overkill: share of fresh good images."""

    certified: bool
    escape: float
    overkill: float


@dataclass(frozen=True)
class Labels:
    """Of one run."""

    is_defect: np.ndarray
    groups: np.ndarray
    fresh_groups: np.ndarray


def naive(scored: Scored, labels: Labels) -> Result:
    """The highest threshold at which no more than the budget's share of the images at hand escapes."""
    units = _lowest(scored.own[labels.is_defect], labels.groups[labels.is_defect])
    threshold = np.sort(units)[math.floor(BUDGET * units.size)]
    return _decide(float(threshold), True, scored, labels)


def held_out(scored: Scored, labels: Labels, rows: np.ndarray) -> Result:
    point = choose_operating_point(
        scored.own[rows],
        labels.is_defect[rows],
        escape_budget=BUDGET,
        confidence=CONFIDENCE,
        groups=labels.groups[rows],
        evidence=Evidence("held_out", folds=0, choices=1),
        folds=None,
        seen=None,
    )
    return _decide(point.threshold_log_odds, point.certified, scored, labels)


def cross_fitted(
    members: list[list[np.ndarray]], whole: Scored, labels: Labels, folds: np.ndarray
) -> Iterator[tuple[str, Result]]:
    """members: of the recipe, and maybe of another, of the first with views, of the linear model: (M, N) each."""
    found = [[_own(kind[0], folds), *kind[1:]] for kind in members]
    plain = found[0]
    ensemble = Scored(plain[0], plain[1].mean(axis=0), plain[2].mean(axis=0))
    single = Scored(plain[0], whole.fresh_defective, whole.fresh_good)
    yield "naive: out-of-fold scores, ensemble", naive(ensemble, labels)
    point = _point(plain[0], labels, folds)
    yield "members, on average", _average(point, plain, labels)
    yield "ensemble", _decide(point.threshold_log_odds, point.certified, ensemble, labels)
    yield "one model on all, the same threshold", _decide(point.threshold_log_odds, point.certified, single, labels)
    in_training = np.arange(len(members[0][0]))[:, None] != folds
    point = _point(plain[0], labels, folds, seen=SeenScores(members[0][0][in_training], whole.own))
    yield "one model on all, carried over", _decide(point.threshold_log_odds, point.certified, single, labels)
    if len(members) == 1:
        return
    other, viewed, linear = found[1:]
    for choices in (1, 2):
        points = [_point(kind[0], labels, folds, choices=choices) for kind in (plain, other)]
        better = min((0, 1), key=lambda index: points[index].overkills)
        chosen, point = (plain, other)[better], points[better]
        note = "with" if choices == 2 else "without"
        yield f"better of two recipes, {note} union bound: members, on average", _average(point, chosen, labels)
        both = Scored(chosen[0], chosen[1].mean(axis=0), chosen[2].mean(axis=0))
        yield (
            f"better of two recipes, {note} union bound: ensemble",
            _decide(point.threshold_log_odds, point.certified, both, labels),
        )
    yield from _blended(plain, viewed, linear, labels, folds)


def _blended(
    plain: list[np.ndarray], viewed: list[np.ndarray], linear: list[np.ndarray], labels: Labels, folds: np.ndarray
) -> Iterator[tuple[str, Result]]:
    """Views and weights of the blend are chosen on the scores that certify."""
    best = min((plain, viewed), key=lambda kind: _log_loss(kind[0], labels.is_defect))
    scores = np.stack([_log_probabilities(best[0]), _log_probabilities(linear[0])])
    blend = fit_blend(scores, labels.is_defect.astype(int), folds, groups=labels.groups)
    own = blend.blended[:, 1] - blend.blended[:, 0]
    fresh = [
        blend.weights[0] * best[kind].mean(axis=0) + blend.weights[1] * linear[kind].mean(axis=0) for kind in (1, 2)
    ]
    point = _point(own, labels, folds)
    yield (
        "blend and views chosen: ensemble",
        _decide(point.threshold_log_odds, point.certified, Scored(own, *fresh), labels),
    )


def _point(
    scores: np.ndarray, labels: Labels, folds: np.ndarray, *, choices: int = 1, seen: SeenScores | None = None
) -> OperatingPoint:
    kind = "out_of_fold" if seen is None else "transferred"
    return choose_operating_point(
        scores,
        labels.is_defect,
        escape_budget=BUDGET,
        confidence=CONFIDENCE,
        groups=labels.groups,
        evidence=Evidence(kind, folds=int(folds.max()) + 1, choices=choices),
        folds=folds,
        seen=seen,
    )


def _decide(threshold: float, certified: bool, scored: Scored, labels: Labels) -> Result:
    units = _lowest(scored.fresh_defective, labels.fresh_groups)
    return Result(certified, float((units < threshold).mean()), float((scored.fresh_good >= threshold).mean()))


def _average(point: OperatingPoint, kind: list[np.ndarray], labels: Labels) -> Result:
    """Of the members one by one: what the bound is for."""
    each = [
        _decide(point.threshold_log_odds, point.certified, Scored(kind[0], defective, good), labels)
        for defective, good in zip(kind[1], kind[2], strict=True)
    ]
    return Result(
        point.certified,
        float(np.mean([result.escape for result in each])),
        float(np.mean([result.overkill for result in each])),
    )


def _own(scores: np.ndarray, folds: np.ndarray) -> np.ndarray:
    """(N,) out of fold, of (M, N)."""
    return scores[folds, np.arange(folds.size)]


def _lowest(scores: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """The lowest score of each run of equal groups."""
    starts = np.flatnonzero(np.append(True, groups[1:] != groups[:-1]))
    return np.minimum.reduceat(scores, starts)


def _log_probabilities(log_odds: np.ndarray) -> np.ndarray:
    return np.stack([-np.logaddexp(0, log_odds), -np.logaddexp(0, -log_odds)], axis=1)


def _log_loss(log_odds: np.ndarray, is_defect: np.ndarray) -> float:
    return float(np.logaddexp(0, np.where(is_defect, -log_odds, log_odds)).mean())
