"""Names as the eye sees them: one form for each label, group and path, and which of them look alike.

Two files of one name differ where a Mac has decomposed the accents (Unicode's form NFD); two labels, where a blank, a
mark of the writing direction or another alphabet's `o` came along with a copy.
"""

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable

_JOINERS = "\u200c\u200d"
_SELECTORS = "\ufe00-\ufe0f\U000e0100-\U000e01ef"
# Beside letters that are not ASCII, joiners and selectors shape letters and pictures; elsewhere they do nothing.
_IDLE = re.compile(f"(?<![^\\x00-\\x7f])[{_JOINERS}{_SELECTORS}]+|[{_JOINERS}]+(?![^\\x00-\\x7f])")
# Letters and marks that are drawn as nothing, beside the formatting characters.
_EMPTY = "\u034f\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0"
# Letters of Cyrillic and Greek that a font draws as it draws Latin ones; dashes and quotes of word processors.
_TWINS = str.maketrans(
    "АВЕЅІЈКМНОРСТУХаеѕіјорсухһԁԛԝΑΒΕΖΗΙΚΜΝΟΡΤΥΧο‐‑‒–—―−’‘‚′“”„″",
    "ABESIJKMHOPCTYXaesijopcyxhdqwABEZHIKMNOPTYXo-------''''\"\"\"\"",
)


def normal_form(name: str) -> str:
    """The name composed (NFC), without invisible characters and without blanks around it. May be empty."""
    if name.isascii() and name.isprintable():
        return name.strip()
    before = None
    while name != before:  # what is taken away may lay bare more
        before = name
        name = unicodedata.normalize("NFC", _visible(name, but=_JOINERS))
        name = unicodedata.normalize("NFC", _IDLE.sub("", name)).strip()
    return name


def normal_path(path: str) -> str:
    if path.isascii() and path.isprintable() and " " not in path:
        return path
    return "/".join(map(normal_form, path.split("/")))


def spelling(name: str) -> str:
    """What names have in common that differ in case, blanks, invisible characters, Unicode form or alphabet alone."""
    if not name.isascii() or not name.isprintable():
        name = unicodedata.normalize("NFKC", re.sub(f"[{_SELECTORS}]", "", _visible(name)))
        name = name.translate(_TWINS).casefold().replace("i\u0307", "i")  # of İ
        name = unicodedata.normalize("NFKC", _visible(name))
    return " ".join(name.casefold().split())


def look_alikes(names: Iterable[str]) -> list[Counter[str]]:
    """The names that share a spelling, with how often each is there; a name that is alone in its spelling is not."""
    groups: dict[str, Counter[str]] = {}
    for name, count in Counter(names).items():
        groups.setdefault(spelling(name), Counter())[name] = count
    return [group for _, group in sorted(groups.items()) if len(group) > 1]


def told_apart(*names: str) -> list[str]:
    """Names that look alike, each in quotes and so that the eye sees what differs: `'good'`, `'g\\u043eod'`."""
    only_case_and_blanks = len({" ".join(name.casefold().split()) for name in names}) == 1
    return [repr(name) if only_case_and_blanks else ascii(name) for name in names]


def _visible(name: str, *, but: str = "") -> str:
    """Without invisible characters, except those of `but`."""
    return "".join(
        char
        for char in name
        if char in but or not (char in _EMPTY or (unicodedata.category(char) in ("Cf", "Cc") and not char.isspace()))
    )
