"""The surfaces that `generated:` photographs: textures of metal, and the defects on them.

A texture is white noise, filtered in the frequency domain (spot noise: van Wijk, SIGGRAPH 1991); the filter belongs to
a lot, the noise to a part, so no two parts share a pixel. How strong a texture is varies so much from lot to lot that
the spread of the grey levels tells little about a defect.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
import scipy.fft

TEXTURES = ("brushed", "cast", "ground")

_MASKED_SHARE = 0.3
_CONTRASTS = (3.2, 7.5)  # of the lots: the range of their standard deviations, grey levels


@dataclass(frozen=True)
class Lot:
    name: str
    texture: str
    contrast: float
    """Standard deviation of the texture, grey levels."""
    angle: float
    """Direction of the grain, or where the centre of the circular marks lies; radians."""
    length: float
    """Of the grain, px at a size of 64."""
    grain: float
    """Coarseness, 1 being usual."""
    finish: float
    """Share of fine, sharp structure."""


def draw_lots(count: int, generator: np.random.Generator) -> list[Lot]:
    """`count` lots: textures in turn, contrasts spread evenly (on a logarithmic scale) over a range of 1 to 5."""
    contrasts = generator.permutation((np.arange(count) + generator.uniform(0.0, 1.0, size=count)) / count)
    first = int(generator.integers(len(TEXTURES)))
    return [
        Lot(
            name=f"lot{number:02d}",
            texture=TEXTURES[(first + number) % len(TEXTURES)],
            contrast=float(_CONTRASTS[0] * (_CONTRASTS[1] / _CONTRASTS[0]) ** contrasts[number]),
            angle=float(generator.uniform(0.0, np.pi)),
            length=float(generator.uniform(5.0, 12.0)),
            grain=float(generator.uniform(0.85, 1.25)),
            finish=float(generator.uniform(0.1, 0.6)),
        )
        for number in range(count)
    ]


def draw_texture(side: int, *, size: int, lot: Lot, generator: np.random.Generator) -> np.ndarray:
    """(side, side) float32, mean 0 and standard deviation 1. size: px of the views that will be cut from it."""
    noise = generator.standard_normal((side, side // 2 + 1, 2), dtype=np.float32).view(np.complex64)[..., 0]
    noise *= _spectrum(side, size, lot)
    surface: np.ndarray = scipy.fft.irfft2(noise, s=(side, side), overwrite_x=True)
    if lot.texture == "cast":
        # A relief of grains that stand out of a floor, lit from the upper left.
        relief = np.maximum(surface, -0.4 * surface.std())
        step = max(1, round(_growth(size)))
        surface = relief - np.roll(relief, (step, step), axis=(0, 1))
    elif lot.texture == "ground":
        surface = cv2.remap(surface, *_polar(side, lot), cv2.INTER_LINEAR, borderMode=cv2.BORDER_WRAP)
    surface -= surface.mean()
    surface /= surface.std()
    return surface


def draw_defect(side: int, kind: str, *, size: int, generator: np.random.Generator) -> np.ndarray:
    """(side, side) float32 in [-1, 1] with a largest magnitude of 1; 0 where the surface is sound.

    kind: a key of DEFECTS. Its middle lies inside every view of size × size that can be cut from the surface, and
    not at a view's very edge.
    """
    margin = 0.12 * size
    row, column = generator.uniform(side - size + margin, size - margin, size=2)
    canvas = np.zeros((side, side), dtype=np.float32)
    DEFECTS[kind](canvas, float(row), float(column), size, generator)
    canvas /= max(float(canvas.max()), -float(canvas.min()))
    return canvas


def draw_mask(defect: np.ndarray, *, size: int) -> np.ndarray:
    """(side, side) uint8, 0 or 255: where a defect has a share of its peak, and the narrow gaps between such places.

    Without the gaps, the shine beside a scratch or a pit would be a defect of its own, a pixel wide.
    """
    marked = (np.abs(defect) > _MASKED_SHARE).astype(np.uint8) * np.uint8(255)
    reach = 2 * math.ceil(0.01 * size * _slenderness(size)) + 1
    return cv2.morphologyEx(marked, cv2.MORPH_CLOSE, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (reach, reach)))


def _growth(size: int) -> float:
    """How much larger grain is on a larger picture: less than the picture, as a finer camera shows finer grain."""
    return float(np.sqrt(size / 64.0))


def _slenderness(size: int) -> float:
    """How much of a defect's width is left, relative to the picture, on a picture larger than 48 px."""
    return float((48.0 / size) ** 0.3)


