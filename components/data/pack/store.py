"""From listed files to a pack: what an earlier run has packed is taken over, the rest is packed now.

The store `storage/images/<key>/` keeps shards by the content of files and the way they are framed, so a file that was
renamed, or comes again in another data set, is not decoded again. A data set's own pack is a folder of hard links to
the shards that hold its images: it needs no room, and stands when the store is emptied.
"""

import contextlib
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from filelock import FileLock, Timeout

from components.data.file_index import UNREADABLE
from components.data.files import Files
from components.data.framing import Framing
from components.data.pack.reader import PACK_FILE, PATHS_FILE
from components.data.pack.shards import (
    SCHEMA,
    TABLE,
    THUMBNAILS,
    UNFINISHED,
    FileChangedError,
    Item,
    Kind,
    ShardTask,
    pixel_suffix,
    shard_name,
    write_shard,
)
from components.data.pack.workers import MapTasks
from components.data.sources.listing import Listing
from components.errors import InputError

PIXELS_VERSION = 2
"""Raised when the same bytes and framing give other pixels or other measurements."""

ENCODED_SHARE = 0.6
"""PNG's share of the pixels' size, on the safe side: measured on textures 0.2 (grey) to 0.5 (colour)."""
DISK_SHARE = 0.5
"""Of the free disk, the most that a pack may take without being asked for."""

_CONTENT = ["sha256", "mask_sha256"]
_INTEGERS = ("bytes", "width", "height", "frames", "orientation", "pack_index")
_MOST_FILES, _FEWEST_FILES = 512, 64
_SHARDS_PER_WORKER = 4
_KEY_LENGTH = 16


@dataclass(frozen=True)
class PackResult:
    """What is in the pack, and what is not.

    table: a row per framed image in pack_index order: path, box, sha256, bytes, width, height, mode, format, frames,
    orientation, peak, modified, pack_index and the statistics of `measure` and `mask_statistics`; box is "" for a whole
    image; width and height are those of the upright original. quarantine: columns path, reason. decoded: files that
    were read in this run; the others had been packed before.
    """

    table: pd.DataFrame
    quarantine: pd.DataFrame
    decoded: int


def pack_images(
    listing: Listing,
    digests: pd.DataFrame,
    *,
    framing: Framing,
    kind: Kind,
    store: Path,
    directory: Path,
    workers: int,
    map_tasks: MapTasks,
    on_progress: Callable[[int], None],
) -> PackResult:
    """Make `directory` the pack of the listing's images.

    digests: of `digest_files`, for images and masks. store: the folder of all packs. workers: how many tasks
    `map_tasks` works on at a time. on_progress: called with a number of files that are done, from this thread.

    Raises InputError: no image can be decoded at all, a file changed while it was read, or the workers write elsewhere.
    """
    folder = store / _key(framing, kind)
    folder.mkdir(parents=True, exist_ok=True)
    wanted = _wanted(listing, digests)
    with FileLock(folder / ".lock"):
        for left in folder.glob(f"*{UNFINISHED}"):  # by a killed run; nobody else writes under the lock
            left.unlink(missing_ok=True)
        packed = _packed_rows(folder)
        items = _missing_items(wanted, packed)
        on_progress(len(listing.table) - len(items))
        tasks = _tasks(items, listing.files, framing=framing, kind=kind, folder=folder, workers=workers)
        try:
            for done in map_tasks(write_shard, tasks):
                on_progress(done)
        except FileChangedError as error:
            raise _changed(str(error), listing.files) from error
        if tasks:
            packed = _packed_rows(folder)
    lost = [task.name for task in tasks if not (folder / f"{task.name}{TABLE}").is_file()]
    if lost:
        raise InputError(
            f"storage.root: {len(lost)} of {len(tasks)} shards that workers wrote are not in {folder}; on a cluster "
            "it has to be a folder that every node shares"
        )
    found = wanted.merge(packed, on=_CONTENT, how="inner")
    quarantine = _quarantine(found, wanted, listing)
    table = found[found["reason"].isna()]
    if not len(table):
        raise _nothing_decoded(listing, quarantine)
    sizes = packed.dropna(subset=["row"]).groupby("shard")["row"].count()
    table = _number(table, sizes)
    _link(folder, directory, table, sizes, kind=kind, framing=framing, files=listing.files)
    columns = ["mask", "mask_sha256", "reason", "row", "start", "length", "shard"]
    return PackResult(table.drop(columns=columns).reset_index(drop=True), quarantine, decoded=len(items))


