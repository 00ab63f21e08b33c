"""The search space: what a trial may set, and how a point of the unit cube becomes a trial's overrides.

Dimensions are named by the dotted path of the key that they set. A learning rate is drawn within the bounds that the
range test found for the *trial's* optimizer, so the same coordinate means the same place in each optimizer's range.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Choice:
    """One of several values, equally likely."""

    sets: str
    values: tuple[Any, ...]

    def at(self, u: float, chosen: Mapping[str, Any]) -> Any:  # noqa: ANN401 - whatever the key holds
        return self.values[min(int(u * len(self.values)), len(self.values) - 1)]


@dataclass(frozen=True)
class Interval:
    """A number between `low` and `high`, uniform or log-uniform."""

    sets: str
    low: float
    high: float
    log: bool

    def at(self, u: float, chosen: Mapping[str, Any]) -> float:
        return _between(self.low, self.high, u, log=self.log)


@dataclass(frozen=True)
class ConditionalInterval:
    """A log-uniform number whose bounds depend on the value of another key."""

    sets: str
    depends_on: str
    bounds: Mapping[str, tuple[float, float]]
    default: str
    """Value of `depends_on` where no trial sets it."""

    def at(self, u: float, chosen: Mapping[str, Any]) -> float:
        low, high = self.bounds[chosen.get(self.depends_on, self.default)]
        return _between(low, high, u, log=True)


Dimension = Choice | Interval | ConditionalInterval


def overrides_at(space: Sequence[Dimension], point: Sequence[float]) -> dict[str, Any]:
    """The overrides at a point of the unit cube, one coordinate in [0, 1) per dimension.

    Dimensions that others depend on are resolved first, whatever their order in the space.
    """
    overrides: dict[str, Any] = {}
    ordered = sorted(zip(space, point, strict=True), key=lambda pair: isinstance(pair[0], ConditionalInterval))
    for dimension, u in ordered:
        overrides[dimension.sets] = dimension.at(float(u), overrides)
    return overrides


def _between(low: float, high: float, u: float, *, log: bool) -> float:
    if log:
        return math.exp(math.log(low) + u * (math.log(high) - math.log(low)))
    return low + u * (high - low)
