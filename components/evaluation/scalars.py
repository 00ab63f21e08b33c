"""Single numbers from counts or scores, nan where undefined: fast enough for a bootstrap's inner loop.

nan stays inside this folder: `metrics` turns it into None before anything is written.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.stats import rankdata


@dataclass(frozen=True)
class Tally:
    """Images by class, (K,) int64 each: correctly predicted, of the class, and predicted as it.

    The scores below need no more: with a thousand classes, a K × K table has a million cells per resample.
    """

    hits: np.ndarray
    actual: np.ndarray
    predicted: np.ndarray


def tally(actual: np.ndarray, predicted: np.ndarray, count: int) -> Tally:
    """Count the images of `count` classes, from (N,) int class positions."""
    return Tally(
        *(np.bincount(classes, minlength=count) for classes in (actual[actual == predicted], actual, predicted))
    )


def balanced_accuracy(counts: Tally) -> float:
    """Mean recall over the classes that occur; nan when fewer than two do."""
    seen = counts.actual > 0
    if seen.sum() < 2:
        return float("nan")
    return float((counts.hits[seen] / counts.actual[seen]).mean())


def matthews(counts: Tally) -> float:
    """Matthews correlation (Gorodkin 2004 for K classes), in [−1, 1].

    nan when fewer than two classes occur; 0 when they do and one class alone is predicted.
    """
    actual, predicted = counts.actual.astype(np.float64), counts.predicted.astype(np.float64)
    total = actual.sum()
    spread_actual, spread_predicted = total**2 - actual @ actual, total**2 - predicted @ predicted
    if spread_actual <= 0:
        return float("nan")
    if spread_predicted <= 0:
        return 0.0
    return float((counts.hits.sum() * total - actual @ predicted) / np.sqrt(spread_actual * spread_predicted))


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
    if defects in (0, is_defect.size):
        return float("nan")
    order = np.argsort(-scores, kind="stable")
    ordered = scores[order]
    last_of_tie = np.append(np.flatnonzero(np.diff(ordered)), ordered.size - 1)
    caught = np.cumsum(is_defect[order])[last_of_tie]
    steps = np.diff(caught, prepend=0) / defects
    return float((steps * caught / (last_of_tie + 1)).sum())