def choose_kind(*, images: int, side: int, free_disk: int, memory: int) -> Kind:
    """The fastest kind that fits.

    Decoded pixels are read from the page cache, so they should fit into memory as well as on the disk; encoded ones
    are smaller and cost about as much as reading a small file; none costs decoding the original at each use.

    images: framed images. side: pixels. free_disk, memory: bytes.
    """
    pixels = images * side * side * 3
    room = DISK_SHARE * free_disk
    if pixels <= room and pixels <= memory:
        return "decoded"
    return "encoded" if ENCODED_SHARE * pixels <= room else "none"


def sweep_store(store: Path, packs: Iterable[Path], *, remove: bool) -> tuple[int, int]:
    """Shards that none of the packs uses, and their bytes; with `remove` they are gone. A store in use is left alone.

    packs: the folders of all that stand. What is removed will be packed again when it is needed.
    """
    used = {shard for pack in packs for shard in _shards_of(pack)}
    shards, size = 0, 0
    for folder in store.glob("[0-9a-f]" * _KEY_LENGTH) if not store.is_symlink() else ():
        if folder.is_symlink() or not (folder / ".lock").is_file():  # without it, no run has packed into it
            continue
        with contextlib.suppress(Timeout), FileLock(folder / ".lock").acquire(timeout=0):
            for table in folder.glob(f"*{TABLE}"):
                if (folder.name, table.stem) in used:
                    continue
                files = [table, *(file for file in folder.glob(f"{table.stem}.*") if file != table)]
                shards, size = shards + 1, size + sum(file.lstat().st_size for file in files)
                for file in files if remove else ():  # the table first: without it the shard is not there
                    file.unlink()
    return shards, size


def _shards_of(pack: Path) -> list[tuple[str, str]]:
    """The folder of the store and the name of each shard of a pack; none where no pack stands."""
    try:
        record = json.loads((pack / PACK_FILE).read_text(encoding="utf-8"))
        key = _key(Framing.from_dict(record["framing"]), record["kind"])
        return [(key, shard["name"]) for shard in record["shards"]]
    except (OSError, ValueError, KeyError, TypeError):  # unfinished, or of an earlier version
        return []


def _key(framing: Framing, kind: Kind) -> str:
    text = json.dumps({"version": PIXELS_VERSION, "kind": kind, **asdict(framing)}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:_KEY_LENGTH]


def _wanted(listing: Listing, digests: pd.DataFrame) -> pd.DataFrame:
    """A row per listed file: path, sha256, modified, mask, mask_sha256."""
    table = pd.DataFrame({"path": listing.table["path"].astype("str")})
    found = digests.loc[table["path"]]
    table["sha256"] = found["sha256"].to_numpy()
    table["modified"] = found["modified"].to_numpy()
    table["mask"] = listing.table["mask"].fillna("").astype("str")
    there = table["mask"] != ""
    table["mask_sha256"] = ""
    table.loc[there, "mask_sha256"] = digests.loc[table.loc[there, "mask"], "sha256"].to_numpy()
    return table


def _packed_rows(folder: Path) -> pd.DataFrame:
    """The rows of every shard that is complete, with the shard's name."""
    tables = [SCHEMA.empty_table().append_column("shard", pa.array([], pa.string()))]
    for file in sorted(folder.glob(f"*{TABLE}")):
        table = pq.read_table(file, schema=SCHEMA)
        tables.append(table.append_column("shard", pa.array([file.stem] * len(table), pa.string())))
    rows: pd.DataFrame = pa.concat_tables(tables).to_pandas(split_blocks=True)
    # Two runs with other neighbours may have packed the same file twice; the first shard by name counts.
    first = rows.drop_duplicates(_CONTENT)[[*_CONTENT, "shard"]]
    return rows if len(first) == len(rows) else rows.merge(first, on=[*_CONTENT, "shard"])


