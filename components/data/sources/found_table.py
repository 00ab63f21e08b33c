"""A table that lies beside the images and names their classes, found by the usual names of its columns."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from components.data.files import Files
from components.data.image_files import suffix_of
from components.data.sources.cells import has_columns
from components.data.sources.csv_table import csv_header
from components.data.sources.parquet_table import parquet_header
from components.data.sources.tree import Tree
from components.errors import InputError

_KINDS = {".csv": "csv", ".tsv": "csv", ".parquet": "parquet", ".pq": "parquet"}
#: The first of them that the table has is taken.
_USUAL = {
    "path_column": (
        *("path", "image_path", "img_path", "file_path", "filepath", "image", "img"),
        *("filename", "file_name", "image_name", "image_file", "file"),
    ),
    "label_column": ("label", "class", "class_name", "category", "verdict", "target", "defect_type", "result"),
    "group_column": ("group", "group_id", "part", "part_id", "part_number", "serial", "serial_number", "board_id"),
    "split_column": ("split", "usage", "subset"),
    "mask_column": ("mask", "mask_path"),
}
_NEEDED = ("path_column", "label_column")


@dataclass(frozen=True)
class FoundTable:
    """kind: csv or parquet. name: of the file. columns: by the key that names it, the column as the table writes it."""

    kind: str
    name: str
    columns: Mapping[str, str]


def find_table(files: Files, tree: Tree, *, key: str) -> FoundTable | None:
    """The one table right in the root that has a path and a label of each image; None where there is none.

    key: what named the root, for errors. Raises InputError: several such tables, one that cannot be read.
    """
    found = []
    for name in (path for path in tree.paths if "/" not in path and suffix_of(path) in _KINDS):
        kind = _KINDS[suffix_of(name)]
        try:
            data = files.read(name)
            header = csv_header(data, _is_header) if kind == "csv" else parquet_header(data)
        except (OSError, ValueError) as error:
            raise InputError(f"{key}: the table {name} in {files.name} cannot be read as {kind}: {error}") from error
        if header is not None and _is_header(header):
            found.append(FoundTable(kind, name, _columns(header)))
    if len(found) > 1:
        names = " and ".join(table.name for table in found)
        raise InputError(f"{key}: {files.name} holds several tables of images, {names}; keep one, with a row per image")
    return found[0] if found else None


def _is_header(cells: Sequence[str]) -> bool:
    return set(_NEEDED) <= _columns(cells).keys()


def _columns(cells: Sequence[str]) -> dict[str, str]:
    """Each key's column, spelt as the table does but for the blanks around it."""
    found = {}
    for key, usual in _USUAL.items():
        name = next((name for name in usual if has_columns(cells, [(key, name)])), None)
        if name is not None:
            found[key] = next(cell for cell in cells if has_columns([cell], [(key, name)])).strip()
    return found
