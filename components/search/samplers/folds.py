"""Cross-validation of the best points of a search: every fold for each of them, and for the defaults."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from components.search.samplers.points import PointKey, point_key
from components.search.trial import Suggestion, TrialRecord

#: Points that are cross-validated beside the defaults.
CANDIDATES = 2


def fold_trials(folds: int) -> int:
    """How many trials the cross-validation takes."""
    return folds * (CANDIDATES + 1)


def fold_plan(best: Sequence[TrialRecord], *, folds: int) -> list[Suggestion]:
    """The trials of the best points, and of the defaults where they are among them, fold by fold.

    best: trials that ran to their end, the best first.
    """
    candidates = [record for record in best if record.number != 0][:CANDIDATES]
    candidates += [record for record in best if record.number == 0]
    return [
        replace(record.suggestion, fold=fold, phase=f"fold {fold + 1}")
        for fold in range(folds)
        for record in candidates
    ]


def fold_means(history: Sequence[TrialRecord]) -> dict[PointKey, float]:
    """Mean final score over the folds, of the points that were completed on every fold that any was tried on."""
    tried = {record.suggestion.fold for record in history} - {None}
    scores: dict[PointKey, dict[int | None, float]] = {}
    for record in history:
        if record.suggestion.fold is not None and record.status == "completed" and record.score is not None:
            scores.setdefault(point_key(record.suggestion.point), {})[record.suggestion.fold] = record.score
    return {key: float(np.mean(list(found.values()))) for key, found in scores.items() if set(found) == tried}


def best_over_folds(history: Sequence[TrialRecord]) -> int | None:
    """The trial whose point has the best mean over the folds, of equals the earlier; None where none has all folds.

    It is the trial on the split itself, not one on a fold.
    """
    means = fold_means(history)
    candidates = [
        record
        for record in history
        if record.suggestion.fold is None
        and record.status == "completed"
        and point_key(record.suggestion.point) in means
    ]
    if not candidates:
        return None
    return max(candidates, key=lambda r: (means[point_key(r.suggestion.point)], -r.number)).number
