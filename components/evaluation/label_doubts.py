"""Labels that a classifier doubts which has not seen them: hints for a person, after confident learning.

Northcutt, Jiang, Chuang 2021, "Confident learning: estimating uncertainty in dataset labels" (arXiv 1911.00068): an
image counts as of another class when that class's probability reaches the mean that it has on the images which carry
its label; the threshold of each class makes up for a classifier that is surer of some classes than of others.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

COLUMNS = ("row", "label", "suggested", "confidence")


def doubtful_labels(probabilities: np.ndarray, labels: np.ndarray, *, limit: int) -> pd.DataFrame:
    """The images that a class other than their label's is confidently found on, the worst first, `limit` at most.

    probabilities: (N, K) float in [0, 1], out of fold; a row with NaN is left out. labels: (N,) int in [0, K).

    Returns the columns row (int), label and suggested (positions in the classes), confidence: the probability of the
    suggested class less that of the label, in (0, 1].
    """
    rows = np.flatnonzero(np.isfinite(probabilities).all(axis=1))
    found, own = probabilities[rows], labels[rows]
    typical = np.full(found.shape[1], np.inf)  # a class without images is never suggested
    for label in np.unique(own):
        typical[label] = found[own == label, label].mean()
    confident = np.where(found >= typical, found, -1.0)
    suggested = confident.argmax(axis=1)
    every = np.arange(len(rows))
    margin = found[every, suggested] - found[every, own]
    listed = np.flatnonzero((confident[every, suggested] >= 0) & (suggested != own) & (margin > 0))
    worst = listed[np.argsort(-margin[listed], kind="stable")[:limit]]
    values = (rows[worst], own[worst], suggested[worst], margin[worst])
    return pd.DataFrame(dict(zip(COLUMNS, values, strict=True)))
