"""`csv:/path` and `parquet:/path`: a table with a row per image, and the images below one root folder."""

import functools
import itertools
import os
import posixpath
import re
import stat
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from components.data.files import Files, open_files, split_address
from components.data.image_files import is_image
from components.data.lookup import DiskNames, by_normal_form, only_one, windows_hint
from components.data.names import normal_form, normal_path
from components.data.soft_labels import read_confidence
from components.data.sources.cells import Cells, wanted_columns
from components.data.sources.csv_table import read_csv
from components.data.sources.listing import Listing, SourceOptions, make_listing
from components.data.sources.parquet_table import read_parquet_file, read_parquet_folder
from components.data.sources.tree import read_tree
from components.errors import InputError, redact

_SHOWN = 5
#: What programs write where there is no value; here it is text, since it may be the name of a class.
_EMPTY_WORDS = frozenset({"nan", "na", "n/a", "#n/a", "<na>", "nat", "null", "none"})

_ASKED = 32
#: D:\\…, D:/…, \\\\server\\…: a full path on Windows, on whose machine the table was written.
_FOREIGN = re.compile(r"[A-Za-z]:[\\/]|\\\\[^\\]")

Wanted = Sequence[tuple[str, str]]


@dataclass(frozen=True)
class Resolver:
    """relative: a table's path to the posix path from the root, None where it leaves the root. any_exists: whether
    there is a file at any of the paths from the root. remedy: for paths that leave it."""

    relative: Callable[[str], str | None]
    any_exists: Callable[[Sequence[str]], bool]
    remedy: str


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
    """Raises InputError: no such file, unreadable, no such column, empty cells, paths repeated or outside, a confidence
    that is none.

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
    resolver = _local_resolver(Path(root.uri)) if root.is_local else _remote_resolver(root)
    path = _required(cells, options.path_column, "data.path_column")
    label = _required(cells, options.label_column, "data.label_column")
    _refuse_file_names(label, cells, options.label_column)
    relative, moved = _below_root(path, root, resolver, key="data.path_column")
    _refuse_repeated(relative, cells)
    mask, masks_moved = _masks(cells, options.mask_column, root, resolver)
    named = {"group": options.group_column, "split": options.split_column}
    named |= {f"meta_{name}": name for name in options.metadata_columns}
    others = {name: _values(cells, column) for name, column in named.items() if column is not None}
    confidences = _confidences(cells, options.confidence_column, relative)
    classes = len(set(map(normal_form, label)))
    return make_listing(
        root,
        {"path": relative, "label": label, "mask": mask, **others},
        confidences=confidences,
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


def _confidences(cells: Cells, column: str | None, paths: Sequence[str]) -> list[float] | None:
    if column is None:
        return None
    images = [f"{path} in {cells.unit} {row}" for path, row in zip(paths, cells.rows, strict=True)]
    return read_confidence(_values(cells, column), images, column=column)


def _below_root(paths: list[str], root: Files, resolver: Resolver, *, key: str) -> tuple[list[str], list[str]]:
    """Paths relative to the root, and what was done to them. Raises InputError for those that leave it or can be no
    path, and if none is there."""
    impossible = [path for path in paths if _is_impossible(path)]
    if impossible:
        raise InputError(f"{key}: {impossible[0][:80]!r} cannot be the path of a file; correct the table")
    paths, notes = _without_foreign_folder(paths, root, resolver, key=key)
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


def _without_foreign_folder(
    paths: Sequence[str], root: Files, resolver: Resolver, *, key: str
) -> tuple[list[str], list[str]]:
    """Full paths of Windows from that of their common folders on below which the root holds them; and a sentence on it.

    The longest ends come first, so that a file of the same name elsewhere below the root is not taken for it. Raises
    InputError where nothing that they end in is below the root.
    """
    paths = [path.strip() if _FOREIGN.match(path.strip()) else path for path in paths]
    foreign = [path for path in paths if _FOREIGN.match(path)]
    if not foreign or resolver.any_exists(foreign):
        return paths, []
    split = {path: re.split(r"[\\/]+", path) for path in foreign}
    levels = zip(*([part.casefold() for part in parts[:-1]] for parts in split.values()), strict=False)
    common = sum(1 for _ in itertools.takewhile(lambda names: len(set(names)) == 1, levels))
    for cut in range(1, common + 1):
        ends = {path: "/".join(parts[cut:]) for path, parts in split.items()}
        if resolver.any_exists(list(ends.values())):
            folder = foreign[0][: -len(ends[foreign[0]]) - 1]
            note = f"{key}: paths that start with {folder} are taken below data.root from there on: {len(foreign)}."
            return [ends.get(path, path) for path in paths], [note]
    raise InputError(
        f"{key}: {len(foreign)} full paths of another machine ({foreign[0]}), and data.root={root.name!r} holds "
        "nothing that they end in; set data.root to the folder here that stands for one of those in the paths, or "
        "write the paths relative to it"
    )


def _local_resolver(root: Path) -> Resolver:
    """For a folder with all links in its own path resolved. Absolute paths are taken if they lie within."""
    base = str(root)
    prefix = base.rstrip("/") + "/"
    folders: dict[str, str] = {}  # resolving a folder once, not once per image, keeps large tables fast

    names = DiskNames()

    # On text: pathlib took three times as long, 2.5 s for 100,000 rows.
    def resolved(full: str) -> tuple[str, os.stat_result | None]:
        folder, name = posixpath.split(posixpath.normpath(full))
        if folder not in folders:
            folders[folder] = os.path.realpath(folder)
        full = posixpath.join(folders[folder], name)
        try:
            return full, os.lstat(full)
        except (OSError, ValueError):
            return full, None

    def relative(path: str) -> str | None:
        full, status = resolved(os.path.join(base, path))  # noqa: PTH118  an absolute path stays as it is
        if status is None:
            meant = os.path.join(base, _as_meant(path))  # noqa: PTH118
            full, status = resolved(names.find(posixpath.normpath(meant)))
        # realpath, because Path.resolve fails on links that lead in a circle
        target = os.path.realpath(full) if status is not None and stat.S_ISLNK(status.st_mode) else full
        within = full.startswith(prefix) and target.startswith(prefix)
        return full.removeprefix(prefix) if within else None

    return Resolver(
        relative=relative,
        any_exists=lambda paths: any(os.path.isfile(f"{prefix}{path}") for path in paths),  # noqa: PTH113  Path raises for long names
        remedy="set data.root to a folder that holds all images",
    )


def _remote_resolver(root: Files) -> Resolver:
    """For an address, which is listed once; a web server is asked for the first few files instead.

    Raises InputError when the server cannot be reached; so does any_exists.
    """
    there = frozenset(root.paths(key="data.root") if root.is_listable else ())
    forms = functools.cache(lambda: by_normal_form(there))

    def relative(path: str) -> str | None:
        path = path if path in there else _as_meant(path)
        if path.startswith("/") or "://" in path or ".." in path.split("/"):
            return None
        path = path if path in there else posixpath.normpath(path)
        return path if path in there else only_one(forms(), normal_path(path)) or path

    def any_exists(paths: Sequence[str]) -> bool:
        if root.is_listable:
            return not there.isdisjoint(paths)
        return any(stamp is not None for stamp in root.stamps(paths[:_ASKED]))

    return Resolver(
        relative=relative,
        any_exists=any_exists,
        remedy="write paths relative to the root, without '..', and set data.root to an address that holds all images",
    )


def _as_meant(path: str) -> str:
    """Without blanks around it, and without the backslashes of Windows."""
    return path.strip().replace("\\", "/")
