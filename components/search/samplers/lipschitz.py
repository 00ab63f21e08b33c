"""The Lipschitz bandit over the learning rate alone, for few trials; its formulas are in `zooming.py`.

Positions are logarithmic in the rate. Only final scores count; a repetition is the same rate with another seed, and the
rate with the best mean wins.
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

#: A diverged trial counts as this much below the worst final score. With 0, a diverged trial would equal the worst one;
#: a score of 0 would make the slope so steep that it hides everything else.
DIVERGED_BELOW = 0.05


def best_arm(history: Sequence[TrialRecord]) -> int | None:
    """The first trial of the point with the best mean of final scores; of equals the one with more trials.

    A diverged trial counts as less than the worst final score. None where no trial is complete.
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
    """`lipschitz`: each repetition of a point gets a new seed.

    Raises `InputError` for a space that is not one interval, or whose condition does not hold.
    """

    def __init__(self, settings: SamplerSettings) -> None:
        dimensions = settings.space.dimensions
        if len(dimensions) != 1 or isinstance(dimensions[0], Choice):
            names = ", ".join(dimension.sets for dimension in dimensions) or "nothing"
            raise InputError(
                f"search.sampler=lipschitz searches one interval, and search.space has {names}; keep only recipe.lr in "
                "search.space, with bounds, or use the sampler hybrid"
            )
        if not is_active(dimensions[0], settings.space.defaults):
            raise InputError(
                f"search.space: the `when` of {dimensions[0].sets} does not hold for the recipe, and search.sampler="
                "lipschitz searches nothing else; remove it"
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
    """The tried positions with their scores (to maximise) and the number of running trials."""
    placed = [record for record in history if name in record.suggestion.point]
    scores: dict[float, list[float]] = {}
    for record, score in _final_scores(placed):
        scores.setdefault(float(record.suggestion.point[name]), []).append(score)
    pending = Counter(float(record.suggestion.point[name]) for record in placed if not record.ended)
    return [Arm(place, tuple(scores.get(place, ())), pending[place]) for place in sorted({*scores, *pending})]


def _final_scores(history: Sequence[TrialRecord]) -> list[tuple[TrialRecord, float]]:
    """The trials that are complete or diverged, each with the score that counts."""
    finals = [record.score for record in history if record.status == "completed" and record.score is not None]
    diverged = min(finals) - DIVERGED_BELOW if finals else 0.0
    counted = []
    for record in history:
        if record.status == "completed" and record.score is not None:
            counted.append((record, record.score))
        elif record.status == "diverged":
            counted.append((record, diverged))
    return counted
