"""Images that show the very same thing, told from images that only look alike.

Candidates are the nearest neighbours of fixed descriptors; each is confirmed by the correlation of its aligned
thumbnails beyond what either image reaches with unrelated ones (see alignment.py). On 2,624 solar cells a fixed
correlation of 0.9 pairs thousands that share no more than their bars; beyond the background, the pairs are cells
that were imaged twice, cells cut from the same block of silicon, and a few with the same printing faults.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from components.data.audit.alignment import (
    Details,
    Thumbnails,
    align,
    excess,
    find_references,
    measure_backgrounds,
    read_details,
)
from components.data.audit.descriptors import DESCRIPTOR_SIZE, SYMMETRIES, describe, inverse
from components.data.audit.neighbours import Neighbours, find_neighbours, nearest

_BLOCK = 1024  # thumbnails read at a time
_NEIGHBOURS = 16
_PROPOSED = 0.6  # correlation of descriptors; copies moved by 3 px of 128 or cropped by 4 % reach 0.75
_PROMISING = 0.5  # of descriptors, beyond their background; what is confirmed on real sets reaches 0.75
_FLOOR, _CEILING = 0.9, 0.97  # of the threshold
_QUANTILE = 0.995  # of the background, below which nothing is confirmed
_ASKED, _NEAR, _FAR = 1000, 9, 16  # images in the sample for the background, and the ranks of their neighbours
_LARGEST, _LARGEST_SHARE = 200, 0.02  # images in a group; a larger one is a chain of look-alikes


@dataclass(frozen=True)
class NearDuplicates:
    """The pairs of near duplicates and how they were found.

    pairs: the confirmed ones, columns first, second (int64 row numbers, first < second), correlation (float32,
    beyond the background), symmetry (str: what the first has undergone in the second, a name of SYMMETRIES).
    threshold: the correlation, beyond the background, that a pair had to reach. note: how many were found, and how.
    """

    pairs: pd.DataFrame
    threshold: float
    note: str


def find_near_duplicates(read: Thumbnails, count: int, *, symmetric: bool) -> NearDuplicates:
    """Find the pairs among `count` images whose thumbnails show the same thing.

    read: (start, stop) -> (n, 64, 64) uint8 grey. symmetric: also where one is mirrored or turned by quarters. A flat
    thumbnail is a near duplicate of none. 20,000 images took 5 s of one core, and 19 s where symmetric.
    """
    descriptors = np.zeros((count, DESCRIPTOR_SIZE), dtype=np.float32)
    for start in range(0, count, _BLOCK):
        descriptors[start : start + _BLOCK] = describe(read(start, min(start + _BLOCK, count)))
    proposed = propose_pairs(find_neighbours(descriptors, k=_NEIGHBOURS, floor=_PROPOSED, symmetric=symmetric))
    details = read_details(read)
    backgrounds = _Backgrounds(details, descriptors)
    beyond = _correlate(details, descriptors, proposed, backgrounds)
    background = _sample_background(details, descriptors, backgrounds)
    threshold = _FLOOR
    if len(background):
        threshold = min(max(_FLOOR, float(np.quantile(background, _QUANTILE))), _CEILING)
    pairs = proposed.assign(correlation=beyond)[beyond >= threshold]
    limit = max(_LARGEST, int(_LARGEST_SHARE * count))
    stay = break_chains(
        pairs["first"].to_numpy(), pairs["second"].to_numpy(), pairs["correlation"].to_numpy(), largest=limit
    )
    kept = pairs[stay].reset_index(drop=True)
    names = np.array([symmetry.name for symmetry in SYMMETRIES], dtype=object)[kept["symmetry"].to_numpy()]
    notes = _notes(kept, proposed=len(proposed), threshold=threshold, look_alikes=backgrounds.count_from(_FLOOR))
    if not stay.all():
        notes.append(
            f"{(~stay).sum():,} pairs were dropped, as they chained more than {limit:,} images of a like look together"
        )
    return NearDuplicates(
        pairs=kept[["first", "second", "correlation"]].assign(symmetry=names),
        threshold=threshold,
        note=". ".join(note[0].upper() + note[1:] for note in notes) + ".",
    )


def propose_pairs(neighbours: Neighbours) -> pd.DataFrame:
    """Each pair of near descriptors once, at its best symmetry.

    Columns first, second (int64, first < second), symmetry (int64: the second is like the first laid out by it)
    and described (float32, the correlation); sorted by first and second.
    """
    parts = []
    for number, symmetry in enumerate(neighbours.symmetries):
        row, place = np.nonzero(neighbours.indices[number] >= 0)
        other = neighbours.indices[number, row, place].astype(np.int64)
        swapped = row > other
        parts.append(
            pd.DataFrame(
                {
                    "first": np.where(swapped, other, row),
                    "second": np.where(swapped, row, other),
                    "symmetry": np.where(swapped, inverse(symmetry), symmetry),
                    "described": neighbours.correlations[number, row, place],
                }
            )
        )
    # The sort is stable: of equal ones the upright comes first.
    pairs = pd.concat(parts, ignore_index=True).sort_values("described", ascending=False, kind="stable")
    pairs = pairs.drop_duplicates(["first", "second"])
    return pairs.sort_values(["first", "second"], ignore_index=True)


def break_chains(first: np.ndarray, second: np.ndarray, strength: np.ndarray, *, largest: int) -> np.ndarray:
    """Which links stay, so that no connected component has more than `largest` nodes.

    A guard against single linkage: where each image looks like the next, whole data sets chain into one group.

    first, second: (P,) node numbers, strength: (P,) float. In a component that is too large the weakest links go,
    up to the lowest strength at which it falls into parts that are small enough; links of equal strength go
    together. Other components are left alone. Returns (P,) bool.
    """
    stay = np.ones(len(first), dtype=bool)
    sizes, component = _components(first, second)
    for number in np.flatnonzero(sizes > largest):
        inside = np.flatnonzero(component == number)
        levels = np.unique(strength[inside])
        # The lowest level that is enough lies in [low, high]; above the last level nothing is linked.
        low, high = 0, len(levels)
        while low < high:
            middle = (low + high) // 2
            tried = inside[strength[inside] >= levels[middle]]
            if _components(first[tried], second[tried])[0].max() > largest:
                low = middle + 1
            else:
                high = middle
        stay[inside] = strength[inside] >= (levels[low] if low < len(levels) else np.inf)
    return stay


def component_sizes(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """(C,) int: the images in each connected component, largest first."""
    return np.sort(_components(first, second)[0])[::-1]


def _components(first: np.ndarray, second: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The number of nodes in each component, and (P,) the component of each link."""
    if not len(first):
        return np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64)
    nodes, ends = np.unique(np.concatenate([first, second]), return_inverse=True)
    left, right = ends[: len(first)], ends[len(first) :]
    graph = coo_array((np.ones(len(left), dtype=np.int8), (left, right)), shape=(len(nodes), len(nodes)))
    _, label = connected_components(graph, directed=False)
    return np.bincount(label), label[left]


