"""The nearest descriptors of each descriptor, exactly and in bounded memory."""

from dataclasses import dataclass

import numpy as np

from components.data.audit.descriptors import SYMMETRIES, transform_descriptors

_BLOCK_ENTRIES = 4_000_000  # correlations that are held at a time: 16 MB, and 32 MB for their order
_UPRIGHT, _SYMMETRIC = (0,), (0, 1, 2, 3, 4, 5, 6)  # "turned right" is "turned left" seen from the other image


@dataclass(frozen=True)
class Neighbours:
    """indices, correlations: (S, N, k) int32 and float32, per searched symmetry and row the k most alike, best first.

    Row j stands in the list of row i under a symmetry where the picture of i, laid out by the symmetry, is like
    that of j. Only correlations above the floor of the search are listed; empty places hold −1 and the floor.
    """

    symmetries: tuple[int, ...]
    indices: np.ndarray
    correlations: np.ndarray


def nearest(descriptors: np.ndarray, queries: np.ndarray, *, k: int) -> tuple[np.ndarray, np.ndarray]:
    """The k rows that correlate most with each query: (q, k) int32 and (q, k) float32, best first.

    descriptors: (N, D), queries: (q, D), both float32 with rows of length 1 or 0. Fewer columns when N < k. A row
    that is itself among the descriptors finds itself.
    """
    k = min(k, len(descriptors))
    indices = np.empty((len(queries), k), dtype=np.int32)
    correlations = np.empty((len(queries), k), dtype=np.float32)
    step = max(1, _BLOCK_ENTRIES // max(1, len(descriptors)))
    for start in range(0, len(queries) if k else 0, step):
        table = queries[start : start + step] @ descriptors.T
        found = _largest(table, k)
        values = np.take_along_axis(table, found, axis=1)
        order = np.lexsort((found, -values), axis=1)
        indices[start : start + step] = np.take_along_axis(found, order, axis=1)
        correlations[start : start + step] = np.take_along_axis(values, order, axis=1)
    return indices, correlations


def find_neighbours(descriptors: np.ndarray, *, k: int, floor: float, symmetric: bool) -> Neighbours:
    """Compare each of the N rows with all others. descriptors: (N, D) float32, rows of length 1 or 0.

    floor: only correlations above it are listed. symmetric: compare the rows also mirrored and turned, which takes
    seven times as long.
    """
    symmetries, count = _SYMMETRIC if symmetric else _UPRIGHT, len(descriptors)
    found = Neighbours(
        symmetries=symmetries,
        indices=np.full((len(symmetries), count, k), -1, dtype=np.int32),
        correlations=np.full((len(symmetries), count, k), floor, dtype=np.float32),
    )
    step = max(1, _BLOCK_ENTRIES // max(1, count))
    for number, symmetry in enumerate(symmetries):
        for start in range(0, count, step):
            block = slice(start, start + step)
            table = transform_descriptors(descriptors[block], SYMMETRIES[symmetry]) @ descriptors.T
            np.fill_diagonal(table[:, start:], -1)  # each row with itself
            row, column = _best(table, k, floor)
            rank = np.arange(len(row)) - np.searchsorted(row, row)
            found.indices[number, block][row, rank] = column
            found.correlations[number, block][row, rank] = table[row, column]
    return found


def _best(table: np.ndarray, k: int, floor: float) -> tuple[np.ndarray, np.ndarray]:
    """Rows, in their order, and columns of the k largest entries of each row above the floor, the largest first."""
    chosen = table > floor
    crowded = np.flatnonzero(chosen.sum(axis=1) > k)  # few, but where all images look alike
    chosen[crowded] = False
    chosen[crowded[:, None], _largest(table[crowded], k)] = True
    row, column = np.nonzero(chosen)
    order = np.lexsort((column, -table[row, column], row))
    return row[order], column[order]


def _largest(table: np.ndarray, k: int) -> np.ndarray:
    """(rows, k) columns of the k largest entries of each row, in no order."""
    return np.argpartition(table, table.shape[1] - k, axis=1)[:, table.shape[1] - k :]
