"""Which files of a folder are images, by their names; which names are clutter; and what was left out, in words.

The one place for it: every source that lists a folder, and the command that inspects one, go by it. Whether a file can
be decoded is told by its content, later.
"""

import posixpath
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from components.display import counted, listed

IMAGE_SUFFIXES = frozenset(
    {".apng", ".bmp", ".dib", ".gif", ".j2c", ".j2k", ".jfif", ".jp2", ".jpc", ".jpe", ".jpeg", ".jpf", ".jpg"}
    | {".jpx", ".mpo", ".pbm", ".pgm", ".pjp", ".pjpeg", ".png", ".pnm", ".ppm", ".tif", ".tiff", ".webp"}
)

UNREAD_SUFFIXES = frozenset(
    {".avif", ".avifs", ".heic", ".heics", ".heif", ".heifs", ".hif", ".jls", ".jxl", ".jxr", ".wdp"}
    | {".3fr", ".arw", ".cr2", ".cr3", ".crw", ".dcr", ".dng", ".erf", ".fff", ".gpr", ".iiq", ".kdc", ".mef", ".mos"}
    | {".mrw", ".nef", ".nrw", ".orf", ".pef", ".raf", ".raw", ".rw2", ".rwl", ".sr2", ".srf", ".srw", ".x3f"}
    | {".ai", ".bpg", ".cdr", ".dcm", ".dds", ".dpx", ".emf", ".eps", ".exr", ".fits", ".hdr", ".icns", ".ico", ".pcx"}
    | {".pfm", ".psb", ".psd", ".qoi", ".sgi", ".svg", ".svgz", ".tga", ".wmf", ".xcf"}
)
"""Pictures of kinds that are not read: of phones and cameras, of drawing programs, of science."""

MARKER = "ESCAPEMENT.TAG"
"""A folder with a file of this name holds what the product itself has written: no images, whatever it is called."""

_CLUTTER = frozenset(
    {"__macosx", "icon\r", "network trash folder", "temporary items", "thevolumesettingsfolder"}  # macOS
    | {"$recycle.bin", "recycler", "desktop.ini", "ehthumbs.db", "system volume information", "thumbs.db"}  # Windows
    | {"#recycle", "#snapshot", "@eadir", "@recently-snapshot", "@recycle", "@sharebin", "@tmp", "~snapshot"}  # NAS
    | {"__pycache__", "lost+found", "mlartifacts", "mlruns"}
)
"""In small letters: a share of Windows or of a NAS shows them in any."""

_SHOWN = 5


def is_image(name: str) -> bool:
    return suffix_of(name) in IMAGE_SUFFIXES


def is_hidden(name: str) -> bool:
    return name.startswith(".")


def is_clutter(name: str) -> bool:
    """Whether a file or folder of this name comes from a system and not from a person: hidden, a bin, thumbnails."""
    return is_hidden(name) or name.lower() in _CLUTTER


def suffix_of(name: str) -> str:
    """In small letters; "" where there is none."""
    return posixpath.splitext(name)[1].lower()


@dataclass(frozen=True, kw_only=True)
class LeftOut:
    """What was not listed.

    others: files that are no images, by suffix. clutter: entries left out by name. own: folders with the marker. loose:
    images that are in no class folder. empty: class folders without an image.
    """

    others: Counter[str] = field(default_factory=Counter)
    clutter: Counter[str] = field(default_factory=Counter)
    own: Sequence[str] = ()
    loose: int = 0
    empty: Sequence[str] = ()

    @property
    def unread(self) -> Counter[str]:
        """Of `others`, the pictures of kinds that are not read."""
        return Counter({suffix: count for suffix, count in self.others.items() if suffix in UNREAD_SUFFIXES})

    @property
    def holds_images(self) -> bool:
        """Whether a person may miss something of it."""
        return bool(self.unread or self.loose or self.empty)

    @property
    def text(self) -> str:
        """One line; empty where there is nothing."""
        unread, parts = self.unread, []
        if unread:
            kinds = f"{_kinds(unread)}; convert them to PNG"
            parts.append(f"{counted(unread.total(), 'picture')} of kinds that are not read ({kinds})")
        if self.loose:
            parts.append(f"{counted(self.loose, 'image')} outside class folders")
        if self.empty:
            parts.append(f"{counted(len(self.empty), 'class folder')} without images ({listed(self.empty)})")
        others = self.others - unread
        if others:
            parts.append(f"{counted(others.total(), 'file')} without an image extension ({_kinds(others)})")
        hidden = Counter({name: count for name, count in self.clutter.items() if is_hidden(name)})
        if hidden:
            parts.append(f"{hidden.total():,} hidden")
        system = self.clutter - hidden
        if system:
            parts.append(f"{system.total():,} that systems or tools leave ({_kinds(system)})")
        if self.own:
            parts.append(f"what runs have written ({listed(sorted(self.own))})")
        return ", ".join(parts)


def _kinds(counts: Counter[str]) -> str:
    """`.heic 3, none 1`: the most frequent first where not all can be shown."""
    shown = counts.most_common(_SHOWN)
    text = ", ".join(f"{name or 'none'} {count}" for name, count in sorted(shown))
    return f"{text}, …" if len(counts) > _SHOWN else text
