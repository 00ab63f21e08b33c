"""What a few repetitions of a training say: a mean with its t interval, paired differences, steps to a target.

Repetitions differ by their seed. Two methods that were repeated with the same seeds are compared seed by seed, so that
what a seed does to both (its start, its order of the images) cancels. Student's t, since seeds are few.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from scipy import stats


@dataclass(frozen=True)
class Repeats:
    """A mean over repetitions. low, high: two-sided t limits, not cut to a metric's range.

    Without a value `mean` is None; with fewer than two so are `sd`, `low` and `high`: one repetition says nothing of
    its own spread.
    """

    count: int
    mean: float | None
    sd: float | None
    low: float | None
    high: float | None

    @property
    def half_width(self) -> float | None:
        """The ± of the interval."""
        return None if self.high is None or self.mean is None else self.high - self.mean

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class Reach:
    """How many repetitions reached a target, and the mean cost of those that did; None where none did."""

    reached: int
    count: int
    mean: float | None

    @property
    def share(self) -> float | None:
        """Of the repetitions; None without any."""
        return self.reached / self.count if self.count else None

    def to_dict(self) -> dict[str, Any]:
        return {**asdict(self), "share": self.share}


def mean_interval(values: Sequence[float | None], *, confidence: float) -> Repeats:
    """Mean ± t · sd / √n of the values that are known.

    values: one per repetition, None or nan where it gave none. confidence: in (0, 1). Repetitions that agree exactly
    have an interval of no width, which for a metric counted on few images is too good.
    """
    known = np.array([value for value in values if value is not None and math.isfinite(value)], dtype=float)
    if not known.size:
        return Repeats(0, None, None, None, None)
    mean = float(known.mean())
    if known.size == 1:
        return Repeats(1, mean, None, None, None)
    sd = float(known.std(ddof=1))
    half = float(stats.t.ppf((1 + confidence) / 2, known.size - 1)) * sd / math.sqrt(known.size)
    return Repeats(int(known.size), mean, sd, mean - half, mean + half)


def paired_gap(
    values: Mapping[int, float | None], reference: Mapping[int, float | None], *, confidence: float
) -> Repeats:
    """values − reference, over the seeds for which both are known. Both: seed → value."""
    shared = sorted(values.keys() & reference.keys())
    gaps = [_difference(values[seed], reference[seed]) for seed in shared]
    return mean_interval(gaps, confidence=confidence)


def first_reach(costs: Sequence[float], losses: Sequence[float | None], target: float) -> float | None:
    """The cost (steps, seconds) at which the loss first is at the target or below; None where it never is.

    costs: rising, one per evaluation. losses: of the same evaluations, None or nan where there was none; those are
    passed over. Between two evaluations the loss is taken to fall in a straight line. A target that the first
    evaluation has reached is counted at that evaluation: nothing is known of the time before.
    """
    before: tuple[float, float] | None = None
    for cost, loss in zip(costs, losses, strict=True):
        if loss is None or not math.isfinite(loss):
            continue
        if loss <= target:
            if before is None:
                return float(cost)
            last_cost, last_loss = before
            return last_cost + (cost - last_cost) * (last_loss - target) / (last_loss - loss)
        before = float(cost), loss
    return None


def reach(costs: Sequence[float | None]) -> Reach:
    """Of the results of `first_reach`, one per repetition."""
    known = [cost for cost in costs if cost is not None]
    return Reach(len(known), len(costs), float(np.mean(known)) if known else None)


def _difference(value: float | None, reference: float | None) -> float | None:
    return None if value is None or reference is None else value - reference
