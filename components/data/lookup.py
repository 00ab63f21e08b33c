"""Files found under another form of their name than the disk's: other accents (NFC, NFD), blanks, invisible characters.

Who asks has found nothing under the exact name; each folder is listed once, and not once per file.
"""

import os
import posixpath
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from components.data.names import normal_form, normal_path
from components.errors import InputError


class DiskNames:
    """The names in local folders, each folder listed when it is first asked for."""

    def __init__(self) -> None:
        self._folders: dict[str, Mapping[str, list[str]]] = {}

    def find(self, path: str) -> str:
        """The path as the disk writes it; where there is no such file, with what there is of its folders.

        path: absolute. Raises InputError: two files there have that name in different forms.
        """
        folder, name = posixpath.split(path)
        if not name or os.path.lexists(path):
            return path
        folder = self.find(folder)
        if folder not in self._folders:
            self._folders[folder] = by_normal_form(_names_in(folder))
        return posixpath.join(folder, only_one(self._folders[folder], normal_form(name)) or name)


def by_normal_form(paths: Iterable[str]) -> Mapping[str, list[str]]:
    found: dict[str, list[str]] = {}
    for path in paths:
        found.setdefault(normal_path(path), []).append(path)
    return found


def only_one(paths: Mapping[str, list[str]], form: str) -> str | None:
    """The one path of that normal form, None where there is none. Raises InputError where there are several."""
    found = paths.get(form, [])
    if len(found) > 1:
        raise InputError(
            f"data.source: {form!r} may be either of {' and '.join(map(ascii, found))}; rename one of these files, or "
            "write the name as it is there"
        )
    return found[0] if found else None


def local_place(path: str) -> str:
    """A path of this machine as the disk writes it; as it was given where there is nothing of that name.

    Also with / for the backslashes of Windows, where only that is there.
    """
    full = os.path.expanduser(path)  # noqa: PTH111  of ~nobody Path makes an error
    if os.path.lexists(full):
        return path
    for form in dict.fromkeys((full, full.replace("\\", "/"))):
        found = DiskNames().find(os.path.abspath(form))  # noqa: PTH100  links stay as they are
        if os.path.lexists(found):
            return found
    return path


def windows_hint(path: str) -> str:
    """What to say of a path that is not there, where it is one of Windows and this is not; else nothing."""
    if os.name == "nt" or not re.match(r"[A-Za-z]:[\\/]|\\\\", path):
        return ""
    return " (it is a path of Windows, and this machine has none: write where it holds the folder, such as /mnt/data)"


def _names_in(folder: str) -> list[str]:
    try:
        return [entry.name for entry in Path(folder).iterdir()]
    except OSError:  # no folder, or not to be listed: whoever opens the file says so
        return []
