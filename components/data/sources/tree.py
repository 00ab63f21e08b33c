"""The tree below a root as relative paths, the same whether a disk or a server holds it.

What a layout means (class folders, split folders, masks) is left to those who read one; what may be followed is
decided here, and by `image_files.py` what is an image.
"""

import os
import posixpath
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from components.data.files import Files
from components.data.image_files import IMAGE_SUFFIXES, MARKER, LeftOut, is_clutter, is_image, suffix_of
from components.errors import InputError


@dataclass(frozen=True)
class Tree:
    """Paths from the root, posix, sorted. paths: files of any kind. folders: those above them, and empty ones where
    the place knows such. clutter: how many files and folders were left out by their names, not counting what is inside.
    own: folders that were left out because they hold what the product has written."""

    paths: list[str]
    folders: list[str]
    clutter: Counter[str]
    own: list[str]

    def folders_in(self, folder: str) -> list[str]:
        """Names of the folders right in `folder`, which is "" for the root."""
        prefix = f"{folder}/" if folder else ""
        names = (path.removeprefix(prefix) for path in self.folders if path.startswith(prefix))
        return [name for name in names if "/" not in name]

    def left_out(self, *, loose: int = 0, empty: Sequence[str] = ()) -> LeftOut:
        """All that is no image, and what a layout has no place for."""
        suffixes = Counter(map(suffix_of, self.paths))
        others = Counter({suffix: count for suffix, count in suffixes.items() if suffix not in IMAGE_SUFFIXES})
        return LeftOut(others=others, clutter=self.clutter, own=self.own, loose=loose, empty=empty)


def read_tree(files: Files, *, key: str = "data.source") -> Tree:
    """Everything below the root that is no clutter, and nothing that the product has written.

    key: what named the root, for errors.

    Raises InputError: a folder that cannot be listed; a link to a folder, or of an image out of the root; a server's
    names that are no paths; a root that is itself a folder of the product.
    """
    tree = _local_tree(files.uri, key) if files.is_local else _remote_tree(files, key)
    return Tree(sorted(tree.paths), sorted(tree.folders), tree.clutter, sorted(tree.own))


def class_images(tree: Tree, *, depth: int) -> tuple[list[tuple[str, str]], LeftOut]:
    """(path, label) of each image in a class folder, at any depth below it; and what is left out.

    depth: at which level the class folders are, 1 for those right in the root.
    """
    images: list[tuple[str, str]] = []
    filled: set[str] = set()
    loose = 0
    for path in filter(is_image, tree.paths):
        parts = path.split("/", depth)
        if len(parts) <= depth:
            loose += 1
        else:
            images.append((path, parts[depth - 1]))
            filled.add("/".join(parts[:depth]))
    empty = [path for path in tree.folders if path.count("/") == depth - 1 and path not in filled]
    return images, tree.left_out(loose=loose, empty=empty)


def _local_tree(root: str, key: str) -> Tree:
    tree = Tree([], [], Counter(), [])
    waiting = [""]
    while waiting:
        folder = waiting.pop()
        entries = _entries(os.path.join(root, folder), key)  # noqa: PTH118
        if any(entry.name == MARKER for entry in entries):
            _leave_out_own(tree, folder, root, key)
            continue
        if folder:
            tree.folders.append(folder)
        for entry in entries:
            path = f"{folder}/{entry.name}" if folder else entry.name
            linked = entry.is_symlink()
            if is_clutter(entry.name):
                tree.clutter[_kind(entry.name)] += 1
            # isdir, because an entry's own is_dir fails on links that lead in a circle
            elif os.path.isdir(entry.path) if linked else entry.is_dir():  # noqa: PTH112
                if linked and os.path.lexists(os.path.join(entry.path, MARKER)):  # noqa: PTH118
                    tree.own.append(path)
                elif linked:
                    raise InputError(
                        f"{key}: {entry.path} is a link to a folder, which could lead out or in a circle; "
                        "copy the folder, or list the images in a table (csv:…) with data.root"
                    )
                else:
                    waiting.append(path)
            else:
                if linked and is_image(entry.name):
                    _refuse_leaving(entry.path, root, key)
                tree.paths.append(path)
    return tree


def _leave_out_own(tree: Tree, folder: str, root: str, key: str) -> None:
    if not folder:
        raise InputError(
            f"{key}: {root} holds {MARKER}, as the folders do in which runs keep their results; give the folder of the "
            "images, and storage.root another one, or remove that file if there are none"
        )
    tree.own.append(folder)


def _kind(name: str) -> str:
    """Hidden names are many and tell nothing."""
    return "." if name.startswith(".") else name


def _entries(folder: str, key: str) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except OSError as error:
        raise InputError(
            f"{key}: the folder {folder.rstrip('/')} cannot be listed ({error.strerror}); allow it to be read"
        ) from error


def _remote_tree(files: Files, key: str) -> Tree:
    found = files.paths(key=key)
    tree = Tree([], [], Counter(), [])
    for mark in (path for path in found if posixpath.basename(path) == MARKER):
        _leave_out_own(tree, posixpath.dirname(mark), files.name, key)
    own = tuple(f"{folder}/" for folder in tree.own)
    folders: set[str] = set()
    clutter: set[str] = set()
    for path in found:
        parts = path.split("/")
        if not {"", ".", ".."}.isdisjoint(parts) or "\0" in path:
            raise InputError(
                f"{key}: {files.name} holds {path!r}, which is no path within it; rename or remove that file"
            )
        first = next((number for number, part in enumerate(parts, start=1) if is_clutter(part)), None)
        if first is not None:
            clutter.add("/".join(parts[:first]))
        elif not path.startswith(own):
            tree.paths.append(path)
            folder = posixpath.dirname(path)
            while folder and folder not in folders:
                folders.add(folder)
                folder = posixpath.dirname(folder)
    tree.folders.extend(folders)
    tree.clutter.update(_kind(posixpath.basename(path)) for path in clutter)
    return tree


def _refuse_leaving(path: str, root: str, key: str) -> None:
    # realpath, because Path.resolve fails on links that lead in a circle; those are left to the quarantine.
    if not Path(os.path.realpath(path)).is_relative_to(root):
        raise InputError(
            f"{key}: {path} is a link that leaves {root}; copy the image, or list the images in a "
            "table (csv:…) with a data.root that holds them all"
        )
