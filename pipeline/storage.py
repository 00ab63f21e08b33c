"""The folder of all results, `storage.root`: what lies in it, and that it is a folder of the product's own.

It is marked, so that a source that it lies in leaves it out, whatever it is called. Where files of a person lie in the
places that stages write into, or would be left out with the mark, it is refused.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from components.data.files import open_files
from components.data.image_files import MARKER, is_clutter, is_image
from components.errors import InputError
from pipeline.config import Config

#: Beside the folders of the stages, for the next run: digests of files, packed images, generated images, and what
#: backbones make of images.
INDEX_FOLDER, IMAGES_FOLDER, GENERATED_FOLDER, FEATURES_FOLDER = KEPT_FOLDERS = (
    "files", "images", "generated", "features",
)  # fmt: skip
#: What results and packs are called: the first digits of their fingerprint.
KEY = re.compile(r"[0-9a-f]{16}")
_OWN_FOLDER = re.compile(rf"(generated-)?{KEY.pattern}")
_MARK = "This folder is written by Escapement: results of runs, no images. The file keeps it from being read as such.\n"


def mark_folder(folder: Path) -> None:
    """Mark a folder as one that the product writes into, where it is there. Raises OSError."""
    mark = folder / MARKER
    if folder.is_dir() and not mark.exists():
        mark.write_text(_MARK, encoding="utf-8")


def claim_storage(config: Config, stages: Iterable[str]) -> None:
    """Mark the folder. stages: the names of those that write into it.

    Raises InputError: it is the folder of the images, or has files of a person where results would be; it cannot be
    written.
    """
    root, names = Path(config.storage.root).absolute(), [*stages, *KEPT_FOLDERS]
    setting = f"storage.root={config.storage.root}"
    try:
        fault = _fault(root, names, _folder_of_images(config.data.source))
        if fault:
            raise InputError(f"{setting}: {fault}; give a folder of its own outside of the images")
        mark_folder(root)
    except OSError as error:
        raise InputError(
            f"{setting}: cannot be written ({error.strerror}: {error.filename}); give a folder that you may write"
        ) from error


def _fault(root: Path, names: list[str], images: Path | None) -> str | None:
    """What keeps the folder from being one for results."""
    real = root.resolve()
    if images is not None and images == real:
        return "this is the folder of the images"
    if images is not None and images.is_relative_to(real) and images.relative_to(real).parts[0] in names:
        return f"results are kept in its folder {images.relative_to(real).parts[0]}, where the images are"
    if not root.is_dir() or (root / MARKER).exists():
        return None
    foreign = next((path for name in names for path in _foreign(root / name)), None)
    if foreign is not None:
        return f"results would be kept in its folder {foreign.parent.name}, which holds {foreign.name}"
    if images is not None and real.is_relative_to(images):
        foreign = next((path for path in _foreign(root) if path.name not in names), None)
        if foreign is not None:
            return f"it lies within the images and holds {foreign.name}, which would no longer count as one of them"
    return None


def _foreign(folder: Path) -> Iterator[Path]:
    """Folders and images in it that no run has made."""
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        ours = _OWN_FOLDER.fullmatch(path.name) or is_clutter(path.name)
        if not ours and (path.is_dir() or is_image(path.name)):
            yield path


def _folder_of_images(source: str) -> Path | None:
    """Of a source that lists a folder of this machine."""
    kind, _, place = source.strip().partition(":")
    place = place.strip()
    if kind not in ("folder", "mvtec") or not place or "://" in place.removeprefix("file://").removeprefix("local://"):
        return None
    return Path(open_files(place, key="data.source", kind=f"{kind}:").uri)
