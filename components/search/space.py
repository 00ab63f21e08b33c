"""The search space: the keys that a trial sets, and the overrides of a point.

A dimension has the dotted path of its key as name. A point has a coordinate for each: a position in [0, 1] for an
interval, the index of a value for a choice. The coordinate of a learning rate is relative to the bounds that the range
test found for the trial's *own* backbone and optimizer.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from components.errors import InputError
from components.optim.optimizers import batch_factor
from components.search.trial import Point

BACKBONE, OPTIMIZER, BATCH_SIZE, LR = "model.backbone", "recipe.optimizer", "recipe.batch_size", "recipe.lr"
#: (backbone, optimizer) → what the range test found.
Rates = Mapping[tuple[str, str], float]
RateBounds = Mapping[tuple[str, str], tuple[float, float]]


@dataclass(frozen=True)
class Condition:
    """A dimension is searched only where `key` has one of `values`."""

    key: str
    values: tuple[Any, ...]


@dataclass(frozen=True)
class Choice:
    """One of several values, equally likely."""

    sets: str
    values: tuple[Any, ...]
    when: tuple[Condition, ...] = ()

    def at(self, coordinate: float, settings: Mapping[str, Any]) -> Any:  # noqa: ANN401 - whatever the key holds
        return self.values[int(coordinate)]

    def coordinate(self, value: Any, settings: Mapping[str, Any]) -> int | None:  # noqa: ANN401
        """The coordinate of a value; None where the dimension does not contain it."""
        return self.values.index(value) if value in self.values else None


@dataclass(frozen=True)
class Interval:
    """A number between `low` and `high`, uniform or log-uniform."""

    sets: str
    low: float
    high: float
    log: bool
    when: tuple[Condition, ...] = ()

    def at(self, coordinate: float, settings: Mapping[str, Any]) -> float:
        return _between(self.low, self.high, coordinate, log=self.log)

    def coordinate(self, value: Any, settings: Mapping[str, Any]) -> float | None:  # noqa: ANN401
        return _position(self.low, self.high, value, log=self.log)


@dataclass(frozen=True)
class RateInterval:
    """A log-uniform learning rate within the range test's bounds, which were measured at `batch_size`."""

    sets: str
    bounds: RateBounds
    batch_size: int
    when: tuple[Condition, ...] = ()

    def at(self, coordinate: float, settings: Mapping[str, Any]) -> float:
        low, high = self.limits(settings)
        return _between(low, high, coordinate, log=True)

    def coordinate(self, value: Any, settings: Mapping[str, Any]) -> float | None:  # noqa: ANN401
        low, high = self.limits(settings)
        return _position(low, high, value, log=True)

    def limits(self, settings: Mapping[str, Any]) -> tuple[float, float]:
        """Lowest and highest rate for the backbone, optimizer and batch size of a trial."""
        low, high = self.bounds[settings[BACKBONE], settings[OPTIMIZER]]
        factor = _scaled(settings, self.batch_size)
        return low * factor, high * factor


Dimension = Choice | Interval | RateInterval


@dataclass(frozen=True)
class SuggestedRate:
    """The range test's suggestion, for trials that change its conditions and do not set the rate.

    asked_only: only for trials whose rate is set to `auto`.
    """

    rates: Rates
    batch_size: int
    asked_only: bool = False

    def of(self, settings: Mapping[str, Any]) -> float:
        return self.rates[settings[BACKBONE], settings[OPTIMIZER]] * _scaled(settings, self.batch_size)


