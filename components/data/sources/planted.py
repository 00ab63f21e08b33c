"""Faults that `generated:` plants among its files on purpose, so that what looks for such faults can be tried.

Copies come under names of parts that do not exist otherwise: who splits by part alone is misled.
"""

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from components.data.sources.photographs import (
    Row,
    encode_jpeg,
    encode_png,
    group_name,
    image_path,
    mask_path,
    write_file,
)

FAULTS = ("duplicate", "leak", "conflict", "corrupt")

_LEAK_QUALITY = 90
_TEXT = b"This is not an image.\n"


class Fault(NamedTuple):
    """A line of faults.csv. fault: one of FAULTS; of: the image that it is a copy of, or empty."""

    path: str
    fault: str
    of: str


def plant_faults(
    folder: Path, rows: Sequence[Row], *, each: int, parts: int, labels: Sequence[str], generator: np.random.Generator
) -> list[Row]:
    """Plant `each` of every kind of fault; write faults.csv; return the lines of all files, the copies' last.

    rows: of the sound images, at least 4 × each. parts: how many there are of these. labels: all that occur.

    duplicate: the same bytes under another part. leak: the same view under another part, encoded as JPEG, shifted by 1
    or 2 pixels, up to 6 % brighter or darker. conflict: a duplicate or a leak, by turns, with another label. corrupt:
    a file cut in half, empty or of text, by turns. No image is the origin of two faults. Raises OSError.
    """
    origins = [rows[number] for number in generator.permutation(len(rows))[: len(FAULTS) * each]]
    copies, faults = [], []
    for number, origin in enumerate(origins[: 3 * each]):
        kind, turn = FAULTS[number // each], number % each
        label = _other_label(origin.label, labels, generator) if kind == "conflict" else origin.label
        changed = kind == "leak" or (kind == "conflict" and turn % 2 == 1)
        copy = _copy(folder, origin, label, len(rows) + number, parts + number, generator if changed else None)
        copies.append(copy)
        faults.append(Fault(copy.path, kind, origin.path))
    for turn, row in enumerate(origins[3 * each :]):
        _corrupt(folder / row.path, turn)
        faults.append(Fault(row.path, "corrupt", ""))
    with (folder / "faults.csv").open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(Fault._fields)
        writer.writerows(sorted(faults))
    return [*rows, *copies]


def _other_label(label: str, labels: Sequence[str], generator: np.random.Generator) -> str:
    others = [other for other in labels if other != label]
    return others[int(generator.integers(len(others)))]


def _copy(folder: Path, origin: Row, label: str, image: int, part: int, changing: np.random.Generator | None) -> Row:
    """Copy an image and, where the label still calls for it, its mask. changing: draws how, if not byte by byte."""
    group = group_name(part)
    content = (folder / origin.path).read_bytes()
    mask = (folder / origin.mask).read_bytes() if origin.mask and label != "good" else None
    path = image_path(image, group, 1, ".jpg" if changing else Path(origin.path).suffix)
    if changing:
        shift = _draw_shift(changing)
        light = changing.uniform(0.94, 1.06)
        pixels = np.clip(_shifted(_decoded(content), shift) * light + 0.5, 0, 255).astype(np.uint8)
        content = encode_jpeg(pixels, quality=_LEAK_QUALITY)
        mask = encode_png(_shifted(_decoded(mask), shift)) if mask else None
    write_file(folder, path, content)
    if mask:
        write_file(folder, mask_path(path), mask)
    return origin._replace(path=path, label=label, group=group, mask=mask_path(path) if mask else "")


def _draw_shift(generator: np.random.Generator) -> tuple[int, int]:
    """Rows and columns: 1 or 2 pixels along at least one of them."""
    shifts = [(down, right) for down in range(-2, 3) for right in range(-2, 3) if (down, right) != (0, 0)]
    return shifts[int(generator.integers(len(shifts)))]


def _shifted(pixels: np.ndarray, shift: tuple[int, int]) -> np.ndarray:
    """The same size; what comes in at the edge repeats the edge."""
    padded = np.pad(pixels, 2, mode="edge")
    top, left = 2 - shift[0], 2 - shift[1]
    return padded[top : top + pixels.shape[0], left : left + pixels.shape[1]]


def _decoded(content: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(content)) as image:
        return np.asarray(image)


def _corrupt(path: Path, turn: int) -> None:
    content = path.read_bytes()
    path.write_bytes((content[: len(content) // 2], b"", _TEXT)[turn % 3])
