"""Which pairs of images may be near duplicates: the nearest descriptors, kept from run to run.

A later run over mostly the same images describes and compares only what is new.
"""

from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from components.data.audit.alignment import Thumbnails
from components.data.audit.descriptors import DESCRIPTOR_SIZE, describe, inverse
from components.data.audit.neighbours import Neighbours, find_neighbours, update_neighbours

_NEIGHBOURS = 16
_PROPOSED = 0.6  # correlation; copies moved by 3 px of 128 or cropped by 4 % reach 0.75
_BLOCK = 1024  # thumbnails read at a time


@dataclass(frozen=True)
class Search:
    """What is known of N images: plain arrays, for numpy.savez(path, **vars(search)) and Search(**numpy.load(path)).

    descriptors: (N, D) float32. symmetries: (S,) int. indices, correlations: (S, N, k), see Neighbours. pairs:
    (P, 3) int32, first row, second row and number of the symmetry of each pair whose thumbnails were aligned.
    aligned: (P,) float32, the correlation found. looks, backgrounds: (N,) float32, what the image's descriptor and
    its thumbnail reach with unrelated ones, nan where not asked; these depend on all images, so a later run measures
    them anew, and finds what a first run would.
    """

    descriptors: np.ndarray
    symmetries: np.ndarray
    indices: np.ndarray
    correlations: np.ndarray
    pairs: np.ndarray
    aligned: np.ndarray
    looks: np.ndarray
    backgrounds: np.ndarray


def search_images(
    read: Thumbnails, count: int, *, symmetric: bool, known: Search | None, earlier: np.ndarray | None
) -> Search:
    """Describe and compare `count` images, those only that the earlier search does not know.

    read: (start, stop) -> (n, 64, 64) uint8. symmetric: compare them also mirrored and turned. known and earlier:
    the search of an earlier run, and (count,) int, the row that each image had in it, −1 for a new or changed one.
    An earlier search with another choice of `symmetric` is not used.
    """
    if known is None or earlier is None or (len(known.symmetries) > 1) != symmetric:
        descriptors = np.zeros((count, DESCRIPTOR_SIZE), dtype=np.float32)
        _describe(read, np.arange(count), descriptors)
        lists = find_neighbours(descriptors, k=_NEIGHBOURS, floor=_PROPOSED, symmetric=symmetric)
        nan = np.full(count, np.nan, dtype=np.float32)
        return Search(
            descriptors=descriptors,
            symmetries=np.array(lists.symmetries),
            indices=lists.indices,
            correlations=lists.correlations,
            pairs=np.zeros((0, 3), dtype=np.int32),
            aligned=np.zeros(0, dtype=np.float32),
            looks=nan,
            backgrounds=nan.copy(),
        )
    carried = _carry(known, earlier)
    _describe(read, np.flatnonzero(earlier < 0), carried.descriptors)
    before = Neighbours(tuple(known.symmetries.tolist()), _PROPOSED, known.indices, known.correlations)
    lists = update_neighbours(before, carried.descriptors, earlier=earlier)
    return replace(carried, indices=lists.indices, correlations=lists.correlations)


def propose_pairs(search: Search) -> pd.DataFrame:
    """Each pair of near descriptors once, at its best symmetry.

    Columns first, second (int64, first < second), symmetry (int64: the second is like the first laid out by it)
    and described (float32, the correlation); sorted by first and second.
    """
    parts = []
    for number, symmetry in enumerate(search.symmetries.tolist()):
        row, place = np.nonzero(search.indices[number] >= 0)
        other = search.indices[number, row, place].astype(np.int64)
        swapped = row > other
        parts.append(
            pd.DataFrame(
                {
                    "first": np.where(swapped, other, row),
                    "second": np.where(swapped, row, other),
                    "symmetry": np.where(swapped, inverse(symmetry), symmetry),
                    "described": search.correlations[number, row, place],
                }
            )
        )
    # The sort is stable: of equal ones the upright comes first.
    pairs = pd.concat(parts, ignore_index=True).sort_values("described", ascending=False, kind="stable")
    pairs = pairs.drop_duplicates(["first", "second"])
    return pairs.sort_values(["first", "second"], ignore_index=True)


def _describe(read: Thumbnails, rows: np.ndarray, out: np.ndarray) -> None:
    """Describe the given rows, in ascending order, into their places of `out`."""
    for start in range(0, len(rows), _BLOCK):
        block = rows[start : start + _BLOCK]
        runs = np.split(block, np.flatnonzero(np.diff(block) > 1) + 1)
        out[block] = describe(np.concatenate([read(int(run[0]), int(run[-1]) + 1) for run in runs]))


def _carry(known: Search, earlier: np.ndarray) -> Search:
    """What is known of the images that are still there, in their new places; the lists are left as they were."""
    kept = np.flatnonzero(earlier >= 0)
    before, count = earlier[kept], len(earlier)
    present = np.full(len(known.descriptors), -1, dtype=np.int32)
    present[before] = kept
    pairs = np.column_stack([present[known.pairs[:, 0]], present[known.pairs[:, 1]], known.pairs[:, 2]])
    stay = (pairs[:, 0] >= 0) & (pairs[:, 0] < pairs[:, 1])
    descriptors = np.zeros((count, DESCRIPTOR_SIZE), dtype=np.float32)
    descriptors[kept] = known.descriptors[before]
    looks, backgrounds = np.full((2, count), np.nan, dtype=np.float32)
    return replace(
        known,
        descriptors=descriptors,
        pairs=pairs[stay],
        aligned=known.aligned[stay],
        looks=looks,
        backgrounds=backgrounds,
    )
