"""What the cameras of `generated:` make of its parts: views under uneven light, their masks, and the files of both.

Each part has random numbers of its own, so it looks the same whatever else is drawn.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from components.data.sources.drawing import Lot, draw_defect, draw_mask, draw_texture

GOOD = "good"
FORMATS = ("png", "jpeg")
SHORTCUTS = ("none", "format", "brightness", "size")

_SUFFIXES = {"png": ".png", "jpeg": ".jpg"}
_JPEG_QUALITY = 92
# Peak of a defect over (the texture's standard deviation + _EVEN): it has to stand out, but not by its spread alone.
_STRENGTHS = {"scratch": 6.0, "pit": 7.0, "stain": 4.0, "crack": 7.0}
_EVEN = 6.0  # grey levels
_SHORTCUT_PROBABILITY = 0.9
_SHORTCUT_BRIGHTNESS = 35.0  # grey levels
_SHORTCUT_SIZE = 1.125
_PER_FOLDER = 1_000


@dataclass(frozen=True)
class _Camera:
    brightness: float  # mean grey level
    gain: float
    blur: float  # standard deviation, px at a size of 64
    noise: float  # standard deviation, grey levels


_CAMERAS = {
    "camera_a": _Camera(brightness=112.0, gain=0.9, blur=0.0, noise=4.5),
    "camera_b": _Camera(brightness=125.0, gain=1.0, blur=0.35, noise=2.0),
    "camera_c": _Camera(brightness=138.0, gain=1.1, blur=0.5, noise=3.0),
}
_CAMERA_NAMES = tuple(_CAMERAS)
_SLOPE = 75.0  # of the light, at most, from edge to edge: grey levels


class Row(NamedTuple):
    """A line of labels.csv. mask: empty where the image has none."""

    path: str
    label: str
    group: str
    camera: str
    lot: str
    mask: str


@dataclass(frozen=True)
class Part:
    """One to photograph.

    first: the number of its first image among all of them. shown: how many of its views, the first ones, show its
    defect; the others show another place of it, where it is good.
    """

    number: int
    label: str
    lot: Lot
    first: int
    views: int
    shown: int


@dataclass(frozen=True, kw_only=True)
class Studio:
    """How and where all parts are photographed; format is one of FORMATS, shortcut one of SHORTCUTS.

    strength: how far defects stand out, 1 being usual.
    """

    folder: Path
    size: int
    seed: int
    strength: float
    format: str
    shortcut: str


def photograph_parts(studio: Studio, parts: Sequence[Part]) -> list[Row]:
    """Write every view of each part, and its mask if it has a defect. Raises OSError."""
    rows = []
    for part in parts:
        generator = np.random.default_rng([studio.seed, 1, part.number])
        for seen, views in _places(part):
            surface, mask = _make_part(studio, seen, generator)
            rows += [_photograph(studio, seen, view, surface, mask, generator) for view in views]
    return rows


def image_path(number: int, group: str, view: int, suffix: str) -> str:
    """Of the image of that number, below the root; at most 1,000 images share a folder."""
    return f"images/{number // _PER_FOLDER:03d}/{group}_{view}{suffix}"


def mask_path(image: str) -> str:
    return f"masks/{image.removeprefix('images/').rpartition('.')[0]}.png"


def group_name(part: int) -> str:
    return f"part{part:06d}"


def write_file(folder: Path, path: str, content: bytes) -> None:
    target = folder / path
    try:
        target.write_bytes(content)
    except FileNotFoundError:  # rarely: asking each time would cost more
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)


def encode_png(pixels: np.ndarray) -> bytes:
    # Measured on textures of 64 px: 0.08 ms, 0.19 ms at the lowest level with the usual strategy, at the same size.
    options = [cv2.IMWRITE_PNG_COMPRESSION, 1, cv2.IMWRITE_PNG_STRATEGY, cv2.IMWRITE_PNG_STRATEGY_HUFFMAN_ONLY]
    return cv2.imencode(".png", pixels, options)[1].tobytes()


def encode_jpeg(pixels: np.ndarray, *, quality: int) -> bytes:
    return cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, quality])[1].tobytes()


def _places(part: Part) -> Iterator[tuple[Part, range]]:
    """What is seen of a part, with the views of it: its defect, or a good part; and a good place beside the defect."""
    yield part, range(part.shown)
    if part.shown < part.views:
        yield replace(part, label=GOOD), range(part.shown, part.views)


def _make_part(studio: Studio, part: Part, generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray | None]:
    """Its surface (float32, grey levels about 0) and its mask, both a quarter wider than a view."""
    side = round(1.25 * studio.size)
    contrast = part.lot.contrast * float(np.exp(generator.normal(0.0, 0.3)))
    surface = draw_texture(side, size=studio.size, lot=part.lot, generator=generator)
    surface *= np.float32(contrast)
    if part.label == GOOD:
        return surface, None
    defect = draw_defect(side, part.label, size=studio.size, generator=generator)
    mask = draw_mask(defect, size=studio.size)
    defect *= np.float32(studio.strength * _STRENGTHS[part.label] * (contrast + _EVEN) * generator.uniform(0.8, 1.25))
    surface += defect
    return surface, mask


def _photograph(
    studio: Studio,
    part: Part,
    view: int,
    surface: np.ndarray,
    mask: np.ndarray | None,
    generator: np.random.Generator,
) -> Row:
    camera = _CAMERA_NAMES[int(generator.integers(len(_CAMERA_NAMES)))]
    marked = mask is not None and generator.random() < _SHORTCUT_PROBABILITY
    shortcut = studio.shortcut if marked else "none"
    size = round(_SHORTCUT_SIZE * studio.size) if shortcut == "size" else studio.size
    top, left = (int(offset) for offset in generator.integers(0, len(surface) - size + 1, size=2))
    seen = (slice(top, top + size), slice(left, left + size))
    pixels = _expose(surface[seen], _CAMERAS[camera], brighter=shortcut == "brightness", generator=generator)
    kind = FORMATS[1 - FORMATS.index(studio.format)] if shortcut == "format" else studio.format
    path = image_path(part.first + view, group_name(part.number), view + 1, _SUFFIXES[kind])
    write_file(studio.folder, path, encode_png(pixels) if kind == "png" else encode_jpeg(pixels, quality=_JPEG_QUALITY))
    masked = "" if mask is None else mask_path(path)
    if mask is not None:
        write_file(studio.folder, masked, encode_png(mask[seen]))
    return Row(path, part.label, group_name(part.number), camera, part.lot.name, masked)


def _expose(view: np.ndarray, camera: _Camera, *, brighter: bool, generator: np.random.Generator) -> np.ndarray:
    """(size, size) uint8: under light from somewhere, as sharp as the camera is, with its sensor's noise."""
    size = view.shape[0]
    sharp = camera.blur == 0.0
    seen = view if sharp else cv2.GaussianBlur(view, (0, 0), camera.blur * np.sqrt(size / 64.0))
    across = np.linspace(-0.5, 0.5, size, dtype=np.float32)
    slopes = generator.uniform(-_SLOPE, _SLOPE, size=2)
    level = camera.brightness + generator.normal(0.0, 8.0) + _SHORTCUT_BRIGHTNESS * brighter
    exposed = generator.standard_normal((size, size), dtype=np.float32)
    exposed *= np.float32(camera.noise)
    exposed += seen * np.float32(camera.gain)
    exposed += (level + 0.5 + slopes[0] * across).astype(np.float32)[:, None]
    exposed += (slopes[1] * across).astype(np.float32)[None, :]
    return np.clip(exposed, 0.0, 255.0, out=exposed).astype(np.uint8)
