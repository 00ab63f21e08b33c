"""One shard: some files read, hashed, decoded, framed and measured in one pass, and the result written for good.

A shard is three files, or two where no pixels are kept: `.pixels` (or `.png`, one after the other), `.thumbnails`, and
a `.parquet` with a row per framed image, written last: a shard without it is not there.
"""

import hashlib
import io
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from components.data.decode import DecodeError, decode_image
from components.data.files import Files
from components.data.framing import Box, Framing, FramingError, frame_boxes, iter_frames
from components.data.masks import mask_statistics, read_mask

#: How pixels are kept: as they are, as PNG, or not at all.
Kind = Literal["decoded", "encoded", "none"]
TABLE, PIXELS, ENCODED, THUMBNAILS = ".parquet", ".pixels", ".png", ".thumbnails"
UNFINISHED = ".tmp"
THUMBNAIL_SIDE = 64
_BORDER = 0.05

SCHEMA = pa.schema(
    [
        ("sha256", pa.string()), ("mask_sha256", pa.string()),
        ("reason", pa.string()),  # why there is no image; all that follows is null then
        ("row", pa.int32()), ("box", pa.string()), ("start", pa.int64()), ("length", pa.int64()),
        ("bytes", pa.int64()), ("width", pa.int32()), ("height", pa.int32()), ("mode", pa.string()),
        ("format", pa.string()), ("frames", pa.int32()), ("orientation", pa.int32()), ("peak", pa.int32()),
        ("brightness", pa.float32()), ("contrast", pa.float32()), ("sharpness", pa.float32()),
        ("border", pa.float32()), ("colour", pa.float32()),
        ("defect_area", pa.float32()), ("defect_pixels", pa.float32()),
    ]
)  # fmt: skip


class FileChangedError(Exception):
    """A file is not what it was when it was hashed, a moment ago."""


@dataclass(frozen=True)
class Item:
    """A file to pack. mask: path of the picture of its defect, or empty."""

    path: str
    sha256: str
    mask: str
    mask_sha256: str


@dataclass(frozen=True)
class ShardTask:
    """What a worker is given; small to send. folder: where the shard goes."""

    name: str
    items: tuple[Item, ...]
    files: Files
    framing: Framing
    kind: Kind
    folder: Path


def shard_name(items: tuple[Item, ...]) -> str:
    """The same for the same contents, whichever process packs them."""
    return hashlib.sha256("".join(item.sha256 + item.mask_sha256 for item in items).encode()).hexdigest()[:16]


def write_shard(task: ShardTask) -> int:
    """Pack the task's files; returns how many there were. One image is in memory at a time.

    A file that cannot be decoded or framed becomes a row with the reason. Raises FileChangedError, and OSError for a
    disk that is full or a file that has gone.
    """
    cv2.setNumThreads(0)  # the images are small, and there is a process for each core already
    base = task.folder / task.name
    rows: list[dict[str, Any]] = []
    drafts = [unfinished(base, suffix) for suffix in (THUMBNAILS, pixel_suffix(task.kind))]
    with drafts[0].open("wb") as thumbnails, drafts[1].open("wb") as pixels:
        count = 0
        for item in task.items:
            for row, framed in _pack_file(task, item):
                if framed is not None:
                    measured = measure(framed)
                    thumbnails.write(measured.thumbnail.tobytes())
                    start = pixels.tell()
                    pixels.write(_stored(framed, task.kind))
                    values = {name: value for name, value in asdict(measured).items() if name != "thumbnail"}
                    row |= {"row": count, "start": start, "length": pixels.tell() - start, **values}
                    count += 1
                rows.append(row)
        for stream in (thumbnails, pixels):
            stream.flush()
            os.fsync(stream.fileno())
    if task.kind == "none":
        drafts[1].unlink()
    else:
        _finish(base, pixel_suffix(task.kind))
    _finish(base, THUMBNAILS)
    pq.write_table(pa.Table.from_pylist(rows, SCHEMA), unfinished(base, TABLE), compression="zstd")
    _finish(base, TABLE)
    return len(task.items)


def pixel_suffix(kind: Kind) -> str:
    return ENCODED if kind == "encoded" else PIXELS


def decode_stored(data: bytes) -> np.ndarray:
    """(S, S, 3) uint8 of an encoded row."""
    with Image.open(io.BytesIO(data), formats=("PNG",)) as image:
        return np.asarray(image.convert("RGB"))


def _pack_file(task: ShardTask, item: Item) -> Iterator[tuple[dict[str, Any], np.ndarray | None]]:
    """The rows of one file, each with its framed pixels; a single row with a reason where there are none."""
    keys = {"sha256": item.sha256, "mask_sha256": item.mask_sha256}
    data = _read_unchanged(task.files, item.path, item.sha256)
    mask = _read_unchanged(task.files, item.mask, item.mask_sha256) if item.mask else None
    try:
        decoded = decode_image(data, significant_bits=task.framing.significant_bits)
        width, height = decoded.image.size
        boxes = frame_boxes(width, height, task.framing)
        defects = _defects(mask, width, height, boxes, task.framing)
    except (DecodeError, FramingError) as error:
        yield {**keys, "reason": str(error)}, None
        return
    for (box, framed), (area, side) in zip(iter_frames(decoded.image, task.framing), defects, strict=True):
        row = {
            **keys,
            "box": ",".join(map(str, box)) if task.framing.tile_size is not None else "",
            "bytes": len(data),
            "width": width,
            "height": height,
            "mode": decoded.mode,
            "format": decoded.format,
            "frames": decoded.frames,
            "orientation": decoded.orientation,
            "peak": decoded.peak,
            "defect_area": area,
            "defect_pixels": side,
        }
        yield row, framed


def _read_unchanged(files: Files, path: str, sha256: str) -> bytes:
    data = files.read(path)
    if hashlib.sha256(data).hexdigest() != sha256:
        raise FileChangedError(path)
    return data


def _defects(
    mask: bytes | None, width: int, height: int, boxes: list[Box], framing: Framing
) -> list[tuple[float, float]]:
    """Share and shortest side of the defect in each box; NaN without a mask. Raises DecodeError."""
    if mask is None:
        return [(float("nan"), float("nan"))] * len(boxes)
    try:
        pixels = read_mask(mask, width=width, height=height)
    except DecodeError as error:
        raise DecodeError(f"its mask: {error}") from error
    return mask_statistics(pixels, boxes, framing)


def _stored(framed: np.ndarray, kind: Kind) -> bytes:
    if kind == "decoded":
        return framed.tobytes()
    if kind == "none":
        return b""
    grey = (framed[:, :, :1] == framed[:, :, 1:]).all()
    buffer = io.BytesIO()
    Image.fromarray(framed[:, :, 0] if grey else framed).save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


def unfinished(base: Path, suffix: str) -> Path:
    return base.with_name(base.name + suffix + UNFINISHED)


def _finish(base: Path, suffix: str) -> None:
    unfinished(base, suffix).replace(base.with_name(base.name + suffix))


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
