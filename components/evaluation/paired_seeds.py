"""Results over a few seeds: a mean with its t interval, and differences paired by seed.

Two methods with the same seeds are compared seed by seed, so that the effect of a seed on both (the initial weights,
the order of the images) cancels. Student's t, since there are few seeds.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from scipy import stats


@dataclass(frozen=True)
class SeedMean:
    """A mean over seeds. low, high: two-sided t limits, not cut to a metric's range.

    Without a value `mean` is None; with fewer than two so are `low` and `high`: one seed says nothing of the spread
    between seeds.
    """

    count: int
    mean: float | None
    low: float | None
    high: float | None

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def mean_interval(values: Sequence[float | None], *, confidence: float) -> SeedMean:
    """Mean ± t · sd / √n of the values that are known.

    values: one per seed, None or nan where it gave none. confidence: in (0, 1). Seeds that agree exactly have an
    interval of no width, which for a metric counted on few images is too good.
    """
    known = np.array([value for value in values if value is not None and math.isfinite(value)], dtype=float)
    if not known.size:
        return SeedMean(0, None, None, None)
    mean = float(known.mean())
    if known.size == 1:
        return SeedMean(1, mean, None, None)
    half = float(stats.t.ppf((1 + confidence) / 2, known.size - 1) * known.std(ddof=1)) / math.sqrt(known.size)
    return SeedMean(int(known.size), mean, mean - half, mean + half)


def difference_by_seed(
    values: Mapping[int, float | None], reference: Mapping[int, float | None], *, confidence: float
) -> SeedMean:
    """The mean of values − reference, over the seeds for which both are known. Both: seed → value."""
    pairs = [(values[seed], reference[seed]) for seed in sorted(values.keys() & reference.keys())]
    return mean_interval(
        [one - other for one, other in pairs if one is not None and other is not None], confidence=confidence
    )
