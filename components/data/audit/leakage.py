"""The leakage probe: how much a split drawn image by image would flatter a model.

A classifier that can only remember (the nearest neighbour) is judged twice: under folds drawn at random and under folds
that keep groups (parts, lots, near duplicates) whole. What it loses is what it owed to having seen the same part.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from sklearn.model_selection import cross_val_predict
from sklearn.neighbors import KNeighborsClassifier

from components.data.audit.groupwise import (
    Estimate,
    groups_per_class,
    mean_interval,
    sample_groups,
    share_interval,
    split_by_group,
    split_by_image,
)

_FOLDS = 5
_REPEATS = 3  # draws of the folds: the luck of one draw is about half a point on 1,000 images
_CONFIDENCE = 0.95
_FEWEST_GROUPS = 10  # below it no interval means anything
_SHOWN = 5


@dataclass(frozen=True)
class LeakageProbe:
    """Accuracies in [0, 1] with 95 % intervals; None where there is nothing to measure, as `statement` then says.

    images: how many the probe used. folds: how many parts they were cut into; 0 where no folds can be made.
    overstatement: random less grouped accuracy. leaks: the interval of the overstatement lies above zero.
    """

    images: int
    folds: int
    random_accuracy: float | None
    random_interval: tuple[float, float] | None
    grouped_accuracy: float | None
    grouped_interval: tuple[float, float] | None
    overstatement: float | None
    overstatement_interval: tuple[float, float] | None
    leaks: bool
    statement: str


def probe_leakage(
    features: np.ndarray, labels: np.ndarray, groups: np.ndarray, *, seed: int, max_images: int
) -> LeakageProbe:
    """Accuracy of the nearest neighbour under random and under grouped folds, and the difference in words.

    features: (N, D) float32, as `probe_features` gives them; labels, groups: (N,) str. Of more than max_images, whole
    groups are sampled. A class whose images are all in one group cannot be both learned and tested: it is left out.
    Under five groups in the rarest class there are as many folds as it has groups.
    """
    rows = sample_groups(labels, groups, max_images=max_images, seed=seed)
    spread = groups_per_class(labels[rows], groups[rows])
    alone = sorted(spread.index[spread < 2])
    used = rows[~np.isin(labels[rows], alone)]
    notes = _notes(len(labels), len(rows), alone)
    y, _ = pd.factorize(labels[used], sort=True)
    group, _ = pd.factorize(groups[used], sort=True)
    spread = spread.drop(alone)
    if len(spread) < 2:
        return _nothing(len(used), "Leakage cannot be probed: it takes two classes with two groups each." + notes)
    folds = min(_FOLDS, int(spread.min()))
    random = _correct(features[used], y, None, folds=folds, seed=seed)
    random_share = share_interval(random, group, np.zeros_like(y), confidence=_CONFIDENCE)
    if len(np.unique(group)) == len(group):
        return _nothing_shared(len(used), folds, random_share, notes)
    grouped = _correct(features[used], y, group, folds=folds, seed=seed)
    grouped_share = share_interval(grouped, group, np.zeros_like(y), confidence=_CONFIDENCE)
    difference = _limited(mean_interval(random - grouped, group, confidence=_CONFIDENCE))
    enough = len(np.unique(group)) >= _FEWEST_GROUPS
    return LeakageProbe(
        images=len(used),
        folds=folds,
        random_accuracy=random_share[0],
        random_interval=random_share[1:],
        grouped_accuracy=grouped_share[0],
        grouped_interval=grouped_share[1:],
        overstatement=difference[0],
        overstatement_interval=difference[1:],
        leaks=enough and difference[1] > 0,
        statement=_statement(random_share, grouped_share, difference, group) + notes,
    )


def _correct(features: np.ndarray, y: np.ndarray, group: np.ndarray | None, *, folds: int, seed: int) -> np.ndarray:
    """(N,) float: share of the draws in which the nearest neighbour outside the fold has the image's class."""
    hits = np.zeros(len(y))
    for draw in np.random.default_rng(seed).integers(2**31, size=_REPEATS):
        if group is None:
            cuts = split_by_image(y, folds=folds, seed=int(draw))
        else:
            cuts = split_by_group(y, group, folds=folds, seed=int(draw))
        nearest = KNeighborsClassifier(n_neighbors=1, algorithm="brute")
        hits += cross_val_predict(nearest, features, y, cv=cuts) == y
    return hits / _REPEATS


def _limited(estimate: Estimate) -> Estimate:
    """Student's t knows no bounds, but a difference of two shares does."""
    value, low, high = (min(max(number, -1.0), 1.0) for number in estimate)
    return value, low, high


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


def _notes(total: int, sampled: int, alone: list[str]) -> str:
    notes = ""
    if sampled < total:
        notes += f" Probed on {sampled:,} of {total:,} images, whole groups drawn at random."
    if alone:
        more = f" and {len(alone) - _SHOWN} more" if len(alone) > _SHOWN else ""
        notes += f" Left out, because all their images are in one group: {', '.join(alone[:_SHOWN])}{more}."
    return notes


def _nothing_shared(images: int, folds: int, random: Estimate, notes: str) -> LeakageProbe:
    statement = (
        "There is nothing to compare: no two images share a group, so random folds are grouped folds; the nearest "
        f"neighbour is right for {_percent(random[0])}. If parts were imaged more than once, name the part of each "
        "image in data.group_column."
    )
    return LeakageProbe(images, folds, random[0], random[1:], None, None, None, None, False, statement + notes)


def _nothing(images: int, statement: str) -> LeakageProbe:
    return LeakageProbe(images, 0, None, None, None, None, None, None, False, statement)
