"""How trials are spread over the space.

A Latin hypercube (McKay, Beckman, Conover 1979): each dimension is cut into as many slices as there are trials, and
each slice is used once. With the few trials that a training affords, independent draws leave holes in the learning
rate.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from scipy.stats import qmc

from components.search.space import Dimension, overrides_at


def latin_hypercube(space: Sequence[Dimension], num_trials: int, *, seed: int) -> list[dict[str, Any]]:
    """`num_trials` overrides, spread over the space; the same seed gives the same trials."""
    if num_trials == 0 or not space:
        return [{} for _ in range(num_trials)]
    points = qmc.LatinHypercube(d=len(space), rng=seed).random(num_trials)
    return [overrides_at(space, point) for point in points]
