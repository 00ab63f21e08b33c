"""What the file pass notes of each framed image, for the audit: simple statistics, and a small grey picture."""

from dataclasses import dataclass

import cv2
import numpy as np

THUMBNAIL_SIDE = 64
_BORDER = 0.05


@dataclass(frozen=True)
class Measured:
    """Statistics of one framed image; see `measure`. thumbnail: (64, 64) uint8."""

    brightness: float
    contrast: float
    sharpness: float
    border: float
    colour: float
    thumbnail: np.ndarray


def measure(pixels: np.ndarray) -> Measured:
    """pixels: (S, S, 3) uint8, as the model will see them.

    brightness: mean of the grey image, in [0, 1]. contrast: its standard deviation, in the same unit. sharpness:
    log10(1 + variance of its Laplacian), the common measure of focus (Pech-Pacheco et al., ICPR 2000). border: mean of
    the outer 5 % on each side less the brightness. colour: mean absolute difference between channels, in [0, 1].

    About 0.06 ms at 128 px.
    """
    grey = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)
    mean, deviation = (float(value[0, 0]) for value in cv2.meanStdDev(grey))
    _, edge = cv2.meanStdDev(cv2.Laplacian(grey, cv2.CV_16S))
    red, green, blue = cv2.split(pixels)
    width = max(1, round(_BORDER * len(grey)))
    inner = grey[width:-width, width:-width]
    inside = float(cv2.sumElems(inner)[0]) if inner.size else 0.0
    border = (mean * grey.size - inside) / (grey.size - inner.size)
    colour = (cv2.norm(red, green, cv2.NORM_L1) + cv2.norm(green, blue, cv2.NORM_L1)) / (2 * grey.size)
    # INTER_AREA averages when it shrinks; enlarging it would be blocky.
    method = cv2.INTER_AREA if len(grey) >= THUMBNAIL_SIDE else cv2.INTER_LINEAR
    return Measured(
        brightness=mean / 255,
        contrast=deviation / 255,
        sharpness=float(np.log10(1 + edge[0, 0] ** 2)),
        border=(border - mean) / 255,
        colour=colour / 255,
        thumbnail=cv2.resize(grey, (THUMBNAIL_SIDE, THUMBNAIL_SIDE), interpolation=method),
    )
