"""`folder:/path`: one sub-folder per class, or train/, val/, calibration/, test/ folders of class folders."""

import os
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn

from components.data.listing import (
    IMAGE_SUFFIXES,
    Listing,
    SourceOptions,
    make_listing,
    refuse_table_options,
)
from components.data.splits import SPLIT_NAMES
from components.errors import InputError


def list_folder(place: str, options: SourceOptions) -> Listing:
    """List the images below each class folder, at any depth.

    Hidden files and files without an image extension are left out, and counted in the description. Links to
    files are followed inside the folder only.

    Raises InputError: no such folder, no class folders, split folders beside others, links that leave it.
    """
    refuse_table_options(f"folder:{place}", options, group=None, metadata=())
    root = Path(place).expanduser()
    if not root.is_dir():
        raise InputError(f"data.source='folder:{place}' is not a folder; give one with a sub-folder per class")
    root = root.resolve()
    ignored = _Ignored()
    paths: list[str] = []
    labels: list[str] = []
    splits: list[str | None] = []
    for split, class_folder in _class_folders(root, ignored):
        images = _images_below(class_folder, root, ignored)
        ignored.empty_folders += not images
        paths += images
        labels += [class_folder.name] * len(images)
        splits += [split] * len(images)
    if not paths:
        raise InputError(
            f"data.source='folder:{place}' has no images in class folders{ignored.text()}; "
            "put the images of each class into a sub-folder named after it"
        )
    count = len(set(labels))
    layout = "class folders, split by folder," if any(splits) else "class folders"
    return make_listing(
        root,
        path=paths,
        label=labels,
        group=None,
        split=splits,
        metadata={},
        description=f"folder of {layout} {root}: {count} classes, {len(paths)} files{ignored.text()}",
    )


@dataclass
class _Ignored:
    """What was left out, for the description."""

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


def _class_folders(root: Path, ignored: _Ignored) -> list[tuple[str | None, Path]]:
    """(split or None, class folder), sorted. A folder named train means that the top level is the splits."""
    folders = _sub_folders(root, ignored)
    if not any(folder.name.lower() == "train" for folder in folders):
        return [(None, folder) for folder in folders]
    others = [folder.name for folder in folders if folder.name.lower() not in SPLIT_NAMES]
    if others:
        raise InputError(
            f"data.source='folder:{root}' has a folder train beside {', '.join(others)}: split folders and "
            "others cannot be mixed; move the others away, or list the images in a table (csv:…)"
        )
    return [(folder.name.lower(), inner) for folder in folders for inner in _sub_folders(folder, ignored)]


def _sub_folders(folder: Path, ignored: _Ignored) -> list[Path]:
    found = []
    try:
        entries = sorted(folder.iterdir())
    except OSError as error:
        _refuse_unreadable(error)
    for entry in entries:
        if _is_hidden(entry.name):
            ignored.hidden += 1
        elif entry.is_dir():
            _refuse_linked_folder(entry)
            found.append(entry)
        else:
            ignored.loose += 1
    return found


def _images_below(class_folder: Path, root: Path, ignored: _Ignored) -> list[str]:
    images = []
    for parent, folders, files in os.walk(class_folder, onerror=_refuse_unreadable):
        for name in folders:
            if _is_hidden(name):
                ignored.hidden += 1
            else:
                _refuse_linked_folder(Path(parent, name))
        folders[:] = sorted(name for name in folders if not _is_hidden(name))
        for name in sorted(files):
            path = Path(parent, name)
            if _is_hidden(name):
                ignored.hidden += 1
            elif path.suffix.lower() not in IMAGE_SUFFIXES:
                ignored.suffixes[path.suffix.lower()] += 1
            else:
                _refuse_leaving(path, root)
                images.append(path.relative_to(root).as_posix())
    return images


def _is_hidden(name: str) -> bool:
    return name.startswith(".") or name == "__MACOSX"


def _refuse_linked_folder(path: Path) -> None:
    if path.is_symlink():
        raise InputError(
            f"data.source: {path} is a link to a folder, which could lead out or in a circle; "
            "copy the folder, or list the images in a table (csv:…) with data.root"
        )


def _refuse_leaving(path: Path, root: Path) -> None:
    # realpath, because Path.resolve fails on links that lead in a circle; those are left to the quarantine.
    if path.is_symlink() and not Path(os.path.realpath(path)).is_relative_to(root):
        raise InputError(
            f"data.source: {path} is a link that leaves {root}; copy the image, or list the images in a "
            "table (csv:…) with a data.root that holds them all"
        )


def _refuse_unreadable(error: OSError) -> NoReturn:
    raise InputError(
        f"data.source: the folder {error.filename} cannot be listed ({error.strerror}); allow it to be read"
    ) from error