class _Backgrounds:
    """What the thumbnail of each image reaches with unrelated ones; measured when it is first asked for."""

    def __init__(self, details: Details, descriptors: np.ndarray) -> None:
        self._details, self._descriptors = details, descriptors
        self._known = np.full(len(descriptors), np.nan, dtype=np.float32)

    def of(self, rows: np.ndarray) -> np.ndarray:
        missing = np.unique(rows)
        missing = missing[np.isnan(self._known[missing])]
        references, _ = find_references(self._descriptors, missing)
        self._known[missing] = measure_backgrounds(self._details, missing, references)
        return np.asarray(self._known[rows])

    def count_from(self, level: float) -> int:
        return int((self._known >= level).sum())


def _correlate(
    details: Details, descriptors: np.ndarray, proposed: pd.DataFrame, backgrounds: _Backgrounds
) -> np.ndarray:
    """(P,) float32, the correlation of each proposed pair beyond its background; nan for those not worth aligning."""
    ends = proposed[["first", "second"]].to_numpy()
    rows, places = np.unique(ends, return_inverse=True)
    looks = find_references(descriptors, rows)[1][places.reshape(ends.shape)]
    promising = excess(proposed["described"].to_numpy(), looks.max(axis=1)) >= _PROMISING
    pairs = proposed.loc[promising, ["first", "second", "symmetry"]]
    aligned = align(details, pairs.itertuples(index=False, name=None))
    beyond = np.full(len(proposed), np.nan, dtype=np.float32)
    beyond[promising] = excess(aligned, backgrounds.of(ends[promising]).max(axis=1))
    return beyond


def _sample_background(details: Details, descriptors: np.ndarray, backgrounds: _Backgrounds) -> np.ndarray:
    """(M,) float32: what an even sample of images reach with their 9th to 16th nearest, beyond the background."""
    count = len(descriptors)
    rows = np.unique(np.linspace(0, count - 1, min(count, _ASKED)).round().astype(np.int64))
    if count <= _FAR:
        return np.zeros(0, dtype=np.float32)
    own = backgrounds.of(rows)
    # Each row finds itself first; a flat one finds anything.
    others = nearest(descriptors, descriptors[rows], k=_FAR + 1)[0][:, _NEAR:]
    pairs = ((int(row), int(other), 0) for row, line in zip(rows, others, strict=True) for other in line)
    return excess(align(details, pairs).reshape(others.shape), own[:, None]).ravel()


def _notes(pairs: pd.DataFrame, *, proposed: int, threshold: float, look_alikes: int) -> list[str]:
    sizes = component_sizes(pairs["first"].to_numpy(), pairs["second"].to_numpy())
    notes = [f"Of {proposed:,} pairs of near neighbours, {len(pairs):,} show the same thing"]
    if len(sizes):
        notes[0] += f": {sizes.sum():,} images in {len(sizes):,} groups, the largest of {sizes[0]:,}"
    notes.append(
        f"a pair had to share {threshold:.3f} of the detail that sets its images apart from others of their look"
    )
    if look_alikes:
        notes.append(
            f"{look_alikes:,} of the images asked have dozens of look-alikes, and only their close copies are detected"
        )
    return notes
