"""Which columns of a table are read, and their cells as text: one form for CSV and for parquet.

Also what a file is that is no such table, by its first bytes, for the message.
"""

import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from components.data.sources.listing import SourceOptions
from components.display import listed
from components.errors import InputError

_SAVE = "open it in the program that wrote it and save it as 'CSV UTF-8'"
_UNPACK = "unpack it first"
_COPY = "fetch the file itself"

_MARKS = (
    (b"PAR1", "a parquet table; write data.source: parquet:…"),
    (b"PARE", "an encrypted parquet table; write it without encryption"),
    (b"PK\x03\x04", f"an Excel workbook (.xlsx), or another ZIP archive; {_SAVE}"),
    (b"\xd0\xcf\x11\xe0", f"an Excel workbook (.xls); {_SAVE}"),
    (b"\x1f\x8b", f"compressed with gzip; {_UNPACK}"),
    (b"BZh", f"compressed with bzip2; {_UNPACK}"),
    (b"\xfd7zXZ", f"compressed with xz; {_UNPACK}"),
    (b"\x28\xb5\x2f\xfd", f"compressed with zstd; {_UNPACK}"),
    (b"7z\xbc\xaf", f"a 7-Zip archive; {_UNPACK}"),
    (b"ARROW1", "an Arrow (Feather) file; save it as parquet"),
    (b"ORC", "an ORC table; save it as parquet"),
    (b"SQLite format 3", "an SQLite database; save the table as CSV"),
    (b"%PDF", "a PDF document; save the table as CSV"),
    (b"{\\rtf", f"a text document (RTF); {_SAVE}"),
    (b"version https://git-lfs", f"a Git LFS pointer and not the table; {_COPY} (git lfs pull)"),
    (b"<", f"a web page or XML, perhaps the answer of a server that wanted a login; {_COPY}, or {_SAVE}"),
    (b"{", "JSON; save the table as CSV"),
    (b"[", "JSON; save the table as CSV"),
)  # fmt: skip


@dataclass(frozen=True)
class Cells:
    """columns: by the name that the configuration gives them, the cells of each row: text as it stands, None where
    there is none. rows: the number of each row in the file. unit: what is counted there, line or data row. notes: what
    was taken otherwise than it stands, a sentence each.
    """

    columns: Mapping[str, list[str | None]]
    rows: Sequence[int]
    unit: str
    notes: tuple[str, ...]


def wanted_columns(options: SourceOptions) -> list[tuple[str, str]]:
    """(key, name) of each column that the configuration names."""
    named = [
        ("data.path_column", options.path_column),
        ("data.label_column", options.label_column),
        ("data.group_column", options.group_column),
        ("data.split_column", options.split_column),
        ("data.mask_column", options.mask_column),
        ("data.confidence_column", options.confidence_column),
        *(("data.metadata_columns", name) for name in options.metadata_columns),
    ]
    return [(key, name) for key, name in named if name]


def find_columns(present: Sequence[str], wanted: Sequence[tuple[str, str]]) -> tuple[dict[str, int], list[str]]:
    """Where each wanted column stands, and a sentence for each that is written otherwise in the table.

    Blanks around a name and capital letters make no other name. Raises InputError: a column that is missing, or that
    stands there twice.
    """
    places: dict[str, int] = {}
    missing, repeated, notes = [], [], []
    for key, name in wanted:
        found = [i for i, other in enumerate(present) if _as_seen(other) == _as_seen(name)]
        found = found or [i for i, other in enumerate(present) if _as_meant(other) == _as_meant(name)]
        if not found:
            missing.append(f"{key}={name!r}")
            continue
        if len(found) > 1:
            repeated.append(f"{key}={name!r}: {' and '.join(repr(present[i]) for i in found)}")
        elif present[found[0]] != name:
            notes.append(f"{key}={name!r}: the table's column {present[found[0]]!r} is taken.")
        places[name] = found[0]
    faults = []
    if missing:
        names = listed([name or "(no name)" for name in present], most=20)
        faults.append(f"{', '.join(missing)}: no such column; the table has: {names}")
    if repeated:
        faults.append(
            f"{'; '.join(repeated)}: several columns of that name, and which is meant cannot be told; rename or remove "
            "all but one"
        )
    if faults:
        raise InputError(". ".join(faults))
    return places, notes


def has_columns(present: Sequence[str], wanted: Sequence[tuple[str, str]]) -> bool:
    return {_as_meant(name) for _, name in wanted} <= {_as_meant(name) for name in present}


def other_kind(data: bytes) -> str | None:
    """What the file is and what to do about it; None for one that may be text."""
    start = data[:64].removeprefix(b"\xef\xbb\xbf").lstrip()
    return next((text for mark, text in _MARKS if start.startswith(mark)), None)


def _as_seen(name: str) -> str:
    """Without what no eye sees: blanks around it, invisible characters, the way that accents are encoded."""
    visible = (c for c in unicodedata.normalize("NFKC", name) if unicodedata.category(c) not in ("Cf", "Cc"))
    return "".join(visible).strip()


def _as_meant(name: str) -> str:
    """Without capital letters, and without the mark of a comment before the first name of a header."""
    return _as_seen(name).lstrip("# ").casefold()
