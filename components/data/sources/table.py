"""`csv:/path` and `parquet:/path`: a table with a row per image, and the images below one root folder."""

import functools
import os
import re
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

from components.addresses import redact
from components.data.files import Files, open_files, split_address
from components.data.image_files import is_image
from components.data.lookup import windows_hint
from components.data.names import normal_form
from components.data.sources.cells import Cells, wanted_columns
from components.data.sources.csv_table import read_csv
from components.data.sources.listing import Listing, SourceOptions, make_listing
from components.data.sources.parquet_table import read_parquet_file, read_parquet_folder
from components.data.sources.table_paths import Resolver, local_resolver, remote_resolver, without_foreign_folder
from components.data.sources.tree import read_tree
from components.errors import InputError

_SHOWN = 5
#: What programs write where there is no value; here it is text, since it may be the name of a class.
_EMPTY_WORDS = frozenset({"nan", "na", "n/a", "#n/a", "<na>", "nat", "null", "none"})

Wanted = Sequence[tuple[str, str]]


def list_csv(place: str, options: SourceOptions) -> Listing:
    """A table of text with a header, as `read_csv` takes it.

    Every cell is text, so that a class "001" or "NA" stays what it is; only empty cells are missing. Raises InputError
    as `_list_table` does, and for a file that is not such a table.
    """
    return _list_table("csv", place, options, lambda folder, name, wanted: read_csv(folder.read(name), wanted))


def list_parquet(place: str, options: SourceOptions) -> Listing:
    """A parquet table, or a folder of parts; numbers, dates and so on become text. Raises InputError."""
    place = place.rstrip("/")
    return _list_table("parquet", place, options, functools.partial(_read_parquet, place))


def _list_table(kind: str, place: str, options: SourceOptions, read: Callable[[Files, str, Wanted], Cells]) -> Listing:
    """Raises InputError: no such file, unreadable, no such column, empty cells, paths repeated or outside.

    place and the root: local or addresses, each by itself.
    """
    folder, name = _table_file(kind, place)
    try:
        cells = read(folder, name, wanted_columns(options))
    except InputError:
        raise
    except (ValueError, OSError) as error:
        raise InputError(f"data.source='{kind}:{redact(place)}' cannot be read as {kind}: {error}") from error
    if not cells.rows:
        raise InputError("data.source: the table has no rows; list at least one image per row")
    root = folder if options.root is None else open_files(options.root, key="data.root")
    resolver = local_resolver(Path(root.uri)) if root.is_local else remote_resolver(root)
    path = _required(cells, options.path_column, "data.path_column")
    label = _required(cells, options.label_column, "data.label_column")
    _refuse_file_names(label, cells, options.label_column)
    relative, moved = _below_root(path, root, resolver, key="data.path_column")
    _refuse_repeated(relative, cells)
    mask, masks_moved = _masks(cells, options.mask_column, root, resolver)
    named = {"group": options.group_column, "split": options.split_column}
    named |= {f"meta_{name}": name for name in options.metadata_columns}
    others = {name: _values(cells, column) for name, column in named.items() if column is not None}
    classes = len(set(map(normal_form, label)))
    return make_listing(
        root,
        {"path": relative, "label": label, "mask": mask, **others},
        description=f"table {name}, images in {root.name}: {classes} classes, {len(path)} files",
        notes=[*cells.notes, *_doubts(cells, options), *moved, *masks_moved],
    )


def _table_file(kind: str, place: str) -> tuple[Files, str]:
    folder, name = split_address(place)
    if "://" not in folder:
        path = Path(os.path.expanduser(folder), name)  # noqa: PTH111  of ~nobody Path makes an error
        if not path.is_file() and not (kind == "parquet" and path.is_dir()):
            hint = windows_hint(place)
            raise InputError(f"data.source='{kind}:{place}' is not a file{hint}; give the path of a {kind} table")
    if not name:
        raise InputError(f"data.source='{kind}:{redact(place)}' names no file; give the address of a {kind} table")
    return open_files(folder, key="data.source", kind=f"{kind}:"), name


def _read_parquet(place: str, folder: Files, name: str, wanted: Wanted) -> Cells:
    parts = _folder_of_parts(place, folder, name)
    if parts is None:
        return read_parquet_file(folder.read(name), wanted)
    return read_parquet_folder(parts, read_tree(parts).paths, wanted)


