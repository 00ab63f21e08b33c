"""`csv:/path` and `parquet:/path`: a table with a row per image, and the images below one root folder."""

import os
import posixpath
from collections.abc import Callable, Sequence
from pathlib import Path

import pandas as pd

from components.data.listing import Listing, SourceOptions, make_listing
from components.errors import InputError

_SHOWN = 5


def list_csv(place: str, options: SourceOptions) -> Listing:
    """A table of text: UTF-8, with a header; comma, semicolon or tab, whichever the header has most of.

    Every cell is text, so that a class "001" or "NA" stays what it is; only empty cells and "nan" are
    missing. Raises InputError as `_list_table` does, and for a file that is not such a table.
    """
    return _list_table("csv", place, options, _read_csv)


def list_parquet(place: str, options: SourceOptions) -> Listing:
    """A parquet table; numbers in its label, group and metadata columns become text. Raises InputError."""
    return _list_table("parquet", place, options, pd.read_parquet)


def _list_table(kind: str, place: str, options: SourceOptions, read: Callable[[Path], pd.DataFrame]) -> Listing:
    """Raises InputError: no such file, unreadable, no such column, empty cells, paths repeated or outside."""
    file = Path(place).expanduser()
    if not file.is_file():
        raise InputError(f"data.source='{kind}:{place}' is not a file; give the path of a {kind} table")
    try:
        table = read(file)
    except (ValueError, OSError) as error:  # pandas' and pyarrow's parser errors, wrong encodings
        raise InputError(f"data.source='{kind}:{place}' cannot be read as {kind}: {error}") from error
    _check_columns(table, options)
    root = (file.parent if options.root is None else Path(options.root).expanduser()).resolve()
    if not root.is_dir():
        raise InputError(f"data.root={options.root!r} is not a folder; give the one that the paths start from")
    path = _required(_texts(table, options.path_column, strip=False), options.path_column, "data.path_column")
    label = _required(_texts(table, options.label_column), options.label_column, "data.label_column")
    relative = _relative_paths(path, root)
    _check_paths(relative, root)
    return make_listing(
        root,
        path=relative,
        label=label,
        group=None if options.group_column is None else _texts(table, options.group_column),
        split=None if options.split_column is None else _texts(table, options.split_column),
        metadata={name: _texts(table, name) for name in options.metadata_columns},
        description=f"table {file.name}, images in {root}: {len(set(label))} classes, {len(path)} files",
    )


def _read_csv(file: Path) -> pd.DataFrame:
    with file.open(encoding="utf-8-sig") as stream:
        header = stream.readline()
    separator = max(",;\t", key=header.count)
    return pd.read_csv(
        file,
        sep=separator,
        dtype=str,
        keep_default_na=False,
        skipinitialspace=True,
        encoding="utf-8-sig",
        index_col=False,
    )


def _check_columns(table: pd.DataFrame, options: SourceOptions) -> None:
    wanted: dict[str, list[str | None]] = {
        "data.path_column": [options.path_column],
        "data.label_column": [options.label_column],
        "data.group_column": [options.group_column],
        "data.split_column": [options.split_column],
        "data.metadata_columns": [*options.metadata_columns],
    }
    present = [str(name) for name in table.columns]
    missing = [f"{key}={name!r}" for key, names in wanted.items() for name in names if name and name not in present]
    if missing:
        raise InputError(f"{', '.join(missing)}: no such column; the table has: {', '.join(present)}")
    if len(table) == 0:
        raise InputError("data.source: the table has no rows; list at least one image per row")


def _texts(table: pd.DataFrame, column: str, *, strip: bool = True) -> list[str | None]:
    """The cells as text, None where there is none (empty, nan)."""
    return [_text(cell, strip=strip) for cell in table[column].tolist()]


def _text(cell: object, *, strip: bool) -> str | None:
    if pd.isna(cell):  # type: ignore[call-overload]
        return None
    if isinstance(cell, float) and cell.is_integer():  # an integer column that has gaps
        cell = int(cell)
    text = str(cell)
    if text.strip().lower() in ("", "nan"):
        return None
    return text.strip() if strip else text


def _required(values: list[str | None], column: str, key: str) -> list[str]:
    empty = [row for row, value in enumerate(values, start=1) if value is None]
    if empty:
        raise InputError(
            f"{key}={column!r}: {len(empty)} rows have no value (data rows {_first(empty)}); "
            "fill the cells or remove the rows"
        )
    return [value for value in values if value is not None]


def _relative_paths(paths: list[str], root: Path) -> list[str]:
    """Posix paths relative to the root, links resolved. Raises InputError for those that leave it."""
    folders: dict[str, str] = {}  # resolving a folder once, not once per image, keeps large tables fast
    relative, outside = [], []
    for path in paths:
        _refuse_impossible(path)
        full = os.path.join(root, path)  # noqa: PTH118  an absolute path stays as it is
        if "\\" in path and not os.path.lexists(full):
            full = os.path.join(root, path.replace("\\", "/"))  # noqa: PTH118
        folder, name = posixpath.split(posixpath.normpath(full))
        if folder not in folders:
            folders[folder] = os.path.realpath(folder)
        full = posixpath.join(folders[folder], name)
        # realpath, because Path.resolve fails on links that lead in a circle
        target = Path(os.path.realpath(full) if Path(full).is_symlink() else full)
        if target.is_relative_to(root) and Path(full).is_relative_to(root):
            relative.append(Path(full).relative_to(root).as_posix())
        else:
            outside.append(path)
    if outside:
        raise InputError(
            f"data.root={str(root)!r}: {len(outside)} paths lead out of it, by themselves or by a link "
            f"({_first(outside)}); set data.root to a folder that holds all images"
        )
    return relative


def _refuse_impossible(path: str) -> None:
    if "\0" in path or any(len(part.encode(errors="replace")) > 255 for part in path.split("/")):
        raise InputError(f"data.path_column: {path[:80]!r} cannot be the path of a file; correct the table")


def _check_paths(paths: list[str], root: Path) -> None:
    seen: dict[str, int] = {}
    repeated = []
    for row, path in enumerate(paths, start=1):
        if path in seen:
            repeated.append(f"{path} in data rows {seen[path]} and {row}")
        seen.setdefault(path, row)
    if repeated:
        raise InputError(f"data.path_column: paths listed twice ({_first(repeated)}); list each image once")
    if not any((root / path).is_file() for path in paths):
        raise InputError(
            f"data.root={str(root)!r}: none of the {len(paths)} images is there (the first: {paths[0]}); "
            "set data.root to the folder that the paths start from"
        )


def _first(values: Sequence[object]) -> str:
    shown = ", ".join(str(value) for value in values[:_SHOWN])
    return f"{shown}, …" if len(values) > _SHOWN else shown
