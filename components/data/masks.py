"""Masks: where the defect is, how much of a framed image it covers, and how small it gets there.

A mask is a picture that is black, or transparent, where the part is good. One defect is one blob of pixels that touch,
also at corners.
"""

import io
import math
import re
from collections.abc import Sequence

import cv2
import numpy as np
from PIL import Image

from components.data.decode import FORMATS, DecodeError, decode_samples
from components.data.framing import Box, Framing, fitted_size

_LEAST_LOSSY = 32  # of 255: as bright as the noise around a lossy edge may be where nothing is marked
_SMALLEST_BLOB = 2  # px: a single pixel is more likely a slip of whoever drew the mask
_MULTIPLE = 32  # of most backbones' stride


def read_mask(data: bytes, *, width: int, height: int) -> np.ndarray:
    """(H, W) bool, True on the defect, of an upright mask. width, height: px, of the upright image.

    Any value but 0 marks a defect, so that 1 for a class number is as good as 255; where the picture was compressed
    with a loss, whose black is not quite black, half of its largest value and more. Raises DecodeError: not an image,
    or not of the image's size.
    """
    samples = decode_samples(data)
    values = samples.max(axis=2)
    if values.shape != (height, width):
        own_height, own_width = values.shape
        raise DecodeError(f"the mask is {own_width} × {own_height} px, and the image {width} × {height}")
    if _is_lossy(data):
        return np.asarray(values > max(float(values.max()) / 2, _LEAST_LOSSY))
    if not np.isfinite(samples).all():
        raise DecodeError("the mask holds values that are not finite")
    return np.asarray((samples != 0).any(axis=2))


def _is_lossy(data: bytes) -> bool:
    """Of what can be decoded."""
    with Image.open(io.BytesIO(data), formats=FORMATS) as image:
        if image.format == "WEBP":
            picture = re.search(rb"VP8[ L]", data)  # the name of its part
            return picture is not None and picture[0] == b"VP8 "
        if image.format == "JPEG2000":  # the wavelet is in the coding style, which stands behind the start
            return data[data.find(b"\xff\x52", data.find(b"\xff\x4f\xff\x51")) + 13] == 0
        return image.format in ("JPEG", "MPO") or image.info.get("compression") in ("jpeg", "tiff_jpeg", "webp")


def mask_statistics(mask: np.ndarray, boxes: Sequence[Box], framing: Framing) -> list[tuple[float, float]]:
    """For each framed box: the share of it that is defective, and the shortest side of its smallest defect.

    mask: (H, W) bool, upright. boxes: of `frame_boxes`. The share is in [0, 1]. The side, in pixels that the model
    sees, is the shorter one of the blob's bounding box, the least of all blobs in the box; NaN without a defect.
    A blob that a tile cuts counts with its whole length: it is not small because an edge passes through it.
    """
    count, labels, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=8)
    widths, heights = stats[:, cv2.CC_STAT_WIDTH], stats[:, cv2.CC_STAT_HEIGHT]
    large = stats[:, cv2.CC_STAT_AREA] >= _SMALLEST_BLOB
    results = []
    for left, top, right, bottom in boxes:
        pixels = np.bincount(labels[top:bottom, left:right].ravel(), minlength=count)
        there = np.flatnonzero(pixels[1:]) + 1  # 0 is the background
        there = there[large[there]] if large[there].any() else there
        fitted_width, fitted_height = fitted_size(right - left, bottom - top, framing)
        across, down = fitted_width / (right - left), fitted_height / (bottom - top)
        sides = np.minimum(widths[there] * across, heights[there] * down)
        smallest = float(sides.min()) if sides.size else math.nan
        results.append((1.0 - float(pixels[0]) / float(pixels.sum()), smallest))
    return results


def size_that_shows(defect_pixels: np.ndarray, size: int, min_pixels: float) -> int:
    """The image size at which 95 % of the defects span at least `min_pixels`, rounded up to a multiple of 32.

    defect_pixels: (N,) shortest sides, px, as they are at `size`; NaN is left out. Without any defect: `size`.
    """
    sides = np.sort(defect_pixels[np.isfinite(defect_pixels)])
    if not sides.size:
        return size
    deciding = float(sides[sides.size // 20])  # at most one in twenty lies below it
    return _MULTIPLE * math.ceil(size * min_pixels / deciding / _MULTIPLE - 1e-9)