def _missing_items(wanted: pd.DataFrame, packed: pd.DataFrame) -> list[Item]:
    readable = (wanted["sha256"] != UNREADABLE) & (wanted["mask_sha256"] != UNREADABLE)
    unique = wanted[readable].drop_duplicates(_CONTENT)
    known = set(zip(packed["sha256"], packed["mask_sha256"], strict=True))
    cells = unique[["path", "sha256", "mask", "mask_sha256"]].itertuples(index=False, name=None)
    return [Item(*map(str, row)) for row in cells if (row[1], row[3]) not in known]


def _tasks(
    items: Sequence[Item], files: Files, *, framing: Framing, kind: Kind, folder: Path, workers: int
) -> list[ShardTask]:
    """Large enough to be worth a file, small enough to keep every worker busy to the end."""
    fair = -(-len(items) // (workers * _SHARDS_PER_WORKER))
    size = min(max(fair, _FEWEST_FILES), _MOST_FILES)
    parts = [tuple(items[start : start + size]) for start in range(0, len(items), size)]
    return [ShardTask(shard_name(part), part, files, framing, kind, folder.absolute()) for part in parts]


def _quarantine(found: pd.DataFrame, wanted: pd.DataFrame, listing: Listing) -> pd.DataFrame:
    damaged = found.loc[found["reason"].notna(), ["path", "reason"]]
    gone = wanted[(wanted["sha256"] == UNREADABLE) | (wanted["mask_sha256"] == UNREADABLE)]
    reasons = [
        (row.path, _why_unreadable(listing.files, str(row.path if row.sha256 == UNREADABLE else row.mask)))
        for row in gone.itertuples()
    ]
    table = pd.concat([damaged, pd.DataFrame(reasons, columns=["path", "reason"])])
    return table.astype("str").sort_values("path", ignore_index=True)


def _why_unreadable(files: Files, path: str) -> str:
    try:
        files.read(path)
    except OSError as error:
        return f"cannot be read: {error.strerror or error}"
    raise _changed(path, files)


def _changed(path: str, files: Files) -> InputError:
    return InputError(
        f"data.source: {path} in {files.name} changed while it was read; run again when nothing writes there"
    )


def _number(table: pd.DataFrame, sizes: pd.Series) -> pd.DataFrame:
    """Add pack_index, the position in the used shards laid end to end by name, and sort by it."""
    used = sizes.loc[sorted(set(table["shard"]))]
    offsets = used.cumsum().shift(fill_value=0)
    table = table.assign(pack_index=table["shard"].map(offsets) + table["row"])
    # Whole numbers come as floats from beside the empty cells of quarantined files.
    table = table.astype(dict.fromkeys(_INTEGERS, "int64"))
    return table.sort_values(["pack_index", "path"], ignore_index=True)


def _link(
    folder: Path,
    directory: Path,
    table: pd.DataFrame,
    sizes: pd.Series,
    *,
    kind: Kind,
    framing: Framing,
    files: Files,
) -> None:
    """Fill `directory` with links to the shards in use, and write what a reader needs to know, last."""
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)
    used = sorted(set(table["shard"]))
    suffixes = [THUMBNAILS, TABLE] if kind == "none" else [pixel_suffix(kind), THUMBNAILS, TABLE]
    for name in used:
        for suffix in suffixes:
            _link_or_copy(folder / f"{name}{suffix}", directory / f"{name}{suffix}")
    if kind == "none":
        table[["pack_index", "path", "box"]].drop_duplicates("pack_index").to_parquet(directory / PATHS_FILE)
    record = {
        "kind": kind,
        "framing": asdict(framing),
        # Only a pack without pixels has to reach the source again; an address may hold a password.
        "files": files.uri if kind == "none" else files.name,
        "shards": [{"name": name, "rows": int(sizes[name])} for name in used],
    }
    (directory / PACK_FILE).write_text(json.dumps(record, indent=2), encoding="utf-8")


def _link_or_copy(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:  # another file system, or one without links
        shutil.copyfile(source, target)


def _nothing_decoded(listing: Listing, quarantine: pd.DataFrame) -> InputError:
    first = quarantine.iloc[0] if len(quarantine) else {"path": "", "reason": "the source lists no image"}
    return InputError(
        f"data.source: none of {len(listing.table)} images in {listing.files.name} can be decoded "
        f"(the first: {first['path']}: {first['reason']}); point data.source, and data.root for a table, at readable "
        "images"
    )
