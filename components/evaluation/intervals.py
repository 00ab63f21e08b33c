"""Bounds on rates: Clopper–Pearson for independent images, effective counts and bootstrap for grouped ones.

Clopper & Pearson 1934 (exact binomial limits); Korn & Graubard 1998 (Survey Methodology 24: the same limits
on an effective sample size); Efron's percentile bootstrap, resampling whole groups.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import special, stats


@dataclass(frozen=True)
class Rate:
    """A rate that carries what it was counted from.

    value, low, high: in [0, 1], None when the denominator is 0; low and high are two-sided limits.
    effective: the effective number of independent observations for the limits; below the denominator
    where images share a group.
    """

    numerator: int
    denominator: int
    value: float | None
    low: float | None
    high: float | None
    confidence: float
    unit: str
    effective: float

    def to_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self)


@dataclass(frozen=True)
class Interval:
    """Two-sided bootstrap limits; None where the resamples cannot give them.

    dropped: resamples without a value (one class only).
    """

    low: float | None
    high: float | None
    dropped: int


def upper_bound(k: float, n: float, *, confidence: float) -> float:
    """One-sided Clopper–Pearson upper bound of k in n; 1.0 for n = 0. k and n may be effective counts."""
    if k >= n:
        return 1.0
    return float(special.betaincinv(k + 1, n - k, confidence))


def lower_bound(k: float, n: float, *, confidence: float) -> float:
    """One-sided Clopper–Pearson lower bound of k in n; 0.0 for n = 0. k and n may be effective counts."""
    if k <= 0 or n <= 0:
        return 0.0
    return float(special.betaincinv(k, n - k + 1, 1 - confidence))


def exact_rate(k: int, n: int, *, confidence: float, unit: str) -> Rate:
    """Two-sided Clopper–Pearson limits of k in n independent observations; n = 0 gives value None."""
    return _rate(int(k), int(n), float(n), confidence=confidence, unit=unit)


def grouped_rate(hits: np.ndarray, groups: np.ndarray, *, confidence: float, unit: str) -> Rate:
    """The share of hits, with limits that know that images of one group are not independent.

    hits: (N,) bool; groups: (N,) group ids.
    Limits: Clopper–Pearson on the effective number of observations, see `effective_observations`.
    """
    effective = effective_observations(hits, groups, confidence=confidence) if hits.size else 0.0
    return _rate(int(hits.sum()), hits.size, effective, confidence=confidence, unit=unit)


def effective_observations(hits: np.ndarray, groups: np.ndarray, *, confidence: float) -> float:
    """How many independent observations N grouped ones are worth for their mean; N when no group has two.

    Korn–Graubard: N over the design effect (between-group variance over the binomial one), times the
    ratio of squared t quantiles for the degrees of freedom. Never above N, and never below `kish_size`.
    With no hit, or nothing but hits, the variance says nothing and the lower end is taken.
    """
    total = hits.size
    _, codes = np.unique(groups, return_inverse=True)
    sizes = np.bincount(codes)
    if sizes.size == total:
        return float(total)
    floor = kish_size(groups)
    rate = float(hits.mean())
    if rate in (0.0, 1.0) or sizes.size < 2:
        return floor
    residuals = np.bincount(codes, weights=hits - rate)
    clustered = sizes.size / (sizes.size - 1) * float(np.sum(residuals**2)) / total**2
    binomial = rate * (1 - rate) / (total - 1)
    if clustered == 0.0:
        return float(total)
    tail = (1 + confidence) / 2
    freedom = (stats.t.ppf(tail, total - 1) / stats.t.ppf(tail, sizes.size - 1)) ** 2
    return float(np.clip(total * binomial / clustered * freedom, floor, total))


def kish_size(groups: np.ndarray) -> float:
    """N²/Σm² (Kish; m the group sizes): what N images are worth if those of one group are wholly alike."""
    _, sizes = np.unique(groups, return_counts=True)
    return float(sizes.sum() ** 2 / np.sum(sizes.astype(float) ** 2))


def defects_needed(budget: float, *, confidence: float) -> int:
    """The smallest number of defectives that, without a miss, prove an escape rate of at most `budget`.

    budget: in (0, 1). 59 for 0.05 and confidence 0.95 (the zero-response bound).
    Raises ValueError for a budget outside (0, 1): no finite sample proves a rate of 0.
    """
    if not 0 < budget < 1:
        raise ValueError(f"budget={budget}: only a rate above 0 and below 1 can be proved")
    needed = int(math.log1p(-confidence) / math.log1p(-budget))
    while upper_bound(0, needed, confidence=confidence) > budget:
        needed += 1
    return needed


def percentile_interval(values: np.ndarray, *, confidence: float) -> Interval:
    """Percentile limits of (B,) resampled values, nan for dropped ones.

    No limits when fewer than half of the resamples have a value, or when all have the same one: a
    perfect score on a small set resamples to itself, and a band of width 0 would claim certainty.
    """
    kept = values[~np.isnan(values)]
    dropped = int(values.size - kept.size)
    if kept.size == 0 or kept.size < values.size / 2 or np.ptp(kept) < 1e-12:
        return Interval(None, None, dropped)
    tail = (1 - confidence) / 2
    low, high = np.quantile(kept, [tail, 1 - tail])
    return Interval(float(low), float(high), dropped)


def bootstrap_values(
    statistic: Callable[[np.ndarray], float | np.ndarray],
    groups: np.ndarray,
    *,
    samples: int,
    seed: int,
) -> np.ndarray:
    """(samples, S) float64: the statistic, a number or an (S,) array, on each resample of whole groups.

    The resamples depend on groups, samples and seed alone, so that two calls can be paired.
    """
    _, codes = np.unique(np.asarray(groups), return_inverse=True)
    members = np.argsort(codes, kind="stable")
    sizes = np.bincount(codes)
    starts = np.cumsum(sizes) - sizes
    generator = np.random.default_rng(seed)
    rows = []
    for _ in range(samples):
        drawn = generator.integers(0, sizes.size, sizes.size) if sizes.size else np.empty(0, dtype=np.int64)
        rows.append(np.atleast_1d(statistic(members[_runs(starts[drawn], sizes[drawn])])))
    return np.asarray(rows, dtype=np.float64)


def _runs(starts: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """Concatenated ranges start … start + length, without a Python loop."""
    offsets = starts - (np.cumsum(lengths) - lengths)
    return np.repeat(offsets, lengths) + np.arange(int(lengths.sum()))


def _rate(k: int, n: int, effective: float, *, confidence: float, unit: str) -> Rate:
    if n == 0:
        return Rate(0, 0, None, None, None, confidence, unit, 0.0)
    tail = (1 + confidence) / 2
    hits = k * effective / n
    return Rate(
        numerator=k,
        denominator=n,
        value=k / n,
        low=lower_bound(hits, effective, confidence=tail),
        high=upper_bound(hits, effective, confidence=tail),
        confidence=confidence,
        unit=unit,
        effective=effective,
    )
