"""`csv:/path` and `parquet:/path`: a table with a row per image, and the images below one root folder."""

import io
from collections.abc import Callable, Sequence
from pathlib import Path

import pandas as pd

from components.addresses import redact
from components.data.files import Files, open_files, split_address
from components.data.lookup import windows_hint
from components.data.names import normal_form
from components.data.sources.listing import Listing, SourceOptions, make_listing
from components.data.sources.table_paths import Resolver, local_resolver, remote_resolver
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
    return _list_table("parquet", place, options, lambda data: pd.read_parquet(io.BytesIO(data)))


def _list_table(kind: str, place: str, options: SourceOptions, read: Callable[[bytes], pd.DataFrame]) -> Listing:
    """Raises InputError: no such file, unreadable, no such column, empty cells, paths repeated or outside.

    place and the root: local or addresses, each by itself.
    """
    folder, name = _table_file(kind, place)
    try:
        table = read(folder.read(name))
    except (ValueError, OSError) as error:  # pandas' and pyarrow's parser errors, wrong encodings
        raise InputError(f"data.source='{kind}:{redact(place)}' cannot be read as {kind}: {error}") from error
    _check_columns(table, options)
    root = folder if options.root is None else open_files(options.root, key="data.root")
    resolver = local_resolver(Path(root.uri)) if root.is_local else remote_resolver(root)
    path = _required(_texts(table, options.path_column), options.path_column, "data.path_column")
    label = _required(_texts(table, options.label_column), options.label_column, "data.label_column")
    classes = len(set(map(normal_form, label)))
    relative = _below_root(path, root, resolver, key="data.path_column")
    _refuse_repeated(relative)
    return make_listing(
        root,
        path=relative,
        label=label,
        group=None if options.group_column is None else _texts(table, options.group_column),
        split=None if options.split_column is None else _texts(table, options.split_column),
        mask=None if options.mask_column is None else _masks(table, options.mask_column, root, resolver),
        metadata={name: _texts(table, name) for name in options.metadata_columns},
        description=f"table {name}, images in {root.name}: {classes} classes, {len(path)} files",
    )


def _table_file(kind: str, place: str) -> tuple[Files, str]:
    """The folder that the table lies in, and its name there."""
    folder, name = split_address(place)
    if "://" not in folder and not (Path(folder).expanduser() / name).is_file():
        hint = windows_hint(place)
        raise InputError(f"data.source='{kind}:{place}' is not a file{hint}; give the path of a {kind} table")
    if not name:
        raise InputError(f"data.source='{kind}:{redact(place)}' names no file; give the address of a {kind} table")
    return open_files(folder, key="data.source", kind=f"{kind}:"), name


def _read_csv(data: bytes) -> pd.DataFrame:
    header = data.partition(b"\n")[0].decode("utf-8-sig")
    separator = max(",;\t", key=header.count)
    return pd.read_csv(
        io.BytesIO(data),
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
        "data.mask_column": [options.mask_column],
        "data.metadata_columns": [*options.metadata_columns],
    }
    present = [str(name) for name in table.columns]
    missing = [f"{key}={name!r}" for key, names in wanted.items() for name in names if name and name not in present]
    if missing:
        raise InputError(f"{', '.join(missing)}: no such column; the table has: {', '.join(present)}")
    if len(table) == 0:
        raise InputError("data.source: the table has no rows; list at least one image per row")


def _texts(table: pd.DataFrame, column: str) -> list[str | None]:
    """The cells as text, None where there is none (empty, nan)."""
    return [_text(cell) for cell in table[column].tolist()]


def _text(cell: object) -> str | None:
    if pd.isna(cell):  # type: ignore[call-overload]
        return None
    if isinstance(cell, float) and cell.is_integer():  # an integer column that has gaps
        cell = int(cell)
    text = str(cell)
    return None if normal_form(text).lower() in ("", "nan") else text


def _required(values: list[str | None], column: str, key: str) -> list[str]:
    empty = [row for row, value in enumerate(values, start=1) if value is None]
    if empty:
        raise InputError(
            f"{key}={column!r}: {len(empty)} rows have no value (data rows {_first(empty)}); "
            "fill the cells or remove the rows"
        )
    return [value for value in values if value is not None]


def _masks(table: pd.DataFrame, column: str, root: Files, resolver: Resolver) -> list[str | None]:
    """Paths below the root, None for an image without a mask. Raises InputError as for the images' paths."""
    given = _texts(table, column)
    relative = iter(_below_root([path for path in given if path is not None], root, resolver, key="data.mask_column"))
    return [None if path is None else next(relative) for path in given]


def _below_root(paths: list[str], root: Files, resolver: Resolver, *, key: str) -> list[str]:
    """Paths relative to the root. Raises InputError for those that leave it or can be no path, and if none is there."""
    impossible = [path for path in paths if _is_impossible(path)]
    if impossible:
        raise InputError(f"{key}: {impossible[0][:80]!r} cannot be the path of a file; correct the table")
    relative = [resolver.relative(path) for path in paths]
    outside = [path for path, inside in zip(paths, relative, strict=True) if inside is None]
    if outside:
        raise InputError(
            f"{key}: with data.root={root.name!r}, {len(outside)} paths lead out of it, by themselves or by a link "
            f"({_first([redact(path) for path in outside])}); {resolver.remedy}"
        )
    inside = [path for path in relative if path is not None]
    if inside and not resolver.any_exists(inside):
        what = "masks" if key == "data.mask_column" else "images"
        raise InputError(
            f"{key}: with data.root={root.name!r}, none of the {len(inside)} {what} is there (the first: {inside[0]}); "
            "set data.root to the folder that the paths start from"
        )
    return inside


def _is_impossible(path: str) -> bool:
    return "\0" in path or any(len(part.encode(errors="replace")) > 255 for part in path.split("/"))


def _refuse_repeated(paths: list[str]) -> None:
    seen: dict[str, int] = {}
    repeated = []
    for row, path in enumerate(paths, start=1):
        if path in seen:
            repeated.append(f"{path} in data rows {seen[path]} and {row}")
        seen.setdefault(path, row)
    if repeated:
        raise InputError(f"data.path_column: paths listed twice ({_first(repeated)}); list each image once")


def _first(values: Sequence[object]) -> str:
    shown = ", ".join(str(value) for value in values[:_SHOWN])
    return f"{shown}, …" if len(values) > _SHOWN else shown
