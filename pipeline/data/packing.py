"""From the data section to a pack: hash what changed, decode what is new, stop where too much of it cannot be used."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path

import pandas as pd

from components.data.decode import DecodeError, decode_image
from components.data.file_index import UNREADABLE, digest_files
from components.data.framing import Framing, FramingError, frame_boxes
from components.data.pack.reader import PACK_FOLDER
from components.data.pack.store import PackResult, choose_kind, pack_images
from components.data.pack.workers import MapTasks, on_cores
from components.data.sources.listing import Listing
from components.display import listed
from components.errors import InputError
from pipeline.compute.resources import cpu_threads, memory_bytes
from pipeline.compute.shipping import seen_by_nodes
from pipeline.console import Console
from pipeline.sections.data import DataConfig
from pipeline.stage import StageContext
from pipeline.storage import IMAGES_FOLDER, INDEX_FOLDER

HASHING_THREADS = 8
#: Files that are opened, at most, to find out into how many tiles an image is cut.
SAMPLED_FILES = 5


def hash_files(listing: Listing, storage: Path, console: Console) -> pd.DataFrame:
    """The digest of each file; those are read that are new or have changed."""
    with console.bar("hashing files", None) as advance:
        return digest_files(
            listing,
            index_folder=storage / INDEX_FOLDER,
            workers=HASHING_THREADS,
            on_progress=lambda done, total: advance(1, f"of {total:,} new or changed"),
        )


def check_readable(listing: Listing, digests: pd.DataFrame, data: DataConfig) -> None:
    """Raise `InputError` where more files are gone or closed than may be: known before one is decoded."""
    sha256 = digests["sha256"].reindex(listing.table["path"])
    gone = sha256.index[sha256 == UNREADABLE]
    if len(gone) / len(sha256) > data.max_quarantined_fraction:
        raise InputError(
            f"data.max_quarantined_fraction={data.max_quarantined_fraction:g}: {len(gone)} of {len(sha256)} files "
            f"({len(gone) / len(sha256):.1%}) are not there or cannot be read, for instance "
            f"{listed(list(gone), most=3)}; correct the paths, or raise the fraction"
        )


def pack_source(context: StageContext, listing: Listing, digests: pd.DataFrame, data: DataConfig) -> PackResult:
    """Fill the stage's pack, and write quarantine.csv. Raises InputError when too many files cannot be used."""
    framing = Framing(
        size=data.image_size,
        region=data.region,
        fit=data.fit,
        tile_size=data.tile_size,
        tile_overlap=data.tile_overlap,
        significant_bits=data.significant_bits,
    )
    kind = data.pack
    if kind == "auto":
        images = len(listing.table) * _tiles_per_file(listing, framing)
        free = shutil.disk_usage(context.storage).free
        kind = choose_kind(images=images, side=framing.size, free_disk=free, memory=memory_bytes())
    with (
        context.console.bar("decoding", len(listing.table)) as advance,
        _workers(context) as (workers, map_tasks),
    ):
        packed = pack_images(
            listing,
            digests,
            framing=framing,
            kind=kind,
            store=context.storage / IMAGES_FOLDER,
            directory=context.directory / PACK_FOLDER,
            workers=workers,
            map_tasks=map_tasks,
            on_progress=advance,
        )
    packed.quarantine.to_csv(context.directory / "quarantine.csv", index=False)
    context.run.log_artifact(context.directory / "quarantine.csv")  # also of a run that stops below
    _check_quarantine(packed, len(listing.table), data)
    return packed


def _tiles_per_file(listing: Listing, framing: Framing) -> int:
    """Of the first file that can be decoded; the others are taken to be like it."""
    if framing.tile_size is not None:
        for path in listing.table["path"].head(SAMPLED_FILES):
            with contextlib.suppress(OSError, DecodeError, FramingError):  # the file pass will say which and why
                decoded = decode_image(listing.files.read(path), significant_bits=framing.significant_bits)
                return len(frame_boxes(*decoded.image.size, framing))
    return 1


@contextlib.contextmanager
def _workers(context: StageContext) -> Iterator[tuple[int, MapTasks]]:
    """The cores of this machine, or of the cluster where there is one whose nodes see the storage."""
    threads = cpu_threads(context.compute)
    if context.compute.ray_address is None:
        yield threads, on_cores(threads)
        return
    from components.cluster import cluster_cores, map_on_cluster, ray_session

    mark = context.work / "mark.txt"
    mark.write_text(context.run.id, encoding="utf-8")
    with ray_session(address=context.compute.ray_address, num_cpus=threads, num_gpus=0):
        if seen_by_nodes(mark, context.run.id):
            yield cluster_cores(), map_on_cluster
            return
    context.console.say("  not every node of the cluster sees storage.root: images are decoded on this machine")
    yield threads, on_cores(threads)


def _check_quarantine(packed: PackResult, total: int, data: DataConfig) -> None:
    bad = len(packed.quarantine)
    if bad / total > data.max_quarantined_fraction:
        first = "; ".join(f"{row.path}: {row.reason}" for row in packed.quarantine.head(3).itertuples())
        raise InputError(
            f"data.max_quarantined_fraction={data.max_quarantined_fraction:g}: {bad} of {total} files "
            f"({bad / total:.1%}) cannot be used, for instance {first}; repair or remove them (all are in the run's "
            "quarantine.csv), or raise the fraction"
        )
