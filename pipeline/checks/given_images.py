"""The images to inspect with `predict`: files as given, folders by the rules of prepare."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from components.data.files import Files
from components.data.image_files import IMAGE_SUFFIXES, LeftOut, is_image
from components.data.sources.tree import read_tree
from components.errors import InputError

KEY = "images"


@dataclass(frozen=True)
class GivenImages:
    """paths: each once, in the order given, sorted within a folder. notes: what was left out, a sentence each.
    holds_images: whether images may be among it.
    """

    paths: list[str]
    notes: tuple[str, ...]
    holds_images: bool


def list_given(given: Sequence[Path]) -> GivenImages:
    """Raises `InputError` for a missing path, no image at all, a name that is not UTF-8, and as `read_tree` does."""
    paths: list[str] = []
    notes: list[str] = []
    holds_images = False
    for path in given:
        if path.is_dir():
            found, left_out = _of_folder(path)
            paths += found
            holds_images |= left_out.holds_images
            if left_out.text:
                notes.append(f"left out of {path}: {left_out.text}")
        elif path.is_file():
            paths.append(str(path))
        else:
            raise InputError(f"{KEY}={path}: no such file or folder")
    if not paths:
        known = ", ".join(sorted(IMAGE_SUFFIXES))
        reasons = f"; {'; '.join(notes)}" if notes else ""
        raise InputError(f"{KEY}={', '.join(map(str, given))}: no image file there (known: {known}){reasons}")
    for name in paths:
        try:
            name.encode()
        except UnicodeEncodeError as error:
            raise InputError(f"{KEY}: the file name {name!r} is not valid UTF-8; rename the file") from error
    once = {os.path.abspath(path): path for path in reversed(paths)}  # noqa: PTH100  a link is an image of its own
    unique = [path for path in dict.fromkeys(paths) if once[os.path.abspath(path)] == path]  # noqa: PTH100
    if len(unique) < len(paths):
        notes.append(f"{len(paths) - len(unique)} images were given more than once; each is inspected once")
    return GivenImages(unique, tuple(notes), holds_images)


def _of_folder(folder: Path) -> tuple[list[str], LeftOut]:
    tree = read_tree(Files(str(folder.resolve())), key=KEY)
    return [str(folder / path) for path in tree.paths if is_image(path)], tree.left_out()
