"""How alike two thumbnails are when one may be moved by a few pixels, and how alike an image is to what is not it.

Images of one product all look alike, so that a correlation says little by itself. It is compared with the
correlation that either image reaches with its 50th nearest, which is hardly another picture of the same thing:
(correlation − background) / (1 − background), the form of Cohen's kappa (1960), is the share of the image's own
detail that the other has too.
"""

from collections.abc import Callable, Iterable
from functools import lru_cache

import cv2
import numpy as np

from components.data.audit.descriptors import SYMMETRIES, normalise, transform_image
from components.data.audit.neighbours import nearest

Thumbnails = Callable[[int, int], np.ndarray]  # read(start, stop) -> (n, 64, 64) uint8
Details = Callable[[int], np.ndarray | None]  # details(row) -> (64, 64) float32, normalised; None where it is flat

_SHIFT = 3  # px of the thumbnail, each way
_FLAT = 0.01  # standard deviation of normalised details below which there is nothing to compare
_CACHED = 4096  # normalised thumbnails: 64 MB
_SAMPLE = 4096  # rows that stand for the whole set in the search for a background
_ORDINARY, _ISOLATED = 50, 200  # ranks of the images that are taken for background
_GAP = 50  # times as far: what lies beyond is background, and what lies before are pictures of one thing
_AVERAGED = 3  # background images a row


def read_details(read: Thumbnails) -> Details:
    """The details of single thumbnails, kept for the next time."""

    @lru_cache(maxsize=_CACHED)
    def details(row: int) -> np.ndarray | None:
        found: np.ndarray = normalise(read(row, row + 1))[0]
        return None if _middle(found).std() < _FLAT else found

    return details


def align(details: Details, pairs: Iterable[tuple[int, int, int]]) -> np.ndarray:
    """(P,) float32 in [−1, 1]: the correlation of two normalised thumbnails at the best of all shifts of ±3 px.

    pairs: first row, second row, number of the symmetry that the first is laid out by; in an order in which rows
    come again soon, for the cache. A flat thumbnail correlates with nothing: 0.
    """
    return np.array([_best_shift(details(i), details(j), symmetry) for i, j, symmetry in pairs], dtype=np.float32)


def excess(correlation: np.ndarray, background: np.ndarray) -> np.ndarray:
    """(correlation − background) / (1 − background): 1 for the same picture, 0 for one that only looks alike."""
    return np.asarray((correlation - background) / np.maximum(1 - background, 1e-6))


def find_references(descriptors: np.ndarray, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """For each given row the images that are taken for its background, and how alike their descriptors are.

    These are the 50th nearest and the next two (of an even sample, where there are many images); the 200th where
    that one is 50 times as far from the image as the 50th, so that up to 200 pictures of one thing are still
    told from their surroundings. Returns (r, 3) int32 and (r,) float32; (r, 0) and zeros when there are too few
    images for a background.
    """
    count = len(descriptors)
    ordinary = min(_ORDINARY, count // 2 + 1)
    if ordinary > count - 1 or not len(rows):
        return np.zeros((len(rows), 0), dtype=np.int32), np.zeros(len(rows), dtype=np.float32)
    sample = np.unique(np.linspace(0, count - 1, min(count, _SAMPLE)).round().astype(np.int64))
    isolated = min(_ISOLATED, count - 1)
    scale = (len(sample) - 1) / (count - 1)
    near, far = (max(1, round(rank * scale)) for rank in (ordinary, isolated))
    found, values = nearest(descriptors[sample], descriptors[rows], k=far + _AVERAGED)
    # A row that is in the sample finds itself first: its neighbours stand one place further back.
    place = np.isin(rows, sample)[:, None] + np.arange(_AVERAGED)[None, :] - 1
    last = found.shape[1] - 1
    near_value = np.take_along_axis(values, np.minimum(place + near, last), axis=1).mean(axis=1)
    far_value = np.take_along_axis(values, np.minimum(place + far, last), axis=1).mean(axis=1)
    alone = 1 - far_value > _GAP * (1 - near_value)
    chosen = np.minimum(place + np.where(alone, far, near)[:, None], last)
    references = sample[np.take_along_axis(found, chosen, axis=1)].astype(np.int32)
    return references, np.where(alone, far_value, near_value).astype(np.float32)


def measure_backgrounds(details: Details, rows: np.ndarray, references: np.ndarray) -> np.ndarray:
    """(r,) float32: the mean correlation of each row with its references, zero where there are none."""
    if not references.size:
        return np.zeros(len(rows), dtype=np.float32)
    pairs = ((int(row), int(other), 0) for row, others in zip(rows, references, strict=True) for other in others)
    return np.asarray(align(details, pairs).reshape(references.shape).mean(axis=1))


def _best_shift(first: np.ndarray | None, second: np.ndarray | None, symmetry: int) -> float:
    if first is None or second is None:
        return 0.0
    middle = transform_image(_middle(first), SYMMETRIES[symmetry])
    return _peak(cv2.matchTemplate(second, middle, cv2.TM_CCOEFF_NORMED))


def _middle(image: np.ndarray) -> np.ndarray:
    """What is left of it however it is moved."""
    return image[_SHIFT:-_SHIFT, _SHIFT:-_SHIFT]


def _peak(table: np.ndarray) -> float:
    """The highest point of the parabolas through the largest entry and its neighbours, at most 1."""
    row, column = divmod(int(table.argmax()), table.shape[1])
    top = float(table[row, column])
    rise = 0.0
    for line, place in ((table[:, column], row), (table[row], column)):
        if 0 < place < len(line) - 1:
            before, after = float(line[place - 1]), float(line[place + 1])
            bend = 2 * top - before - after
            rise += (after - before) ** 2 / (8 * bend) if bend > 0 else 0.0
    return min(1.0, top + rise)
