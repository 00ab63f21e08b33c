"""What a path in a user's table means below its root: on this machine, where links may lead out, or on a server."""

import functools
import itertools
import os
import posixpath
import re
import stat
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from components.data.files import Files
from components.data.lookup import DiskNames, by_normal_form, only_one
from components.data.names import normal_path
from components.errors import InputError

_ASKED = 32
#: D:\\…, D:/…, \\\\server\\…: a full path on Windows, on whose machine the table was written.
_FOREIGN = re.compile(r"[A-Za-z]:[\\/]|\\\\[^\\]")


@dataclass(frozen=True)
class Resolver:
    """relative: a table's path to the posix path from the root, None where it leaves the root. any_exists: whether
    there is a file at any of the paths from the root. remedy: for paths that leave it."""

    relative: Callable[[str], str | None]
    any_exists: Callable[[Sequence[str]], bool]
    remedy: str


def without_foreign_folder(
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


def local_resolver(root: Path) -> Resolver:
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


def remote_resolver(root: Files) -> Resolver:
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
