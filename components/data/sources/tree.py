"""The tree below a root as relative paths, the same whether a disk or a server holds it.

What a layout means (class folders, split folders, masks) is left to those who read one; what may be followed is
decided here.
"""

import os
import posixpath
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from components.data.files import Files
from components.data.sources.listing import IMAGE_SUFFIXES
from components.errors import InputError


@dataclass(frozen=True)
class Tree:
    """Paths from the root, posix, sorted. paths: files of any kind. folders: those above them, and empty ones where
    the place knows such. hidden: number of files and folders left out as hidden, not counting what is inside."""

    paths: list[str]
    folders: list[str]
    hidden: int

    def folders_in(self, folder: str) -> list[str]:
        """Names of the folders right in `folder`, which is "" for the root."""
        prefix = f"{folder}/" if folder else ""
        names = (path.removeprefix(prefix) for path in self.folders if path.startswith(prefix))
        return [name for name in names if "/" not in name]


@dataclass
class LeftOut:
    """What was not listed, for the description."""

    hidden: int = 0
    loose: int = 0
    empty_folders: int = 0
    suffixes: Counter[str] = field(default_factory=Counter)

    def text(self) -> str:
        parts = []
        if self.suffixes:
            kinds = ", ".join(f"{suffix or 'none'} {n}" for suffix, n in sorted(self.suffixes.items()))
            parts.append(f"{self.suffixes.total()} without an image extension ({kinds})")
        if self.hidden:
            parts.append(f"{self.hidden} hidden")
        if self.loose:
            parts.append(f"{self.loose} outside class folders")
        if self.empty_folders:
            parts.append(f"{self.empty_folders} class folders without images")
        return f"; left out: {', '.join(parts)}" if parts else ""


def read_tree(files: Files) -> Tree:
    """Everything below the root that is not hidden.

    Raises InputError: a folder that cannot be listed; a link to a folder, or of an image out of the root; a server's
    names that are no paths.
    """
    tree = _local_tree(files.uri) if files.is_local else _remote_tree(files)
    return Tree(paths=sorted(tree.paths), folders=sorted(tree.folders), hidden=tree.hidden)


def class_images(tree: Tree, *, depth: int) -> tuple[list[tuple[str, str]], LeftOut]:
    """(path, label) of each image in a class folder, at any depth below it; and what is left out.

    depth: at which level the class folders are, 1 for those right in the root.
    """
    left_out = LeftOut(hidden=tree.hidden)
    images: list[tuple[str, str]] = []
    filled: set[str] = set()
    for path in tree.paths:
        parts = path.split("/", depth)
        suffix = _suffix(parts[-1])
        if len(parts) <= depth:
            left_out.loose += 1
        elif suffix not in IMAGE_SUFFIXES:
            left_out.suffixes[suffix] += 1
        else:
            images.append((path, parts[depth - 1]))
            filled.add("/".join(parts[:depth]))
    left_out.empty_folders = len({path for path in tree.folders if path.count("/") == depth - 1} - filled)
    return images, left_out


def _local_tree(root: str) -> Tree:
    paths, folders, hidden = [], [], 0
    waiting = [""]
    while waiting:
        folder = waiting.pop()
        for entry in _entries(os.path.join(root, folder)):  # noqa: PTH118
            path = folder + entry.name
            linked = entry.is_symlink()
            if _is_hidden(entry.name):
                hidden += 1
            # isdir, because an entry's own is_dir fails on links that lead in a circle
            elif os.path.isdir(entry.path) if linked else entry.is_dir():  # noqa: PTH112
                if linked:
                    _refuse_linked_folder(entry.path)
                folders.append(path)
                waiting.append(f"{path}/")
            else:
                if linked and _suffix(entry.name) in IMAGE_SUFFIXES:
                    _refuse_leaving(entry.path, root)
                paths.append(path)
    return Tree(paths, folders, hidden)


def _entries(folder: str) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except OSError as error:
        raise InputError(
            f"data.source: the folder {folder.rstrip('/')} cannot be listed ({error.strerror}); allow it to be read"
        ) from error


def _remote_tree(files: Files) -> Tree:
    paths: list[str] = []
    folders: set[str] = set()
    hidden: set[str] = set()
    try:
        found = [path for path, _ in files.walk()]
    except OSError as error:
        raise InputError(
            f"data.source: {files.name} cannot be listed ({error.strerror}); allow it to be read, and check that "
            "the server can be reached"
        ) from error
    for path in found:
        parts = path.split("/")
        if not {"", ".", ".."}.isdisjoint(parts) or "\0" in path:
            raise InputError(
                f"data.source: {files.name} holds {path!r}, which is no path within it; rename or remove that file"
            )
        first = next((number for number, part in enumerate(parts, start=1) if _is_hidden(part)), None)
        if first is not None:
            hidden.add("/".join(parts[:first]))
            continue
        paths.append(path)
        folder = posixpath.dirname(path)
        while folder and folder not in folders:
            folders.add(folder)
            folder = posixpath.dirname(folder)
    return Tree(paths, list(folders), len(hidden))


def _suffix(name: str) -> str:
    return posixpath.splitext(name)[1].lower()


def _is_hidden(name: str) -> bool:
    return name.startswith(".") or name == "__MACOSX"


def _refuse_linked_folder(path: str) -> None:
    raise InputError(
        f"data.source: {path} is a link to a folder, which could lead out or in a circle; "
        "copy the folder, or list the images in a table (csv:…) with data.root"
    )


def _refuse_leaving(path: str, root: str) -> None:
    # realpath, because Path.resolve fails on links that lead in a circle; those are left to the quarantine.
    if not Path(os.path.realpath(path)).is_relative_to(root):
        raise InputError(
            f"data.source: {path} is a link that leaves {root}; copy the image, or list the images in a "
            "table (csv:…) with a data.root that holds them all"
        )
