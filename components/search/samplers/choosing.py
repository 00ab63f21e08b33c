"""Which trial of a search is its best, where the sampler has no rule of its own."""

from __future__ import annotations

from collections.abc import Sequence

from components.search.trial import TrialRecord


def best_trial(history: Sequence[TrialRecord]) -> int | None:
    """The best final score among the completed trials of the greatest length that any trial was meant to have.

    Where none of them was completed: the best last score among the trials that came furthest. Of equals the earlier;
    None where no trial has a score that counts. Trials that diverged or failed never do, nor those on a fold.
    """
    whole = [record for record in history if record.suggestion.fold is None]
    longest = max((record.suggestion.epochs for record in whole), default=0)
    scored = [(record.score, record) for record in whole if record.ended and record.score is not None]
    candidates = [(s, r) for s, r in scored if r.status == "completed" and r.suggestion.epochs == longest]
    if not candidates:
        furthest = max((record.epochs for _, record in scored), default=0)
        candidates = [(score, record) for score, record in scored if record.epochs == furthest]
    return max(candidates, key=lambda pair: (pair[0], -pair[1].number))[1].number if candidates else None
