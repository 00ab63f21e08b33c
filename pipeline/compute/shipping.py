"""How workers get the prepared data: from a shared folder, else through Ray's object store.

In the second case the driver puts the files there once, and the first worker of a node writes them to a local folder,
from which all workers of the node memory-map them: a node fetches the data once, and has one copy in memory.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import socket
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

import numpy as np
from filelock import FileLock

from components.data.pack.reader import PACK_FILE, PACK_FOLDER
from components.data.pack.shards import THUMBNAILS
from components.errors import InputError
from components.home import own_folder
from pipeline.stage import COMMIT_FILE, StageRecord, read_record

if TYPE_CHECKING:
    from pipeline.config import ComputeConfig

logger = logging.getLogger(__name__)

#: Size of an object in the store: the driver reads no more of a file at a time.
CHUNK_BYTES = 64 * 2**20
#: Copies that no worker of a node has opened for so long are removed when a new one is made.
UNUSED_DAYS = 7
#: How long a node may take to say whether it sees a folder. A busy machine takes a minute to start a worker.
PATIENCE_SECONDS = 300.0
#: Set to `always`, workers fetch the data even where they see the folder.
SHIP_VARIABLE = "ESCAPEMENT_SHIP_DATA"


@dataclass(frozen=True)
class ShippedFile:
    """A file in the object store. name: relative, with slashes. size: bytes. chunks: Ray's references, in order."""

    name: str
    size: int
    chunks: tuple[Any, ...]


@dataclass(frozen=True)
class Prepared:
    """What `prepare` wrote, as it is handed to workers; small to send.

    folder: where it lies; None where no worker is to look. result_id: of the record in its stage.json. files: what
    training reads of it, in the object store for as long as the driver lives; None where every worker sees the folder.
    """

    folder: Path | None
    result_id: str
    files: tuple[ShippedFile, ...] | None = None


def ship(record: StageRecord, *, compute: ComputeConfig) -> Prepared:
    """The prepared data for workers; on a cluster whose nodes do not see its folder, put into the object store.

    To be called within the Ray session of the workers where `compute.ray_address` is set.
    """
    folder = record.directory.absolute()
    if compute.ray_address is None:
        return Prepared(folder, record.result_id)
    always = os.environ.get(SHIP_VARIABLE) == "always"
    if not always and seen_by_nodes(folder / COMMIT_FILE, record.result_id):
        return Prepared(folder, record.result_id)
    files = tuple(_put(folder, name) for name in _needed(folder))
    return Prepared(None if always else folder, record.result_id, files)


def local_folder(prepared: Prepared) -> Path:
    """The folder of the prepared data on this machine, for `open_data`; it is fetched where it is not there yet.

    Raises InputError: no room for it, a place for it that belongs to another user, or images that only the driver has.
    """
    if prepared.folder is not None and _is_result(prepared.folder, prepared.result_id):
        return prepared.folder
    if prepared.files is not None:
        return _cached(prepared.result_id, prepared.files)
    raise InputError(
        f"storage.root: {socket.gethostname()} does not see {prepared.folder} as it was when the stage started; on a "
        "cluster share it with every node, or with none"
    )


def seen_by_nodes(path: Path, text: str) -> bool:
    """Whether all nodes of the cluster of the current Ray session read that text in that file.

    The driver's own node proves nothing about nodes that join later, so another one has to be among them.
    """
    from components.cluster import ask_each_node, own_node

    answers = ask_each_node(_reads, (path, text), patience=PATIENCE_SECONDS)
    return all(answers.values()) and bool(answers.keys() - {own_node()})


def _reads(question: tuple[Path, str]) -> bool:
    path, text = question
    try:
        return text in path.read_text(encoding="utf-8")
    except OSError:
        return False


def _needed(folder: Path) -> list[str]:
    """What training reads of a prepared folder. Thumbnails are for the audit of the data alone."""
    pack = sorted(path.name for path in (folder / PACK_FOLDER).iterdir() if not path.name.endswith(THUMBNAILS))
    return ["manifest.parquet", *(f"{PACK_FOLDER}/{name}" for name in pack), COMMIT_FILE]


def _put(folder: Path, name: str) -> ShippedFile:
    import ray

    path = folder / name
    return ShippedFile(name, path.stat().st_size, tuple(ray.put(chunk) for chunk in _chunks(path)))


def _chunks(path: Path) -> Iterator[np.ndarray]:
    """The file in parts, (n,) uint8: arrays go into the object store and out of it without another copy."""
    with path.open("rb") as stream:
        while len(chunk := np.fromfile(stream, np.uint8, CHUNK_BYTES)):
            yield chunk


def _cached(result_id: str, files: tuple[ShippedFile, ...]) -> Path:
    """This node's copy. One of its workers makes it, the others wait for that."""
    try:
        place = own_folder("escapement")  # which nobody else may read or prepare
    except OSError as error:
        raise InputError(
            f"TMPDIR={tempfile.gettempdir()} on {socket.gethostname()}: {error.filename}: {error.strerror}; remove "
            "it, or point TMPDIR elsewhere"
        ) from error
    folder = place / result_id
    with FileLock(place / ".lock"):
        if not _is_whole(folder, result_id, files):
            _remove_unused(place)
            _fetch(files, folder)
        os.utime(folder)  # in use: no other worker removes it
    return folder


def _is_result(folder: Path, result_id: str) -> bool:
    record = read_record(folder)
    return record is not None and record.result_id == result_id


def _is_whole(folder: Path, result_id: str, files: tuple[ShippedFile, ...]) -> bool:
    """Whether a copy is complete: something may have removed old files of it."""
    paths = ((folder / file.name, file.size) for file in files)
    return _is_result(folder, result_id) and all(path.is_file() and path.stat().st_size == size for path, size in paths)


def _fetch(files: tuple[ShippedFile, ...], folder: Path) -> None:
    """Write the files beside the folder's place, then rename: a folder that is there is whole."""
    import ray

    size = sum(file.size for file in files)
    free = shutil.disk_usage(folder.parent).free
    if size > free:
        raise InputError(
            f"TMPDIR={folder.parent.parent} on {socket.gethostname()}: the prepared images need {size / 1e9:.1f} GB, "
            f"and {free / 1e9:.1f} GB are free; make room or point TMPDIR elsewhere"
        )
    unfinished = folder.with_name(f"{folder.name}.tmp")
    shutil.rmtree(unfinished, ignore_errors=True)
    shutil.rmtree(folder, ignore_errors=True)
    for file in files:
        path = unfinished / PurePosixPath(file.name)
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as stream:
            for chunk in file.chunks:
                stream.write(ray.get(chunk).data)
    _check_source(unfinished)
    unfinished.rename(folder)
    logger.info("fetched %.1f MB of prepared data to %s", size / 1e6, folder)


def _check_source(folder: Path) -> None:
    """A pack that keeps no pixels reads the images themselves."""
    pack = json.loads((folder / PACK_FOLDER / PACK_FILE).read_text(encoding="utf-8"))
    if pack["kind"] == "none" and "://" not in pack["files"] and not Path(pack["files"]).exists():
        raise InputError(
            f"data.pack=none: workers read the images themselves, and {socket.gethostname()} does not see "
            f"{pack['files']}; keep them in the pack (decoded or encoded), or give a data.source that all nodes reach"
        )


def _remove_unused(place: Path) -> None:
    """Remove old copies. A worker that has files of one open can still read them."""
    oldest = time.time() - UNUSED_DAYS * 86400
    for folder in place.iterdir():
        if folder.is_dir() and folder.stat().st_mtime < oldest:
            shutil.rmtree(folder, ignore_errors=True)
