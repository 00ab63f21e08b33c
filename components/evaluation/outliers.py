"""Images that look like no other: far from their nearest neighbours in the space of frozen features.

The distance to the k nearest neighbours as a measure of how odd a point is: Ramaswamy, Rastogi, Shim 2000. Robust z:
Iglewicz & Hoaglin 1993, the median and the median absolute deviation in place of mean and standard deviation.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from sklearn.metrics import pairwise_distances_chunked

#: Of a normal distribution: its standard deviation, in median absolute deviations.
PER_DEVIATION = 1.4826


def neighbour_distances(features: np.ndarray, groups: np.ndarray, *, k: int) -> np.ndarray:
    """(N,) float64: mean distance of each image to its k nearest images of other groups; NaN where there are none.

    features: (N, F) float, compared by direction (each is scaled to the length 1). groups: (N,) ids: images of one part
    lie close together, and would hide that none other lies close.
    """
    codes = np.unique(groups, return_inverse=True)[1]
    lengths = np.linalg.norm(features, axis=1, keepdims=True)
    directions = np.divide(features, lengths, out=np.zeros_like(features), where=lengths > 0)
    k = min(k, len(features) - 1)

    def nearest(distances: np.ndarray, start: int) -> np.ndarray:
        distances[codes[start : start + len(distances), None] == codes] = np.inf
        return np.asarray(np.partition(distances, k - 1, axis=1)[:, :k])

    if k < 1:
        return np.full(len(features), np.nan)
    chunks: Iterator[np.ndarray] = pairwise_distances_chunked(directions, reduce_func=nearest)
    found = np.concatenate(list(chunks)).astype(np.float64)
    known = np.isfinite(found)
    total, count = np.where(known, found, 0.0).sum(axis=1), known.sum(axis=1)
    return np.asarray(np.divide(total, count, out=np.full(len(found), np.nan), where=count > 0))


def robust_z(values: np.ndarray) -> np.ndarray:
    """(N,) how many robust standard deviations each value lies above the median; NaN for NaN, 0 without spread."""
    middle = np.nanmedian(values) if np.isfinite(values).any() else np.nan
    spread = PER_DEVIATION * np.nanmedian(np.abs(values - middle)) if np.isfinite(middle) else np.nan
    return np.asarray((values - middle) / spread if spread > 0 else np.where(np.isfinite(values), 0.0, np.nan))
