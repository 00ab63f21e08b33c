"""Letters of all scripts in figures: which of this machine's fonts has them, and code points where none does."""

from __future__ import annotations

import contextlib
import functools
import re
from collections.abc import Iterable

from matplotlib import font_manager
from matplotlib.font_manager import FontEntry
from matplotlib.ft2font import FT2Font

from components.display import listed, visible

_PREFERRED = ("Inter", "Helvetica Neue", "Helvetica", "Arial", "Liberation Sans")
_ALWAYS = "DejaVu Sans"
"""Comes with matplotlib."""
_NO_LETTERS = ("Last Resort", "STIX", "cm", "Standard Symbols", "D050000L", "DejaVu Sans Display")
"""Beginnings of the names of fonts that hold boxes, mathematics or ornaments in the place of letters."""
_JOINERS = re.compile("[\u200c\u200d\ufe00-\ufe0f]")
"""Joiners and variation selectors: without them the letters beside them stand for themselves."""
_EAST_ASIAN = re.compile("[\u1100-\u11ff\u2e80-\u9fff\uac00-\ud7ff\uf900-\ufaff\uff00-\uffef\U00020000-\U0003ffff]")
_SYMBOLS = re.compile("[\u2190-\u2bff\U0001f000-\U0001faff]")

_missing: set[str] = set()


@functools.cache
def families() -> tuple[str, ...]:
    """The preferred faces that this machine has, then the one that matplotlib brings along."""
    present = {font.name for font in font_manager.fontManager.ttflist}
    return (*(name for name in _PREFERRED if name in present), _ALWAYS)


def families_for(texts: Iterable[str]) -> list[str]:
    """`families`, and behind them those that have what the texts hold beyond their letters."""
    found = (_family_with(letter) for letter in sorted(set().union(*texts)) if not letter.isascii())
    return list(dict.fromkeys([*families(), *(name for name in found if name)]))


def shown(text: str) -> str:
    """The text as a figure can show it: what has no picture, or is in no font, as an escape such as `\\u826f`."""
    text = visible(text)
    return text if text.isascii() else "".join(_shown(letter) for letter in text)


def missing_note() -> str | None:
    """A sentence, where figures of this process hold letters that no font has; else None."""
    if not _missing:
        return None
    known = {"fonts-noto-cjk": _EAST_ASIAN, "fonts-symbola": _SYMBOLS}  # Debian's packages
    packages = sorted(
        {next((name for name, kind in known.items() if kind.match(letter)), "fonts-noto-core") for letter in _missing}
    )
    return (
        f"no installed font shows {listed(sorted(_missing))}: figures have code points in their place; "
        f"install {' '.join(packages)}, or another font with these letters"
    )


def _shown(letter: str) -> str:
    if letter.isascii() or _family_with(letter):
        return letter
    if _JOINERS.match(letter):
        return ""
    _missing.add(letter)
    return letter.encode("unicode_escape").decode("ascii")


@functools.cache
def _family_with(letter: str) -> str | None:
    """The first family that has the letter; what was installed since matplotlib made its list is looked at last."""
    found = _first_with(letter, _faces())
    return found or _first_with(letter, _newly_installed())


def _first_with(letter: str, faces: Iterable[FontEntry]) -> str | None:
    return next((face.name for face in faces if ord(letter) in _letters_of(face.fname, face.index)), None)


@functools.cache
def _faces() -> tuple[FontEntry, ...]:
    """One face of each family of letters: those of `families` first, then those without serifs."""
    order = [*families(), "Noto Sans CJK SC"]

    def rank(face: FontEntry) -> tuple[int, bool, str]:
        place = order.index(face.name) if face.name in order else len(order)
        return place, "Sans" not in face.name or "Mono" in face.name, face.name

    upright = [
        face
        for face in font_manager.fontManager.ttflist
        if (face.style, face.weight) == ("normal", 400) and not face.name.startswith(_NO_LETTERS)
    ]
    return tuple({face.name: face for face in sorted(upright, key=rank)}.values())


@functools.cache
def _newly_installed() -> tuple[FontEntry, ...]:
    manager = font_manager.fontManager
    known = {face.fname for face in manager.ttflist}
    before = {face.name for face in _faces()}
    for path in sorted(set(font_manager.findSystemFonts()) - known):
        with contextlib.suppress(RuntimeError, OSError):  # a file that matplotlib cannot set type from
            manager.addfont(path)
    _faces.cache_clear()
    return tuple(face for face in _faces() if face.name not in before)


@functools.cache
def _letters_of(path: str, index: int) -> frozenset[int]:
    """Code points that the font has; none of one that is gone since matplotlib made its list.

    The font itself is not kept: each would keep its file open.
    """
    try:
        return frozenset(FT2Font(path, face_index=index).get_charmap())
    except (OSError, RuntimeError):
        return frozenset()