def _folder_of_parts(place: str, folder: Files, name: str) -> Files | None:
    if folder.is_local:
        return open_files(place, key="data.source") if folder.local(name).is_dir() else None
    try:
        return open_files(place, key="data.source") if folder.is_listable else None
    except InputError:  # it is a file, or reading it will say what is wrong
        return None


def _values(cells: Cells, column: str) -> list[str | None]:
    """The cells as they stand, None where nothing of one is visible."""
    return [cell if cell and normal_form(cell) else None for cell in cells.columns[column]]


def _required(cells: Cells, column: str, key: str) -> list[str]:
    values = _values(cells, column)
    empty = [row for row, value in zip(cells.rows, values, strict=True) if value is None]
    if empty:
        raise InputError(
            f"{key}={column!r}: {len(empty)} rows have no value ({cells.unit}s {_first(empty)}); "
            "fill the cells or remove the rows"
        )
    return [value for value in values if value is not None]


def _refuse_file_names(labels: Sequence[str], cells: Cells, column: str) -> None:
    """Raise InputError for labels that are names of images: a separator within a path has shifted the row."""
    names = [
        f"{label!r} in {cells.unit} {row}" for label, row in zip(labels, cells.rows, strict=True) if is_image(label)
    ]
    if names:
        raise InputError(
            f"data.label_column={column!r}: labels that are names of images ({_first(names)}); put a path that holds "
            "the separator into double quotes, or name another column"
        )


def _masks(
    cells: Cells, column: str | None, root: Files, resolver: Resolver
) -> tuple[list[str | None] | None, list[str]]:
    """Paths below the root, None for an image without a mask. Raises InputError as for the images' paths."""
    if column is None:
        return None, []
    given = _values(cells, column)
    relative, notes = _below_root([path for path in given if path is not None], root, resolver, key="data.mask_column")
    following = iter(relative)
    return [None if path is None else next(following) for path in given], notes


def _below_root(paths: list[str], root: Files, resolver: Resolver, *, key: str) -> tuple[list[str], list[str]]:
    """Paths relative to the root, and what was done to them. Raises InputError for those that leave it or can be no
    path, and if none is there."""
    impossible = [path for path in paths if _is_impossible(path)]
    if impossible:
        raise InputError(f"{key}: {impossible[0][:80]!r} cannot be the path of a file; correct the table")
    paths, notes = without_foreign_folder(paths, root, resolver, key=key)
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
    return inside, notes


def _is_impossible(path: str) -> bool:
    return "\0" in path or any(len(part.encode(errors="replace")) > 255 for part in re.split(r"[\\/]", path))


def _refuse_repeated(paths: list[str], cells: Cells) -> None:
    seen: dict[str, int] = {}
    repeated = []
    for row, path in zip(cells.rows, paths, strict=True):
        if path in seen:
            repeated.append(f"{path} in {cells.unit}s {seen[path]} and {row}")
        seen.setdefault(path, row)
    if repeated:
        raise InputError(f"data.path_column: paths listed twice ({_first(repeated)}); list each image once")


def _doubts(cells: Cells, options: SourceOptions) -> list[str]:
    """A sentence for each column that holds words for what is missing, or letters of another encoding."""
    notes = []
    for key, column in wanted_columns(options):
        counts = Counter(cell for cell in _values(cells, column) if cell)
        words = [
            f"{word!r} in {n} of {len(cells.rows)}" for word, n in counts.items() if word.casefold() in _EMPTY_WORDS
        ]
        if words and key not in ("data.path_column", "data.label_column"):  # whose cells cannot be empty
            notes.append(
                f"{key}={column!r}: {_first(words)} rows is a value like any other; leave cells without one empty."
            )
        garbled = [repr(text) for text in counts if _is_garbled(text)]
        if garbled:
            notes.append(
                f"{key}={column!r}: {_first(garbled)} was read in a wrong encoding before the table was saved; correct "
                "it at its origin."
            )
    return notes


def _is_garbled(text: str) -> bool:
    """Whether letters were lost, or are UTF-8 that was read as Latin-1 ("groÃŸ")."""
    try:
        return "\ufffd" in text or text.encode("cp1252").decode() != text
    except UnicodeError:
        return False


def _first(values: Sequence[object]) -> str:
    shown = ", ".join(str(value) for value in values[:_SHOWN])
    return f"{shown}, …" if len(values) > _SHOWN else shown
