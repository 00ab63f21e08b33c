"""The Lipschitz bandit over the learning rate alone, for a handful of trials; its arithmetic is in `zooming.py`.

Positions are logarithmic in the rate. Only final scores count; a repetition is the same rate from another seed, and at
the end the rate with the best mean wins.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Literal

import numpy as np

from components.errors import InputError
from components.search.samplers.base import SamplerSettings
from components.search.samplers.points import PointKey, point_key
from components.search.samplers.zooming import Arm, next_position
from components.search.space import Choice, is_active
from components.search.trial import Suggestion, TrialRecord

#: A trial that diverged counts as so much worse than the worst final score. Were it only as bad as that, two trials of
#: which one diverged would look alike; 0 makes a slope so steep that nothing else shows.
DIVERGED_BELOW = 0.05


def best_arm(history: Sequence[TrialRecord]) -> int | None:
    """The first trial of the point with the best mean of final scores, of equals the one that was tried more often.

    A trial that diverged counts as less than the worst final score. None where no trial has run to its end.
    """
    scores: dict[PointKey, list[float]] = {}
    first: dict[PointKey, int] = {}
    for record, score in _final_scores(history):
        key = point_key(record.suggestion.point)
        scores.setdefault(key, []).append(score)
        if record.status == "completed":
            first.setdefault(key, record.number)
    if not first:
        return None
    return first[max(first, key=lambda key: (float(np.mean(scores[key])), len(scores[key]), -first[key]))]


class LipschitzSampler:
    """`lipschitz`: a repetition is suggested from a seed that its point has not had.

    Raises:
        InputError: the space has another dimension than one interval, or its condition does not hold.
    """

    def __init__(self, settings: SamplerSettings) -> None:
        dimensions = settings.space.dimensions
        if len(dimensions) != 1 or isinstance(dimensions[0], Choice):
            names = ", ".join(dimension.sets for dimension in dimensions) or "nothing"
            raise InputError(
                f"search.sampler=lipschitz searches one interval, and search.space has {names}; leave recipe.lr alone "
                "in search.space, with bounds, or use the sampler hybrid"
            )
        if not is_active(dimensions[0], settings.space.defaults):
            raise InputError(
                f"search.space: the `when` of {dimensions[0].sets} does not hold for the recipe, and search.sampler="
                "lipschitz searches nothing else; take it away"
            )
        self._settings, self._name = settings, dimensions[0].sets

    def suggest(self, number: int, history: Sequence[TrialRecord]) -> Suggestion | Literal["wait", "done"]:
        settings = self._settings
        if number >= settings.num_trials:
            return "done"
        arms = _arms(history, self._name)
        decades = settings.space.decades(self._name)
        point = {self._name: next_position(arms, trials=settings.num_trials, decades=decades)}
        seeds = [r.suggestion.seed for r in history if point_key(r.suggestion.point) == point_key(point)]
        return Suggestion(
            point=point,
            overrides=settings.space.overrides(point),
            epochs=settings.max_epochs,
            seed=max(seeds, default=-1) + 1,
            phase="repeat" if seeds else "zoom",
        )


def _arms(history: Sequence[TrialRecord], name: str) -> list[Arm]:
    """The positions that were tried, with their scores, to maximise, and the trials that are running."""
    placed = [record for record in history if name in record.suggestion.point]
    scores: dict[float, list[float]] = {}
    for record, score in _final_scores(placed):
        scores.setdefault(float(record.suggestion.point[name]), []).append(score)
    pending = Counter(float(record.suggestion.point[name]) for record in placed if not record.ended)
    return [Arm(place, tuple(scores.get(place, ())), pending[place]) for place in sorted({*scores, *pending})]


def _final_scores(history: Sequence[TrialRecord]) -> list[tuple[TrialRecord, float]]:
    """The trials that ran to their end or diverged, each with what it counts as."""
    finals = [record.score for record in history if record.status == "completed" and record.score is not None]
    diverged = min(finals) - DIVERGED_BELOW if finals else 0.0
    counted = []
    for record in history:
        if record.status == "completed" and record.score is not None:
            counted.append((record, record.score))
        elif record.status == "diverged":
            counted.append((record, diverged))
    return counted