@dataclass(frozen=True)
class Space:
    """The dimensions of a search over a recipe.

    defaults: the recipe's settings by dotted path, including BACKBONE, OPTIMIZER and BATCH_SIZE. rate: the rate of
    trials for which no dimension sets it; None: the recipe's own.
    """

    dimensions: tuple[Dimension, ...]
    defaults: Mapping[str, Any]
    rate: SuggestedRate | None = None

    def overrides(self, point: Point) -> dict[str, Any]:
        """The settings of a trial, without those of dimensions whose condition does not hold."""
        chosen: dict[str, Any] = {}
        for dimension in self.ordered():
            settings = {**self.defaults, **chosen}
            if dimension.sets in point and is_active(dimension, settings):
                chosen[dimension.sets] = dimension.at(point[dimension.sets], settings)
        if self.rate is not None and (chosen[LR] == "auto" if LR in chosen else not self.rate.asked_only):
            chosen[LR] = self.rate.of({**self.defaults, **chosen})
        return chosen

    def point(self, settings: Mapping[str, Any]) -> dict[str, float | int] | None:
        """The point of settings over the defaults; None where a dimension does not contain one of them."""
        settings = {**self.defaults, **settings}
        point: dict[str, float | int] = {}
        for dimension in self.ordered():
            if not is_active(dimension, settings):
                continue
            coordinate = dimension.coordinate(settings[dimension.sets], settings)
            if coordinate is None:
                return None
            point[dimension.sets] = coordinate
        return point

    def from_cube(self, cube: Sequence[float]) -> dict[str, float | int]:
        """The point of a vector of the unit cube, one number in [0, 1] per dimension, in the order of `dimensions`."""
        place = {dimension.sets: u for dimension, u in zip(self.dimensions, cube, strict=True)}
        point: dict[str, float | int] = {}
        for dimension in self.ordered():
            if not is_active(dimension, {**self.defaults, **self.overrides(point)}):
                continue
            u = float(place[dimension.sets])
            point[dimension.sets] = (
                min(int(u * len(dimension.values)), len(dimension.values) - 1) if isinstance(dimension, Choice) else u
            )
        return point

    def ordered(self) -> list[Dimension]:
        """The dimensions, each after those that it depends on."""
        left, done = list(self.dimensions), []
        while left:
            names = {dimension.sets for dimension in left}
            ready = [dimension for dimension in left if not (_needs(dimension) - {dimension.sets}) & names]
            if not ready:
                cycle = ", ".join(sorted(names))
                raise InputError(f"search.space: the conditions of {cycle} depend on each other; remove one of them")
            done += ready
            left = [dimension for dimension in left if dimension not in ready]
        return done

    def decades(self, sets: str) -> float:
        """Width of a logarithmic dimension in decades, for the defaults' other settings; 1 for any other."""
        dimension = next(entry for entry in self.dimensions if entry.sets == sets)
        if isinstance(dimension, RateInterval):
            low, high = dimension.limits(self.defaults)
        elif isinstance(dimension, Interval) and dimension.log:
            low, high = dimension.low, dimension.high
        else:
            return 1.0
        return math.log10(high / low)


def is_active(dimension: Dimension, settings: Mapping[str, Any]) -> bool:
    """Whether the condition of a dimension holds."""
    return all(settings.get(condition.key) in condition.values for condition in dimension.when)


def _needs(dimension: Dimension) -> set[str]:
    keys = {condition.key for condition in dimension.when}
    return keys | {BACKBONE, OPTIMIZER, BATCH_SIZE} if isinstance(dimension, RateInterval) else keys


def _scaled(settings: Mapping[str, Any], measured: int) -> float:
    return batch_factor(settings[OPTIMIZER], batch_size=settings[BATCH_SIZE], measured=measured)


def _between(low: float, high: float, u: float, *, log: bool) -> float:
    if log:
        return math.exp(math.log(low) + u * (math.log(high) - math.log(low)))
    return low + u * (high - low)


def _position(low: float, high: float, value: object, *, log: bool) -> float | None:
    if not isinstance(value, int | float) or not low - 1e-9 * abs(low) <= value <= high + 1e-9 * abs(high):
        return None
    if log:
        low, high, value = math.log(low), math.log(high), math.log(value)
    u = (value - low) / (high - low)
    return min(max(u, 0.0), 1.0)
