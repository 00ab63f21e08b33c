"""The leakage probe: how much a split drawn image by image would flatter a model.

A classifier that can only remember (the nearest neighbour) is judged twice: under folds drawn at random and under folds
that keep groups (parts, lots, near duplicates) whole. What it loses is what it owed to having seen the same part.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from sklearn.metrics import pairwise_distances_chunked
from sklearn.model_selection import StratifiedKFold

from components.data.audit.groupwise import (
    Estimate,
    groups_per_class,
    mean_interval,
    share_interval,
)
from components.data.stratify import draw_folds
from components.display import listed

_FOLDS = 5
_REPEATS = 3  # draws of the folds: the luck of one draw is about half a point on 1,000 images
_CONFIDENCE = 0.95
_FEWEST_GROUPS = 10  # below it no interval means anything


@dataclass(frozen=True)
class LeakageProbe:
    """Accuracies in [0, 1] with 95 % intervals; None where there is nothing to measure, as `statement` then says.

    images: how many the probe used. folds: how many parts they were cut into; 0 where no folds can be made.
    overstatement: random less grouped accuracy. leaks: the interval of the overstatement lies above zero.
    """

    images: int
    statement: str
    folds: int = 0
    random_accuracy: float | None = None
    random_interval: tuple[float, float] | None = None
    grouped_accuracy: float | None = None
    grouped_interval: tuple[float, float] | None = None
    overstatement: float | None = None
    overstatement_interval: tuple[float, float] | None = None
    leaks: bool = False


def probe_leakage(features: np.ndarray, labels: np.ndarray, groups: np.ndarray, *, seed: int) -> LeakageProbe:
    """Accuracy of the nearest neighbour under random and under grouped folds, and the difference in words.

    features: (N, D) float32, as `probe_features` gives them; labels, groups: (N,) str. A class whose images are all in
    one group cannot be both learned and tested: it is left out. Under five groups in the rarest class there are as many
    folds as it has groups.
    """
    spread = groups_per_class(labels, groups)
    alone = sorted(spread.index[spread < 2])
    used = np.flatnonzero(~np.isin(labels, alone))
    notes = f" Left out, because all their images are in one group: {listed(alone)}." if alone else ""
    y, _ = pd.factorize(labels[used], sort=True)
    group, _ = pd.factorize(groups[used], sort=True)
    spread = spread.drop(alone)
    if len(spread) < 2:
        return LeakageProbe(len(used), "Leakage cannot be probed: it takes two classes with two groups each." + notes)
    folds = min(_FOLDS, int(spread.min()))
    by_image = _draw_folds(y, None, folds=folds, seed=seed)
    if len(np.unique(group)) == len(group):
        random = _share_right(_correct(features[used], y, by_image), group)
        statement = (
            "There is nothing to compare: no two images share a group, so random folds are grouped folds; the nearest "
            f"neighbour is right for {_percent(random[0])}. If parts were imaged more than once, name the part of each "
            "image in data.group_column."
        )
        return LeakageProbe(len(used), statement + notes, folds, random[0], random[1:])
    by_group = _draw_folds(y, group, folds=folds, seed=seed)
    right = _correct(features[used], y, np.concatenate([by_image, by_group]))
    random, grouped = _share_right(right[:_REPEATS], group), _share_right(right[_REPEATS:], group)
    lost = right[:_REPEATS].mean(axis=0) - right[_REPEATS:].mean(axis=0)
    # Student's t has no bounds, but a difference of two shares does.
    value, low, high = np.clip(mean_interval(lost, group, confidence=_CONFIDENCE), -1.0, 1.0).tolist()
    difference = (value, low, high)
    enough = len(np.unique(group)) >= _FEWEST_GROUPS
    return LeakageProbe(
        images=len(used),
        folds=folds,
        random_accuracy=random[0],
        random_interval=random[1:],
        grouped_accuracy=grouped[0],
        grouped_interval=grouped[1:],
        overstatement=difference[0],
        overstatement_interval=difference[1:],
        leaks=enough and difference[1] > 0,
        statement=_statement(random, grouped, difference, group) + notes,
    )


def _draw_folds(y: np.ndarray, group: np.ndarray | None, *, folds: int, seed: int) -> np.ndarray:
    """(draws, N) int: the fold of each image, by image, or by group where groups are given."""
    drawn = np.zeros((_REPEATS, len(y)), dtype=np.int64)
    for row, draw in zip(drawn, np.random.default_rng(seed).integers(2**31, size=_REPEATS), strict=True):
        if group is not None:
            row[:] = draw_folds(y, group, folds, seed=int(draw))
            continue
        cuts = StratifiedKFold(folds, shuffle=True, random_state=int(draw)).split(y, y)
        for number, (_, test) in enumerate(cuts):
            row[test] = number
    return drawn


def _correct(features: np.ndarray, y: np.ndarray, drawn: np.ndarray) -> np.ndarray:
    """(draws, N) bool: the nearest neighbour outside the image's own fold has its class.

    One table of distances serves all draws: a classifier fitted on each fold took four times as long.
    """

    def right(distances: np.ndarray, start: int) -> np.ndarray:
        rows = np.arange(start, start + len(distances))
        nearest = [np.where(fold[rows, None] == fold, np.inf, distances).argmin(axis=1) for fold in drawn]
        return np.asarray(y[np.stack(nearest, axis=1)] == y[rows, None])

    return np.concatenate(list(pairwise_distances_chunked(features, reduce_func=right))).T


def _share_right(right: np.ndarray, group: np.ndarray) -> Estimate:
    """Accuracy over all draws. right: (draws, N) bool."""
    return share_interval(right.mean(axis=0), group, np.zeros_like(group), confidence=_CONFIDENCE)


def _statement(random: Estimate, grouped: Estimate, difference: Estimate, group: np.ndarray) -> str:
    sizes = np.bincount(group)
    sharing = f"{sizes[sizes > 1].sum():,} of {len(group):,} images share a group with another"
    accuracies = f"the nearest neighbour is right for {_percent(random[0])} under random folds and for "
    accuracies += f"{_percent(grouped[0])} when groups stay together ({sharing})"
    value, low, high = difference
    if len(sizes) < _FEWEST_GROUPS:
        return f"Leakage cannot be judged from {len(sizes)} groups, at least {_FEWEST_GROUPS} are needed: {accuracies}."
    interval = f"95 % interval {_points(low)} to {_points(high)}"
    if low > 0:
        return f"A random split would overstate accuracy by {_points(value)} points ({interval}): {accuracies}."
    return (
        f"No measurable leakage: {accuracies}; the difference of {_points(value)} points ({interval}) cannot be told "
        "from zero."
    )


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def _points(share: float) -> str:
    points = 100 * share
    text = f"{points:.0f}" if abs(points) >= 9.95 else f"{points:.1f}"
    return text.replace("-", "−") if float(text) else text.lstrip("-")