@lru_cache(maxsize=4)  # the parts of a lot follow one another
def _spectrum(side: int, size: int, lot: Lot) -> np.ndarray:
    """(side, side // 2 + 1) float32: what a lot's texture lets through of each spatial frequency."""
    fy, fx = np.fft.fftfreq(side)[:, None], np.fft.rfftfreq(side)[None, :]
    grown = _growth(size) * lot.grain
    frequency = np.hypot(fy, fx)
    if lot.texture == "cast":
        pebbles = _unit(np.exp(-(((frequency * 8.0 * grown) - 1.0) ** 2) / 0.3))  # 8 px apart at a size of 64
        spectrum = pebbles + 0.3 * lot.finish
    else:
        angle = lot.angle if lot.texture == "brushed" else 0.0
        along, across = fx * np.cos(angle) + fy * np.sin(angle), fy * np.cos(angle) - fx * np.sin(angle)
        coarse = _unit(_gaussian(along * lot.length * grown, across * 0.75 * grown))
        fine = _unit(_gaussian(along * 0.4 * lot.length, across * 0.4))
        spectrum = coarse + lot.finish * fine
    return (spectrum + 0.25 * _unit(_gaussian(frequency * size / 9.0))).astype(np.float32)


def _gaussian(*sigmas: np.ndarray) -> np.ndarray:
    """The transfer function of a Gaussian blur; each argument is a frequency times a standard deviation."""
    return np.exp(-2.0 * np.pi**2 * sum(sigma**2 for sigma in sigmas))


def _unit(spectrum: np.ndarray) -> np.ndarray:
    return np.asarray(spectrum / np.sqrt(np.mean(spectrum**2)))


@lru_cache(maxsize=1)
def _polar(side: int, lot: Lot) -> tuple[np.ndarray, np.ndarray]:
    """Where each pixel lies on a strip that is bent to circles: columns (along the circle), rows (the radius)."""
    distance = (0.55 + 0.25 * np.cos(5.0 * lot.angle)) * side
    y = np.arange(side)[:, None] - side / 2 - distance * np.sin(2.0 * lot.angle)
    x = np.arange(side)[None, :] - side / 2 - distance * np.cos(2.0 * lot.angle)
    # Whole turns of the strip, so that no seam shows where the angle jumps.
    turn = np.arctan2(y, x) / (2.0 * np.pi) * side * 3
    return turn.astype(np.float32) % side, np.hypot(y, x).astype(np.float32) % side


