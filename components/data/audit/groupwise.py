"""Sampling and intervals that treat a group of images, not an image, as what is independent.

Intervals: the between-group variance of a mean (Liang & Zeger 1986), and for shares the exact binomial limits on the
effective number of observations (Korn & Graubard 1998), which stay honest where all or none are right.
"""

import numpy as np
import pandas as pd
from scipy import stats

Estimate = tuple[float, float, float]

_KEPT = 5  # groups of each class that a sample keeps at least, so that folds can still be made


def sample_groups(labels: np.ndarray, groups: np.ndarray, *, max_images: int, seed: int) -> np.ndarray:
    """Rows of whole groups drawn at random, max_images at most; all rows where they are no more than that.

    labels, groups: (N,) str. Returns (M,) int64, rising. Classes keep their proportions, except that a rare one keeps
    its first five groups. A group larger than max_images is never drawn.
    """
    if len(labels) <= max_images:
        return np.arange(len(labels))
    group, _ = pd.factorize(groups, sort=True)
    order = np.random.default_rng(seed).permutation(group.max() + 1)
    table = pd.DataFrame({"group": group, "label": labels}).groupby("group")["label"].agg(["first", "size"])
    drawn = table.iloc[order]
    rank = drawn.groupby("first").cumcount()
    share = rank / drawn.groupby("first")["size"].transform("count")
    drawn = drawn.iloc[np.argsort(share.where(rank >= _KEPT, 0.0).to_numpy(), kind="stable")]
    room, taken = max_images, np.zeros(len(table), bool)
    for name, size in zip(drawn.index.to_numpy(), drawn["size"], strict=True):
        if size <= room:
            taken[name] = True
            room -= size
        if not room:
            break
    return np.flatnonzero(taken[group])


def groups_per_class(labels: np.ndarray, groups: np.ndarray) -> pd.Series:
    return pd.DataFrame({"label": labels, "group": groups}).drop_duplicates()["label"].value_counts().sort_index()


def mean_interval(values: np.ndarray, groups: np.ndarray, *, confidence: float) -> Estimate:
    """Mean of all values, with two-sided limits from how the groups differ (Student's t); nan limits for one group.

    values: (N,) float; groups: (N,) int.
    """
    mean = float(values.mean())
    count = len(np.unique(groups))
    if count < 2:
        return mean, float("nan"), float("nan")
    margin = float(stats.t.ppf((1 + confidence) / 2, count - 1)) * _standard_error(values - mean, groups)
    return mean, mean - margin, mean + margin


def share_interval(right: np.ndarray, groups: np.ndarray, strata: np.ndarray, *, confidence: float) -> Estimate:
    """Share that is right, averaged over the strata with equal weight, with two-sided limits in [0, 1].

    right: (N,) float in [0, 1]; groups, strata: (N,) int. With the classes as strata it is the balanced accuracy, with
    one stratum the accuracy. There are never more independent observations than groups.
    """
    names, stratum, sizes = np.unique(strata, return_inverse=True, return_counts=True)
    shares = np.bincount(stratum, right) / sizes
    share = float(shares.mean())
    per_stratum = np.array([len(np.unique(groups[stratum == number])) for number in range(len(names))])
    effective = len(names) ** 2 / float((1 / per_stratum).sum())
    residual = (right - shares[stratum]) * len(right) / (len(names) * sizes[stratum])
    variance = _standard_error(residual, groups) ** 2
    if variance > 0:
        effective = min(effective, share * (1 - share) / variance)
    # Clopper–Pearson, on effective counts.
    tail, hits = (1 - confidence) / 2, share * effective
    misses = max(effective - hits, 0.0)
    low = float(stats.beta.ppf(tail, hits, misses + 1)) if hits > 0 else 0.0
    high = float(stats.beta.ppf(1 - tail, hits + 1, misses)) if misses > 0 else 1.0
    return share, low, high


def _standard_error(residuals: np.ndarray, groups: np.ndarray) -> float:
    """Of the mean of values whose residuals these are, when only groups are independent."""
    sums = np.bincount(np.unique(groups, return_inverse=True)[1], residuals)
    if len(sums) < 2:
        return 0.0
    return float(np.sqrt(len(sums) / (len(sums) - 1) * (sums**2).sum()) / len(residuals))
