"""Names of classes, files and runs as people read them: nothing in them acts, nothing is invisible, long ones fit."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

_UNSEEN = {"Cc", "Cf", "Co", "Cs", "Zl", "Zp"}
"""Control and format characters, private use, halves of a pair, separators of lines and paragraphs."""
_JOINERS = "\u200c\u200d"
"""They join or part the letters beside them, as in Persian and in emoji."""


def visible(text: str) -> str:
    """The text with each character that has no picture as an escape, such as `\\x1b` or `\\u202e`.

    Line breaks stay. So it can be shown at a terminal, on a page or in a figure without acting there.
    """
    if text.isprintable():
        return text
    return "".join(
        char.encode("unicode_escape").decode("ascii")
        if unicodedata.category(char) in _UNSEEN and char not in f"\n{_JOINERS}"
        else char
        for char in text
    )


def one_line(text: str) -> str:
    """The same with line breaks as escapes, too: a file's name may hold one."""
    return visible(text).replace("\n", "\\n")


def markdown(text: str) -> str:
    """The text so that Markdown, in a table too, shows it as it is."""
    return re.sub(r"([\\`*_\[\]<>|$#~&])", r"\\\1", visible(text).replace("\n", " "))


def width(text: str) -> int:
    """Columns that the text takes in a type face of one width: Chinese, Japanese and Korean letters take two."""
    return sum(_columns(char) for char in text)


def shortened(text: str, columns: int) -> str:
    """The text, or its start and its end with an ellipsis between: both tell long names apart."""
    if width(text) <= columns:
        return text
    head, tail = _within(text, columns // 2), _within(text[::-1], (columns - 1) // 2)[::-1]
    return f"{head}…{tail}"


def wrapped(text: str, columns: int, *, lines: int = 3) -> str:
    """At most that many lines of at most so many columns, broken behind spaces, underscores, hyphens, slashes.

    What is too long for them loses its middle.
    """
    room = columns * lines
    filled = _filled(shortened(text, room), columns)
    while len(filled) > lines:
        room -= 1
        filled = _filled(shortened(text, room), columns)
    return "\n".join(line.strip(" ") for line in filled)


def listed(texts: Sequence[str], *, most: int = 5, separator: str = ", ") -> str:
    """The first of them, and how many more there are: `a, b and 3 others`."""
    rest = len(texts) - most
    return separator.join(texts[:most]) + (f" and {rest:,} other{'s' * (rest > 1)}" if rest > 0 else "")


def counted(count: int, noun: str, plural: str = "") -> str:
    """1 file, 12 files, 1,234 files. plural: where it is not the noun and an s."""
    return f"{count:,} {noun if count == 1 else plural or noun + 's'}"


def _filled(text: str, columns: int) -> list[str]:
    lines = [""]
    for part in re.findall(r"[^\s_/-]*[\s_/-]*", text):
        while part:
            piece = _within(part, columns) or part[0]
            if lines[-1] and width((lines[-1] + piece).rstrip()) > columns:
                lines.append("")
            lines[-1] += piece
            part = part[len(piece) :]
    return lines


def _within(text: str, columns: int) -> str:
    """As much of the beginning as takes no more columns."""
    for end, char in enumerate(text):
        columns -= _columns(char)
        if columns < 0:
            return text[:end]
    return text


def _columns(char: str) -> int:
    if unicodedata.combining(char):
        return 0
    return 2 if unicodedata.east_asian_width(char) in "WF" else 1
