"""Cross-validation of the best points of a search and of the defaults: a trial for each point and fold."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from components.search.samplers.points import PointKey, point_key
from components.search.trial import Suggestion, TrialRecord

#: Points that are cross-validated beside the defaults.
CANDIDATES = 2


def fold_trials(folds: int) -> int:
    """Number of trials of the cross-validation."""
    return folds * (CANDIDATES + 1)


def fold_plan(best: Sequence[TrialRecord], *, folds: int) -> list[Suggestion]:
    """The trials of the best points and, if they are in `best`, of the defaults, fold by fold.

    best: completed trials, the best first.
    """
    candidates = [record for record in best if record.number != 0][:CANDIDATES]
    candidates += [record for record in best if record.number == 0]
    return [
        replace(record.suggestion, fold=fold, phase=f"fold {fold + 1}")
        for fold in range(folds)
        for record in candidates
    ]


def fold_means(history: Sequence[TrialRecord]) -> dict[PointKey, float]:
    """Mean final score of each point over the folds that all points have completed.

    A point of which a trial diverged or failed is excluded. Empty where no fold is complete, or where the defaults were
    not cross-validated.
    """
    tried = [record for record in history if record.suggestion.fold is not None]
    lost = {_key(record) for record in tried if record.status in ("diverged", "failed")}
    scores: dict[PointKey, dict[int | None, float]] = {_key(record): {} for record in tried}
    for record in tried:
        if record.status == "completed" and record.score is not None:
            scores[_key(record)][record.suggestion.fold] = record.score
    kept = {key: found for key, found in scores.items() if key not in lost}
    shared = set.intersection(*(set(found) for found in kept.values())) if kept else set()
    defaults = next((record for record in history if record.number == 0), None)
    missing = defaults is not None and defaults.status == "completed" and _key(defaults) not in scores
    if not shared or missing:
        return {}
    return {
        key: float(np.mean([score for fold, score in found.items() if fold in shared])) for key, found in kept.items()
    }


def best_over_folds(history: Sequence[TrialRecord]) -> int | None:
    """The trial on the split (not on a fold) whose point has the best mean over the folds; None without means.

    The earlier one of equals.
    """
    means = fold_means(history)
    candidates = [
        record
        for record in history
        if record.suggestion.fold is None and record.status == "completed" and _key(record) in means
    ]
    if not candidates:
        return None
    return max(candidates, key=lambda r: (means[_key(r)], -r.number)).number


def _key(record: TrialRecord) -> PointKey:
    return point_key(record.suggestion.point)
