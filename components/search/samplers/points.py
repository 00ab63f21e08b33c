"""Points of a search space: telling them apart, counting those of a space of choices, drawing at random."""

from __future__ import annotations

import numpy as np

from components.search.space import Choice, Space, is_active
from components.search.trial import Point

PointKey = tuple[tuple[str, float], ...]
#: A space of more choices than this is taken for endless.
MOST_CHOICES = 100_000


def point_key(point: Point) -> PointKey:
    """The same for points that set the same, whatever the order of their coordinates and the last digits."""
    return tuple(sorted([(sets, round(coordinate, 9)) for sets, coordinate in point.items()]))


def active_part(space: Space, point: Point) -> dict[str, float | int]:
    """A point without the coordinates of dimensions whose condition it does not meet."""
    kept: dict[str, float | int] = {}
    for dimension in space.ordered():
        if dimension.sets in point and is_active(dimension, {**space.defaults, **space.overrides(kept)}):
            kept[dimension.sets] = point[dimension.sets]
    return kept


def choice_points(space: Space) -> list[dict[str, float | int]] | None:
    """Every combination of the choices under their conditions, intervals left out; None beyond MOST_CHOICES."""
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
            if len(longer) > MOST_CHOICES:
                return None
        points = longer
    return points


def countable_points(space: Space) -> list[dict[str, float | int]] | None:
    """Every point of a space without intervals; None where there is no end to them."""
    return choice_points(space) if all(isinstance(entry, Choice) for entry in space.dimensions) else None


def random_point(space: Space, *, seed: int, number: int) -> dict[str, float | int]:
    """A trial's own draw, independent of the others."""
    return space.from_cube([float(u) for u in np.random.default_rng([seed, number]).random(len(space.dimensions))])


def trial_seed(seed: int, number: int) -> int:
    """A seed of a trial's own, in the 32 bits that every generator takes."""
    return int(np.random.SeedSequence([seed, number]).generate_state(1)[0])