def _around(
    canvas: np.ndarray, row: float, column: float, reach: float, size: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The part of the canvas within `reach` of a place, and each pixel's offsets (y, x) from it, in sizes."""
    top, left = max(0, int(row - reach * size)), max(0, int(column - reach * size))
    window = canvas[top : int(row + reach * size) + 2, left : int(column + reach * size) + 2]
    y = (np.arange(window.shape[0], dtype=np.float32)[:, None] + top - row) / size
    x = (np.arange(window.shape[1], dtype=np.float32)[None, :] + left - column) / size
    return window, y, x


def _scratch(canvas: np.ndarray, row: float, column: float, size: int, generator: np.random.Generator) -> None:
    """A gently bent groove that thins out at its ends, with the shine of its burr on one side."""
    half, angle = generator.uniform(0.2, 0.38), generator.uniform(0.0, np.pi)
    width = generator.uniform(0.020, 0.028) * _slenderness(size)
    window, y, x = _around(canvas, row, column, half + 0.1, size)
    along = x * np.float32(np.cos(angle)) + y * np.float32(np.sin(angle))
    across = y * np.float32(np.cos(angle)) - x * np.float32(np.sin(angle))
    across += np.float32(generator.uniform(-0.5, 0.5)) * along**2
    across /= np.float32(width)
    profile = np.exp(-(across**2)) - np.float32(0.4) * np.exp(-((across - np.float32(1.9)) ** 2))
    taper = np.clip((np.float32(half) - np.abs(along)) / np.float32(0.5 * half), 0, 1)
    window += np.float32(generator.choice([-1.0, 1.0])) * profile * np.sqrt(taper)


def _pit(canvas: np.ndarray, row: float, column: float, size: int, generator: np.random.Generator) -> None:
    """A hole and up to two smaller ones beside it: dark, with the far wall catching the light."""
    radius = generator.uniform(0.055, 0.08) * _slenderness(size)
    for number in range(int(generator.integers(1, 4))):
        angle, own = (
            generator.uniform(0.0, 2.0 * np.pi),
            radius * (1.0 if number == 0 else generator.uniform(0.35, 0.6)),
        )
        away = size * radius * generator.uniform(1.8, 2.8) * (number > 0)
        window, y, x = _around(canvas, row + away * math.sin(angle), column + away * math.cos(angle), 2.6 * own, size)
        distance = np.sqrt(y**2 + x**2) / np.float32(own)
        rim = np.exp(-(((distance - np.float32(1.35)) / np.float32(0.35)) ** 2)) * np.clip((x + y) / own, 0, 1)
        window += np.float32(0.6) * rim - np.exp(-(distance**4))
    np.clip(canvas, -1.0, 0.6, out=canvas)  # where neighbours' rims meet


def _stain(canvas: np.ndarray, row: float, column: float, size: int, generator: np.random.Generator) -> None:
    """A dried drop: an uneven outline, and most of what it left behind at its edge."""
    radius = generator.uniform(0.15, 0.22)
    window, y, x = _around(canvas, row, column, 1.7 * radius, size)
    direction = np.arctan2(y, x)
    outline = np.ones_like(direction)
    for waves in (2, 3, 5):
        outline += np.float32(generator.uniform(0.03, 0.12)) * np.cos(
            waves * direction + np.float32(generator.uniform(0, 6))
        )
    edge = np.float32(0.018 * _slenderness(size))
    inside = (np.float32(radius) * outline - np.sqrt(y**2 + x**2)) / edge
    ring = np.exp(-(((inside - np.float32(1.5)) / np.float32(1.5)) ** 2))
    sign = np.float32(generator.choice([-0.5, 0.5]))
    window += sign * (np.float32(0.65) + np.float32(0.35) * ring) * (1 + np.tanh(inside))


def _crack(canvas: np.ndarray, row: float, column: float, size: int, generator: np.random.Generator) -> None:
    """A thin dark line that wanders off to both sides of the middle, and branches."""
    drawn = np.zeros(canvas.shape, dtype=np.uint8)
    step = 0.03 * size * _slenderness(size)
    heading = generator.uniform(0.0, 2.0 * np.pi)
    arms = [(row, column, heading + turn, generator.uniform(0.2, 0.32) * size, 1.0) for turn in (0.0, np.pi)]
    while arms:
        y, x, heading, length, weight = arms.pop()
        points = [(x, y)]
        for _ in range(max(2, int(length / step))):
            heading += generator.normal(0.0, 0.12)
            zigzag = heading + generator.normal(0.0, 0.5)
            y, x = y + step * np.sin(zigzag), x + step * np.cos(zigzag)
            points.append((x, y))
            if weight > 0.5 and generator.random() < 0.15:
                turn = generator.choice([-1.0, 1.0]) * generator.uniform(0.5, 1.1)
                arms.append((y, x, heading + turn, generator.uniform(0.3, 0.7) * length, 0.65 * weight))
        # In sixteenths of a pixel, which is what OpenCV's antialiasing takes.
        corners, width = np.round(np.array(points) * 16).astype(np.int32), 0.02 * size * _slenderness(size)
        cv2.polylines(drawn, [corners], False, round(255 * weight), max(1, round(width * weight)), cv2.LINE_AA, 4)
    canvas -= cv2.GaussianBlur(drawn.astype(np.float32), (0, 0), 0.35 * _growth(size))


DEFECTS: dict[str, Callable[[np.ndarray, float, float, int, np.random.Generator], None]] = {
    "scratch": _scratch,
    "pit": _pit,
    "stain": _stain,
    "crack": _crack,
}
