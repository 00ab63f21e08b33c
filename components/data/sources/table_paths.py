"""What a path in a user's table means below its root: on this machine, where links may lead out, or on a server."""

import functools
import os
import posixpath
import stat
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from components.data.files import Files
from components.data.lookup import DiskNames, by_normal_form, only_one
from components.data.names import normal_path
from components.errors import InputError

_ASKED = 32


@dataclass(frozen=True)
class Resolver:
    """relative: a table's path to the posix path from the root, None where it leaves the root. any_exists: whether
    there is a file at any of the paths from the root. remedy: for paths that leave it."""

    relative: Callable[[str], str | None]
    any_exists: Callable[[Sequence[str]], bool]
    remedy: str


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
            meant = os.path.join(base, path.replace("\\", "/"))  # noqa: PTH118
            full, status = resolved(names.find(posixpath.normpath(meant)))
        # realpath, because Path.resolve fails on links that lead in a circle
        target = os.path.realpath(full) if status is not None and stat.S_ISLNK(status.st_mode) else full
        within = full.startswith(prefix) and target.startswith(prefix)
        return full.removeprefix(prefix) if within else None

    return Resolver(
        relative=relative,
        any_exists=lambda paths: any((root / path).is_file() for path in paths),
        remedy="set data.root to a folder that holds all images",
    )


def remote_resolver(root: Files) -> Resolver:
    """For an address, which is listed once; a web server is asked for the first few files instead.

    Raises InputError when the server cannot be reached; so does any_exists.
    """
    there = _names(root) if root.is_listable else frozenset[str]()
    forms = functools.cache(lambda: by_normal_form(there))

    def relative(path: str) -> str | None:
        path = path if path in there else path.replace("\\", "/")
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


def _names(root: Files) -> frozenset[str]:
    try:
        return frozenset(path for path, _ in root.walk())
    except OSError as error:
        raise InputError(
            f"data.root={root.name!r} cannot be listed ({error.strerror}); allow it to be read, and check that the "
            "server can be reached"
        ) from error
