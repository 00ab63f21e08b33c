"""The Lipschitz bandit over the learning rate alone, for a handful of trials: as a sampler of Optuna's, and as ours.

What it computes is in `zooming.py`. Positions are logarithmic in the rate. Only final scores count; a repetition is the
same rate from another seed, and at the end the rate with the best mean wins.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from optuna.distributions import BaseDistribution, FloatDistribution
from optuna.samplers import BaseSampler
from optuna.study import Study, StudyDirection
from optuna.trial import FrozenTrial, TrialState

from components.errors import InputError
from components.search.samplers.base import SamplerSettings
from components.search.samplers.points import PointKey, point_key
from components.search.samplers.study import DIVERGED, ask
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
    finals = [record.score for record in history if record.status == "completed" and record.score is not None]
    if not finals:
        return None
    scores: dict[PointKey, list[float]] = {}
    first: dict[PointKey, int] = {}
    for record in history:
        key = point_key(record.suggestion.point)
        if record.status == "completed" and record.score is not None:
            scores.setdefault(key, []).append(record.score)
            first.setdefault(key, record.number)
        elif record.status == "diverged":
            scores.setdefault(key, []).append(_diverged_score(finals))
    return first[max(first, key=lambda key: (float(np.mean(scores[key])), len(scores[key]), -first[key]))]


class LipschitzSampler(BaseSampler):
    """The bandit for any Optuna study with one objective and one float parameter.

    num_trials: how many there will be in all. decades: width of the parameter; None: that of its logarithmic range, 1
    of a linear one. A trial with the user attribute `diverged` counts as less than the worst score; other pruned ones,
    and failed ones, do not count.

    Raises:
        InputError: when asked for a second parameter, or for one that is no float.
    """

    def __init__(self, *, num_trials: int, decades: float | None = None) -> None:
        self._num_trials, self._decades = num_trials, decades

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        return {}

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        return {}

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> float:
        if not isinstance(param_distribution, FloatDistribution) or param_distribution.step is not None or trial.params:
            raise InputError(
                f"{param_name}: the Lipschitz bandit searches one float without steps; take the others out of the "
                "objective, or use another sampler"
            )
        arms = _arms(study, trial, param_name, param_distribution)
        position = next_position(
            list(arms.values()), trials=self._num_trials, decades=self._decades or _decades(param_distribution)
        )
        # A repetition has the very value of the arm: another by rounding would be another arm.
        tried = {arm.position: value for value, arm in arms.items()}
        return tried[position] if position in tried else _value(position, param_distribution)


class LipschitzSearch:
    """`lipschitz`: suggests what LipschitzSampler does, a repetition from a seed that its point has not had.

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
        self._settings = settings
        self._sampler = LipschitzSampler(
            num_trials=settings.num_trials, decades=settings.space.decades(dimensions[0].sets)
        )

    def suggest(self, number: int, history: Sequence[TrialRecord]) -> Suggestion | Literal["wait", "done"]:
        if number >= self._settings.num_trials:
            return "done"
        point = ask(self._settings.space, history, self._sampler, max_epochs=self._settings.max_epochs)
        seeds = [r.suggestion.seed for r in history if point_key(r.suggestion.point) == point_key(point)]
        return Suggestion(
            point=point,
            overrides=self._settings.space.overrides(point),
            epochs=self._settings.max_epochs,
            seed=max(seeds, default=-1) + 1,
            phase="repeat" if seeds else "zoom",
        )


def _arms(study: Study, trial: FrozenTrial, name: str, distribution: FloatDistribution) -> dict[float, Arm]:
    """The values of the parameter that were tried, with their scores, to maximise, and the trials that are running."""
    sign = 1.0 if study.direction == StudyDirection.MAXIMIZE else -1.0
    trials = [
        other for other in study.get_trials(deepcopy=False) if name in other.params and other.number != trial.number
    ]
    finals = [sign * t.value for t in trials if t.state == TrialState.COMPLETE and t.value is not None]
    scores: dict[float, list[float]] = {}
    pending: Counter[float] = Counter()
    for other in trials:
        value = float(other.params[name])
        if other.state == TrialState.COMPLETE and other.value is not None:
            scores.setdefault(value, []).append(sign * other.value)
        elif other.user_attrs.get(DIVERGED):
            scores.setdefault(value, []).append(_diverged_score(finals))
        elif other.state == TrialState.RUNNING:
            pending[value] += 1
    return {
        value: Arm(_position(value, distribution), tuple(scores.get(value, ())), pending[value])
        for value in sorted({*scores, *pending})
    }


def _diverged_score(finals: Sequence[float]) -> float:
    return min(finals) - DIVERGED_BELOW if finals else 0.0


def _decades(distribution: FloatDistribution) -> float:
    return math.log10(distribution.high / distribution.low) if distribution.log else 1.0


def _position(value: float, distribution: FloatDistribution) -> float:
    low, high = distribution.low, distribution.high
    return math.log(value / low) / math.log(high / low) if distribution.log else (value - low) / (high - low)


def _value(position: float, distribution: FloatDistribution) -> float:
    low, high = distribution.low, distribution.high
    value = low * (high / low) ** position if distribution.log else low + position * (high - low)
    return min(max(value, low), high)
