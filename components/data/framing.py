"""Upright pixels to the squares that a model sees: region, tiles, and the fit into the square.

This file is copied verbatim into every exported model, beside decode.py, so it imports the standard library, numpy
and Pillow only.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from PIL import Image

FITS = ("squash", "letterbox")

Box = tuple[int, int, int, int]
"""left, top, right, bottom: px of the upright image, right and bottom excluded."""


class FramingError(ValueError):
    """The image has not the part that is to be looked at; the message is the reason."""


@dataclass(frozen=True, kw_only=True)
class Framing:
    """What of an image file the model sees, and how.

    size: side of the square that the model sees, px. region: left, top, right and bottom, px; None: all of the image.
    fit: "squash", or "letterbox": whole, in the middle, between black bars. tile_size: side, in px of the region, of
    the tiles that are judged one by one; None: no tiles. tile_overlap: share of a tile's side that neighbours have in
    common at least. significant_bits: of `decode_image`; None: as each file says, and in all that was written before
    there was a choice.

    Raises ValueError: a value out of its rule.
    """

    size: int
    region: Box | None
    fit: str
    tile_size: int | None
    tile_overlap: float
    significant_bits: int | None = None

    def __post_init__(self) -> None:
        faults = [f"{name}={getattr(self, name)!r}" for name, holds in _rules(self).items() if not holds]
        if faults:
            raise ValueError(f"framing: {', '.join(faults)} cannot be")

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Framing":
        """Read what `dataclasses.asdict` gave, also after a way through JSON.

        Raises ValueError: a key that is missing or unknown, or a value out of its rule.
        """
        names = {field.name for field in fields(cls)}
        if not isinstance(values, Mapping) or {*values, "significant_bits"} != names:
            raise ValueError(f"framing: {values!r} has to have the keys {', '.join(sorted(names))}, and no others")
        region = values["region"]
        return cls(**{**values, "region": tuple(region) if isinstance(region, list) else region})


def frame_boxes(width: int, height: int, framing: Framing) -> list[Box]:
    """The parts of an upright image that become squares: one, or one for each tile, row by row.

    Tiles are spread evenly, the last ending at the edge; an image that is smaller than a tile in one direction has
    tiles of its own size there. Raises FramingError: the region reaches beyond the image.
    """
    left, top, right, bottom = framing.region or (0, 0, width, height)
    if right > width or bottom > height:
        raise FramingError(
            f"the image is {width} × {height} px, and the region {left},{top},{right},{bottom} reaches beyond it"
        )
    if framing.tile_size is None:
        return [(left, top, right, bottom)]
    columns = _spread(left, right, framing.tile_size, framing.tile_overlap)
    rows = _spread(top, bottom, framing.tile_size, framing.tile_overlap)
    return [(x0, y0, x1, y1) for y0, y1 in rows for x0, x1 in columns]


def iter_frames(pixels: np.ndarray | Image.Image, framing: Framing) -> Iterator[tuple[Box, np.ndarray]]:
    """Each square of an image, (size, size, 3) uint8, RGB, with its box, in the order of `frame_boxes`.

    One at a time: the tiles of a large image need not be held at once. pixels: (H, W, 3) uint8 or, which is faster, a
    decoded image of mode "L" or "RGB". Raises FramingError.
    """
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    for box in frame_boxes(*image.size, framing):
        # Cropped, not resized out of the whole: the filter would take in pixels from beyond the region.
        part = image if box == (0, 0, *image.size) else image.crop(box)
        yield box, _fit(part, framing)


def fitted_size(width: int, height: int, framing: Framing) -> tuple[int, int]:
    """Width and height, px, that a box has within the square."""
    if framing.fit == "squash":
        return framing.size, framing.size
    longest = max(width, height)
    return max(1, round(width * framing.size / longest)), max(1, round(height * framing.size / longest))


def _fit(part: Image.Image, framing: Framing) -> np.ndarray:
    """(size, size, 3) uint8, antialiased: bilinear with support scaled by the reduction, so no ringing at edges."""
    width, height = fitted_size(*part.size, framing)
    left, top = (framing.size - width) // 2, (framing.size - height) // 2
    resized = part.resize((width, height), Image.Resampling.BILINEAR).convert("RGB")
    square = np.zeros((framing.size, framing.size, 3), np.uint8)
    square[top : top + height, left : left + width] = np.asarray(resized)
    return square


def _spread(start: int, stop: int, tile: int, overlap: float) -> list[tuple[int, int]]:
    length = stop - start
    if length <= tile:
        return [(start, stop)]
    step = tile - math.ceil(tile * overlap - 1e-9)  # 30 * 0.1 is a little above 3
    gaps = math.ceil((length - tile) / step)
    begins = [start + number * (length - tile) // gaps for number in range(gaps + 1)]
    return [(begin, begin + tile) for begin in begins]


def _rules(framing: Framing) -> dict[str, bool]:
    region, tile, overlap, bits = framing.region, framing.tile_size, framing.tile_overlap, framing.significant_bits
    return {
        "size": type(framing.size) is int and framing.size > 0,
        "region": region is None or _has_area(region),
        "fit": framing.fit in FITS,
        "tile_size": tile is None or (type(tile) is int and tile > 1),
        "tile_overlap": type(overlap) in (int, float) and 0 <= overlap <= 0.5,
        "significant_bits": bits is None or (type(bits) is int and 8 <= bits <= 16),
    }


def _has_area(region: object) -> bool:
    if not isinstance(region, tuple) or len(region) != 4 or any(type(side) is not int for side in region):
        return False
    left, top, right, bottom = region
    return bool(0 <= left < right and 0 <= top < bottom)
