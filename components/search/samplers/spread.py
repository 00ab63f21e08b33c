"""Trials spread over the space, independent of results.

A Latin hypercube (McKay, Beckman, Conover 1979): each dimension is cut into as many slices as there are trials, and
each slice is used once. With few trials, independent draws would leave gaps in the learning rate.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from scipy.stats import qmc

from components.search.samplers.base import SamplerSettings
from components.search.samplers.points import enumerate_points, point_key
from components.search.space import Space
from components.search.trial import Suggestion, TrialRecord

SPREAD = "latin hypercube"


def latin_hypercube(space: Space, count: int, *, seed: int) -> np.ndarray:
    """Points in the unit cube, (count, dimensions) float in [0, 1); a function of the seed."""
    if count <= 0 or not space.dimensions:
        return np.empty((max(count, 0), len(space.dimensions)))
    return np.asarray(qmc.LatinHypercube(d=len(space.dimensions), rng=seed).random(count))


class SpreadSampler:
    """`count` trials that depend on the seed and the number alone.

    A space without intervals may have fewer points: then each is tried once, without those of the defaults and of the
    portfolio.
    """

    def __init__(self, settings: SamplerSettings, *, count: int) -> None:
        self._space, self._epochs, self._count = settings.space, settings.max_epochs, count
        self._cube = latin_hypercube(settings.space, count, seed=settings.seed)
        self._points = self._without_repetition(settings.seed, settings.portfolio)

    def suggest(self, number: int, history: Sequence[TrialRecord]) -> Suggestion | Literal["wait", "done"]:
        if number > (self._count if self._points is None else len(self._points)):
            return "done"
        point = self._space.from_cube(self._cube[number - 1]) if self._points is None else self._points[number - 1]
        return Suggestion(point=point, overrides=self._space.overrides(point), epochs=self._epochs, phase=SPREAD)

    def _without_repetition(self, seed: int, portfolio: Sequence[Suggestion]) -> list[dict[str, float | int]] | None:
        """The points of the cube, each once, completed with others; None for a space with an interval."""
        every = enumerate_points(self._space)
        if every is None:
            return None
        spread = [self._space.from_cube(place) for place in self._cube]
        others = [every[index] for index in np.random.default_rng(seed).permutation(len(every))]
        points = {point_key(point): point for point in [*spread, *others]}
        for tried in (self._space.point({}), *(suggestion.point for suggestion in portfolio)):
            if tried is not None:
                points.pop(point_key(tried), None)
        return list(points.values())[: self._count]


def random_sampler(settings: SamplerSettings) -> SpreadSampler:
    """`random`: all trials but the defaults', spread at once."""
    return SpreadSampler(settings, count=settings.num_trials - 1)
