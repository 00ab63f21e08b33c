"""The file pass of preparing over the loop that anyone would write: open, convert, resize. Both on the same cores."""

from __future__ import annotations

import dataclasses
import io
import shutil
import statistics
import time
from pathlib import Path
from typing import Any

import pandas as pd
from PIL import Image

from components.data.file_index import digest_files
from components.data.framing import Framing
from components.data.pack.store import pack_images
from components.data.pack.workers import on_cores
from components.data.sources.listing import Listing
from pipeline.data.sources import list_images
from pipeline.sections.data import DataConfig

FILES_PER_TASK = 64


def list_files(source: str, place: Path) -> Listing:
    """The images of a source, without their masks, which no bare loop reads; generated ones are made below `place`."""
    listing = list_images(DataConfig(source=source), place)
    return dataclasses.replace(listing, table=listing.table.assign(mask=None))


def measure(listing: Listing, place: Path, *, side: int, cores: int, repeats: int) -> dict[str, Any]:
    """Images per second of both, medians of `repeats` turns, and the ratio of the rates turn by turn.

    Both start their processes anew at each turn. Hashing for the fingerprint, which a run does beforehand for files
    that it has not seen, is measured by itself.
    """
    framing = Framing(size=side, region=None, fit="squash", tile_size=None, tile_overlap=0.0)
    index = place / "index"
    started = time.perf_counter()
    digests = digest_files(listing, index_folder=index, workers=cores, on_progress=lambda done, total: None)
    hashing = time.perf_counter() - started
    seconds: dict[str, list[float]] = {"ours": [], "bare loop": []}
    for _ in range(repeats):
        shutil.rmtree(place / "store", ignore_errors=True)
        started = time.perf_counter()
        _pack(listing, digests, place, framing=framing, cores=cores)
        seconds["ours"].append(time.perf_counter() - started)
        started = time.perf_counter()
        _bare(listing, side=side, cores=cores)
        seconds["bare loop"].append(time.perf_counter() - started)
    count = len(listing.table)
    again = _again(listing, place, framing=framing, cores=cores)
    ratios = [theirs / mine for mine, theirs in zip(seconds["ours"], seconds["bare loop"], strict=True)]
    return {
        "images": count,
        "images_per_second": {name: count / statistics.median(values) for name, values in seconds.items()},
        "ratio_of_rates": {"median": statistics.median(ratios), "min": min(ratios), "max": max(ratios)},
        "hashing_share": hashing / statistics.median(seconds["ours"]),
        "again_with_1_percent_new": again / (hashing + statistics.median(seconds["ours"])),
    }


def _again(listing: Listing, place: Path, *, framing: Framing, cores: int) -> float:
    """Seconds of hashing and packing all, where all but 1 % of the files (at least one) were there before."""
    new = max(1, round(0.01 * len(listing.table)))
    for name in ("store", "index"):
        shutil.rmtree(place / name, ignore_errors=True)
    before = dataclasses.replace(listing, table=listing.table.iloc[new:].reset_index(drop=True))
    for images in (before, listing):
        started = time.perf_counter()
        digests = digest_files(
            images, index_folder=place / "index", workers=cores, on_progress=lambda done, total: None
        )
        _pack(images, digests, place, framing=framing, cores=cores)
    return time.perf_counter() - started


def _pack(listing: Listing, digests: pd.DataFrame, place: Path, *, framing: Framing, cores: int) -> None:
    pack_images(
        listing,
        digests,
        framing=framing,
        kind="decoded",
        store=place / "store",
        directory=place / "pack",
        workers=cores,
        map_tasks=on_cores(cores),
        on_progress=lambda done: None,
    )


def _bare(listing: Listing, *, side: int, cores: int) -> None:
    paths = [str(listing.files.local(path)) for path in listing.table["path"]]
    tasks = [(paths[start : start + FILES_PER_TASK], side) for start in range(0, len(paths), FILES_PER_TASK)]
    for _ in on_cores(cores)(decode_and_resize, tasks):
        pass


def decode_and_resize(task: tuple[list[str], int]) -> int:
    """What a worker of the bare loop does with its files."""
    paths, side = task
    for path in paths:
        with Image.open(io.BytesIO(Path(path).read_bytes())) as image:
            image.convert("RGB").resize((side, side), Image.Resampling.BILINEAR).tobytes()
    return len(paths)
