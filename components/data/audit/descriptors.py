"""What two pictures of the same thing have in common: their details, without shading, contrast and pixel noise.

A thumbnail is smoothed, freed of its local brightness and divided by its local contrast. Of the result the
middle frequencies of a discrete cosine transform (DCT) are a descriptor: as the basis is fixed, descriptors can
be kept between runs, and a mirrored or turned picture has the same numbers with other signs and places.

Local contrast follows Jarrett, Kavukcuoglu, Ranzato, LeCun, "What is the best multi-stage architecture for
object recognition?" (2009). Measured on altered copies of 2,624 solar cells that all have the same bars: a copy
cropped by 2 % is among the 16 nearest for 94 % with it, and for 89 % without.
"""

from dataclasses import dataclass

import cv2
import numpy as np
from scipy.fft import dct

THUMBNAIL_SIDE = 64

_SMOOTHING = 1.5  # px, standard deviation: finer details do not survive a new compression or a small turn
_LOCAL = 21  # px, side of the square that local brightness and contrast are taken over
_CONTRAST_FLOOR = 1.0  # grey levels: contrast far below it is rounding, and is not raised
_FLAT = 0.02  # root mean square of a normalised thumbnail that shows nothing but rounding
_LOWEST, _HIGHEST = 3.0, 12.6  # radius in the DCT plane, half periods a side


@dataclass(frozen=True)
class Symmetry:
    """One of the eight ways to lay a square on itself: transposed first, then turned over rows, then columns."""

    name: str
    transpose: bool
    flip_rows: bool
    flip_columns: bool


SYMMETRIES = (
    Symmetry("upright", False, False, False),
    Symmetry("mirrored", False, False, True),
    Symmetry("mirrored top to bottom", False, True, False),
    Symmetry("turned 180°", False, True, True),
    Symmetry("mirrored on the diagonal", True, False, False),
    Symmetry("mirrored on the other diagonal", True, True, True),
    Symmetry("turned 90° left", True, True, False),
    Symmetry("turned 90° right", True, False, True),
)


def describe(thumbnails: np.ndarray) -> np.ndarray:
    """(n, D) float32 with D ≤ 128: rows of length 1 whose inner product is the correlation of middle frequencies.

    thumbnails: (n, 64, 64) uint8 grey. The row of a flat thumbnail is zero: it is like no other.
    """
    coefficients = _BASIS @ normalise(thumbnails) @ _BASIS.T
    rows = coefficients[:, _VERTICAL, _HORIZONTAL]
    length = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.asarray(np.divide(rows, length, out=np.zeros_like(rows), where=length > 0))


def normalise(thumbnails: np.ndarray) -> np.ndarray:
    """(n, 64, 64) float32: smoothed, local brightness taken off, divided by local contrast; zero where flat.

    thumbnails: (n, 64, 64) uint8 grey.
    """
    out = np.empty(thumbnails.shape, dtype=np.float32)
    for row, thumbnail in enumerate(thumbnails):
        smooth = cv2.GaussianBlur(thumbnail.astype(np.float32), (0, 0), _SMOOTHING, borderType=cv2.BORDER_REFLECT)
        detail = smooth - _mean_around(smooth)
        out[row] = detail / (np.sqrt(_mean_around(detail * detail)) + _CONTRAST_FLOOR)
        if np.sqrt(np.mean(out[row] ** 2)) < _FLAT:
            out[row] = 0
    return out


def transform_descriptors(descriptors: np.ndarray, symmetry: Symmetry) -> np.ndarray:
    """(n, D) float32: the descriptors of the same thumbnails after the symmetry."""
    # A transposed picture swaps the frequencies; one turned over changes the sign of those that are odd.
    places = _SWAPPED if symmetry.transpose else slice(None)
    sign = np.ones(len(_VERTICAL), dtype=np.float32)
    if symmetry.flip_rows:
        sign[_VERTICAL % 2 == 1] *= -1
    if symmetry.flip_columns:
        sign[_HORIZONTAL % 2 == 1] *= -1
    return descriptors[:, places] * sign


def transform_image(image: np.ndarray, symmetry: Symmetry) -> np.ndarray:
    """(S, S) of the same type, contiguous: the image after the symmetry."""
    turned = image.T if symmetry.transpose else image
    if symmetry.flip_rows:
        turned = turned[::-1]
    if symmetry.flip_columns:
        turned = turned[:, ::-1]
    return np.ascontiguousarray(turned)


def inverse(symmetry: int) -> int:
    """The number in SYMMETRIES of the symmetry that undoes this one."""
    return {6: 7, 7: 6}.get(symmetry, symmetry)


def _mean_around(image: np.ndarray) -> np.ndarray:
    return cv2.blur(image, (_LOCAL, _LOCAL), borderType=cv2.BORDER_REFLECT)


_LINE = np.arange(int(np.ceil(_HIGHEST)))
_RADIUS = np.hypot(_LINE[:, None], _LINE[None, :])
_VERTICAL, _HORIZONTAL = np.nonzero((_RADIUS >= _LOWEST) & (_RADIUS < _HIGHEST))  # of a descriptor's D numbers
_SWAPPED = np.lexsort((_VERTICAL, _HORIZONTAL))  # the place of (v, u) for each (u, v): the set is symmetric
_BASIS = dct(np.eye(THUMBNAIL_SIDE), axis=0, norm="ortho")[: int(np.ceil(_HIGHEST))].astype(np.float32)
DESCRIPTOR_SIZE = len(_VERTICAL)
