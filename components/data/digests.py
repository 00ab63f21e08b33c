"""Content digests of files and tables: the same on any machine, whatever the row order of a directory."""

import hashlib
import json
from pathlib import Path

import pandas as pd

_BLOCK = 1 << 20


def file_sha256(path: Path) -> str:
    """Hex digest of the file's bytes, read in blocks. Raises OSError when it cannot be read."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()


def table_sha256(table: pd.DataFrame) -> str:
    """Hex digest of the cells and column names, row by row; missing values of any kind count as null.

    Columns are taken in alphabetical order and cells in plain JSON, so that a table has the same digest
    before and after a round trip through a file.
    """
    columns = sorted(table.columns)
    digest = hashlib.sha256(json.dumps(columns).encode())
    for row in table[columns].itertuples(index=False, name=None):
        digest.update(b"\n" + json.dumps([_plain(cell) for cell in row]).encode())
    return digest.hexdigest()


def _plain(cell: object) -> object:
    if pd.isna(cell):  # type: ignore[call-overload]  # None, nan, NA and NaT alike
        return None
    item = getattr(cell, "item", None)  # numpy scalar
    return item() if callable(item) else cell
