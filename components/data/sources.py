"""Where images come from: one string in the config names the kind of source and its place."""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from components.data.digests import file_sha256, table_sha256
from components.data.elpv_source import list_elpv
from components.data.folder_source import list_folder
from components.data.generated import list_generated
from components.data.listing import Listing, SourceOptions
from components.data.table_source import list_csv, list_parquet
from components.errors import InputError

__all__ = ["SOURCES", "Listing", "SourceOptions", "content_digest", "list_source"]

# Each takes what stands after the colon.
SOURCES: dict[str, Callable[[str, SourceOptions], Listing]] = {
    "folder": list_folder,
    "csv": list_csv,
    "parquet": list_parquet,
    "elpv": list_elpv,
    "generated": list_generated,
}

_FORMS = (
    "folder:/path (one sub-folder per class), csv:/path.csv, parquet:/path.parquet, elpv, "
    "generated:count=240,size=48,defect_rate=0.4,parts=80"
)


def list_source(source: str, options: SourceOptions) -> Listing:
    """List the labelled images of `source`; no image is opened.

    Raises InputError for an unknown kind, a place that does not exist, and whatever the kind refuses.
    """
    kind, _, place = source.strip().partition(":")
    if kind not in SOURCES:
        raise InputError(f"data.source={source!r} is of no known kind; use one of: {_FORMS}")
    if not place.strip() and kind in ("folder", "csv", "parquet"):
        raise InputError(f"data.source={source!r} names no place; write {kind}:/path")
    return SOURCES[kind](place.strip(), options)


def content_digest(listing: Listing) -> str:
    """sha256 over the table and each file's bytes: the same wherever the files lie.

    A file that cannot be read counts as such (it will be quarantined), and the digest changes once it can.
    """
    paths = [listing.root / path for path in listing.table["path"]]
    with ThreadPoolExecutor(max_workers=min(8, 2 * (os.cpu_count() or 1))) as pool:
        digests = list(pool.map(_sha256_or_unreadable, paths))
    return table_sha256(listing.table.assign(sha256=digests))


def _sha256_or_unreadable(path: Path) -> str:
    try:
        # A pipe or a device would never end.
        return file_sha256(path) if path.is_file() else "unreadable"
    except OSError:
        return "unreadable"
