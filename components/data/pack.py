"""The pack: every image decoded and resized once, in one memory-mapped array.

Training reads pixels from it without decoding again; several processes on a node share its pages.
"""

import hashlib
import io
import logging
import os
import stat
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from components.data.decode import DecodeError, decode_image, resize_image
from components.data.sources import Listing
from components.errors import InputError

logger = logging.getLogger(__name__)

PACK_NAME = "images.npy"
_COLUMNS = ["path", "sha256", "width", "height", "mode", "format", "pack_index"]


@dataclass(frozen=True)
class PackResult:
    """What is in the pack, and what is not.

    table: columns path, sha256, width, height, mode, format, pack_index, in the listing's order; width and
    height are those of the upright original. quarantine: columns path, reason.
    """

    table: pd.DataFrame
    quarantine: pd.DataFrame


def build_pack(
    listing: Listing,
    *,
    size: int,
    directory: Path,
    workers: int,
    on_progress: Callable[[int, int], None],
) -> PackResult:
    """Decode the listing's images into `directory`/images.npy, (N, size, size, 3) uint8.

    Images that cannot be read or decoded are left out and listed with the reason. The file appears complete
    or not at all; an existing one is replaced. A few images per worker are in memory at a time.
    on_progress: called with (done, total) after each image, from the calling thread.

    Raises InputError when no image at all can be decoded.
    """
    paths = [str(path) for path in listing.table["path"]]
    rows: list[tuple[str, str, int, int, str, str, int]] = []
    refused: list[tuple[str, str]] = []
    directory.mkdir(parents=True, exist_ok=True)
    unfinished = directory / f"{PACK_NAME}.tmp"
    try:
        with unfinished.open("wb") as stream:
            # The count in the header is padded to a fixed width, so the true count can be put in at the end.
            stream.write(_header(len(paths), size))
            outcomes = _decode_all(listing.root, paths, size=size, workers=workers)
            for done, (path, outcome) in enumerate(zip(paths, outcomes, strict=True), start=1):
                if isinstance(outcome, str):
                    refused.append((path, outcome))
                else:
                    rows.append((path, *outcome.record, len(rows)))
                    stream.write(outcome.pixels.tobytes())
                on_progress(done, len(paths))
            if not rows:
                raise _nothing_decoded(listing, refused)
            stream.seek(0)
            stream.write(_header(len(rows), size))
            stream.flush()
            os.fsync(stream.fileno())
        unfinished.replace(directory / PACK_NAME)
    finally:
        unfinished.unlink(missing_ok=True)
    if refused:
        logger.warning("%d of %d images quarantined; the first: %s: %s", len(refused), len(paths), *refused[0])
    return PackResult(
        table=pd.DataFrame(rows, columns=_COLUMNS),
        quarantine=pd.DataFrame(refused, columns=["path", "reason"], dtype="str"),
    )


def open_pack(directory: Path) -> np.ndarray:
    """The pack as a read-only memory map, (N, S, S, 3) uint8."""
    return np.load(directory / PACK_NAME, mmap_mode="r", allow_pickle=False)


@dataclass(frozen=True)
class _Packed:
    record: tuple[str, int, int, str, str]  # sha256, width, height, mode, format
    pixels: np.ndarray


def _decode_all(root: Path, paths: list[str], *, size: int, workers: int) -> Iterator[_Packed | str]:
    """The outcome of each path, in order, decoded by threads (Pillow releases the lock while it decodes)."""
    waiting: deque[Future[_Packed | str]] = deque()
    with ThreadPoolExecutor(max_workers=workers) as pool:
        try:
            for path in paths:
                waiting.append(pool.submit(_decode_file, root / path, size))
                if len(waiting) >= 4 * workers:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


def _decode_file(path: Path, size: int) -> _Packed | str:
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            return "not a file"
        data = path.read_bytes()
        image = decode_image(data)
    except OSError as error:
        return f"cannot be read: {error.strerror or error}"
    except DecodeError as error:
        return str(error)
    height, width = image.pixels.shape[:2]
    record = (hashlib.sha256(data).hexdigest(), width, height, image.mode, image.format)
    return _Packed(record=record, pixels=resize_image(image.pixels, size))


def _header(count: int, size: int) -> bytes:
    buffer = io.BytesIO()
    descriptor = {"descr": "|u1", "fortran_order": False, "shape": (count, size, size, 3)}
    np.lib.format.write_array_header_1_0(buffer, descriptor)
    return buffer.getvalue()


def _nothing_decoded(listing: Listing, refused: list[tuple[str, str]]) -> InputError:
    path, reason = refused[0] if refused else ("", "the source lists no image")
    return InputError(
        f"data.source: none of {len(refused)} images in {listing.root} can be decoded "
        f"(the first: {path}: {reason}); point data.source, and data.root for a table, at readable images"
    )
