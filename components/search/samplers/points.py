"""Points of a search space: comparison, enumeration for a space of choices, random draws."""

from __future__ import annotations

import numpy as np

from components.search.space import Choice, Space, is_active
from components.search.trial import Point

PointKey = tuple[tuple[str, float], ...]
#: A space with more combinations of choices counts as infinite.
MAX_CHOICES = 100_000


def point_key(point: Point) -> PointKey:
    """A key that is equal for equal points, regardless of the order of the coordinates and of rounding."""
    return tuple(sorted([(sets, round(coordinate, 9)) for sets, coordinate in point.items()]))


def active_part(space: Space, point: Point) -> dict[str, float | int]:
    """The coordinates of the dimensions whose condition the point meets."""
    kept: dict[str, float | int] = {}
    for dimension in space.ordered():
        if dimension.sets in point and is_active(dimension, {**space.defaults, **space.overrides(kept)}):
            kept[dimension.sets] = point[dimension.sets]
    return kept


def choice_points(space: Space) -> list[dict[str, float | int]] | None:
    """Every combination of the choices under their conditions, intervals left out; None beyond MAX_CHOICES."""
    points: list[dict[str, float | int]] = [{}]
    for dimension in space.ordered():
        if not isinstance(dimension, Choice):
            continue
        longer: list[dict[str, float | int]] = []
        for point in points:
            if is_active(dimension, {**space.defaults, **space.overrides(point)}):
                longer += [{**point, dimension.sets: index} for index in range(len(dimension.values))]
            else:
                longer.append(point)
            if len(longer) > MAX_CHOICES:
                return None
        points = longer
    return points


def enumerate_points(space: Space) -> list[dict[str, float | int]] | None:
    """All points of a space without intervals; None where there are infinitely many."""
    return choice_points(space) if all(isinstance(entry, Choice) for entry in space.dimensions) else None


def random_point(space: Space, *, seed: int, number: int) -> dict[str, float | int]:
    """A random point for a trial, independent of the others."""
    return space.from_cube([float(u) for u in np.random.default_rng([seed, number]).random(len(space.dimensions))])


def trial_seed(seed: int, number: int) -> int:
    """The seed of a trial, 32 bits, which every generator accepts."""
    return int(np.random.SeedSequence([seed, number]).generate_state(1)[0])
