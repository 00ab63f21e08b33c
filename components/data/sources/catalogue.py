"""Where images come from: one string in the config names the kind of source and its place."""

from collections.abc import Callable

from components.data.sources.elpv import list_elpv
from components.data.sources.folder import list_folder
from components.data.sources.generated import list_generated
from components.data.sources.listing import Listing, SourceOptions
from components.data.sources.mvtec import list_mvtec
from components.data.sources.table import list_csv, list_parquet
from components.errors import InputError, redact

# Each takes what stands after the colon.
SOURCES: dict[str, Callable[[str, SourceOptions], Listing]] = {
    "folder": list_folder,
    "csv": list_csv,
    "parquet": list_parquet,
    "mvtec": list_mvtec,
    "elpv": list_elpv,
    "generated": list_generated,
}

_FORMS = (
    "folder:/path (one sub-folder per class), csv:/path.csv, parquet:/path.parquet, mvtec:/path (MVTec AD's "
    "layout), elpv, generated:count=240,size=48,defect_rate=0.4,parts=80; a path may be an address (s3://…)"
)


def list_source(source: str, options: SourceOptions) -> Listing:
    """List the labelled images of `source`; no image is opened.

    Raises InputError for an unknown kind, a place that does not exist, and whatever the kind refuses.
    """
    kind, _, place = source.strip().partition(":")
    kind = kind.strip().lower()
    if kind not in SOURCES:
        hint = " (a path alone? write folder: before it)" if "/" in source and not place else ""
        raise InputError(f"data.source={redact(source)!r} is of no known kind{hint}; use one of: {_FORMS}")
    if not place.strip() and kind in ("folder", "csv", "parquet", "mvtec"):
        raise InputError(f"data.source={redact(source)!r} names no place; write {kind}:/path")
    return SOURCES[kind](place.strip(), options)
