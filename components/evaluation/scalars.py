"""Single numbers from counts or scores, nan where undefined: fast enough for a bootstrap's inner loop.

nan stays inside this folder: `metrics` turns it into None before anything is written.
"""

from __future__ import annotations

import numpy as np
from scipy.stats import rankdata

ECE_BINS = 15
"""Equal-width bins, as in Guo et al. 2017 (arXiv 1706.04599)."""


def balanced_accuracy(table: np.ndarray) -> float:
    """Mean recall over the classes that occur. table: (K, K) counts, rows actual, columns predicted.

    nan when fewer than two classes occur.
    """
    actual = table.sum(axis=1)
    seen = actual > 0
    if seen.sum() < 2:
        return float("nan")
    return float((np.diag(table)[seen] / actual[seen]).mean())


def matthews(table: np.ndarray) -> float:
    """Matthews correlation (Gorodkin 2004 for K classes), in [−1, 1]. table: (K, K) counts, rows actual.

    nan when fewer than two classes occur; 0 when they do and one class alone is predicted.
    """
    table = table.astype(np.float64)
    actual, predicted, total = table.sum(axis=1), table.sum(axis=0), table.sum()
    spread_actual, spread_predicted = total**2 - actual @ actual, total**2 - predicted @ predicted
    if spread_actual <= 0:
        return float("nan")
    if spread_predicted <= 0:
        return 0.0
    return float((np.trace(table) * total - actual @ predicted) / np.sqrt(spread_actual * spread_predicted))


def f1(table: np.ndarray, positive: int) -> float:
    """Harmonic mean of recall and precision of one class; nan when it neither occurs nor is predicted."""
    occurs = table[positive, :].sum() + table[:, positive].sum()
    return float(2 * table[positive, positive] / occurs) if occurs else float("nan")


def auroc(scores: np.ndarray, is_defect: np.ndarray) -> float:
    """P(a defective scores above a good one), ties counting half (Mann–Whitney); nan for one class."""
    defects = int(is_defect.sum())
    goods = is_defect.size - defects
    if defects == 0 or goods == 0:
        return float("nan")
    rank_sum = rankdata(scores)[is_defect].sum()
    return float((rank_sum - defects * (defects + 1) / 2) / (defects * goods))


def average_precision(scores: np.ndarray, is_defect: np.ndarray) -> float:
    """Σ (recall step) · precision over the distinct scores, no interpolation; nan for one class."""
    defects = int(is_defect.sum())
    if defects == 0 or defects == is_defect.size:
        return float("nan")
    order = np.argsort(-scores, kind="stable")
    ordered = scores[order]
    last_of_tie = np.append(np.flatnonzero(np.diff(ordered)), ordered.size - 1)
    caught = np.cumsum(is_defect[order])[last_of_tie]
    steps = np.diff(caught, prepend=0) / defects
    return float((steps * caught / (last_of_tie + 1)).sum())


def expected_calibration_error(scores: np.ndarray, is_defect: np.ndarray) -> float:
    """Mean gap between score and share of defectives over `ECE_BINS` bins, in [0, 1]; nan without images."""
    if scores.size == 0:
        return float("nan")
    bins = np.minimum((scores * ECE_BINS).astype(np.int64), ECE_BINS - 1)
    gaps = np.bincount(bins, weights=scores - is_defect, minlength=ECE_BINS)
    return float(np.abs(gaps).sum() / scores.size)


def confusion(actual: np.ndarray, predicted: np.ndarray, count: int) -> np.ndarray:
    """(count, count) int64 table, rows actual, columns predicted, from (N,) int class positions."""
    return np.bincount(actual * count + predicted, minlength=count * count).reshape(count, count)
