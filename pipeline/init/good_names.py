"""Which classes are good parts, by the names that people give them; a name that says more is not guessed at."""

from __future__ import annotations

import re
from collections.abc import Sequence

from components.data.names import spelling
from components.display import listed
from components.errors import InputError

#: Names for good parts, in several languages, without blanks and signs.
_GOOD = frozenset(
    {"good", "ok", "okay", "pass", "passed", "normal", "functional", "intact", "healthy", "perfect", "accept"}
    | {"accepted", "conforming", "undamaged", "faultless", "flawless", "defectfree", "faultfree", "crackfree"}
    | {"gut", "gutteil", "gutteile", "io", "inordnung", "fehlerfrei", "bon", "bonne", "conforme", "bueno", "buena"}
    | {"buono", "buona", "dobry"}
    | {"良品", "合格", "合格品", "正常", "양품", "정상"}
    | {f"{no}{what}" for no in ("no", "non", "not", "without") for what in ("defect", "defects", "defective", "crack")}
    | {f"{no}{what}" for no in ("no", "non", "not") for what in ("cracks", "cracked", "fault", "faulty", "damaged")}
)
#: What may stand beside them: `ok_front`, `01_good`, `good parts`.
_BESIDE = frozenset(
    {"front", "back", "top", "bottom", "side", "left", "right", "class", "part", "parts", "piece", "pieces", "product"}
    | {"products", "sample", "samples", "image", "images", "img", "teile", "teil"}
)


def is_good_name(label: str) -> bool:
    words = [word.rstrip("0123456789") for word in re.findall(r"[^\W_]+", spelling(label))]
    return "".join(word for word in words if word not in _BESIDE) in _GOOD


def choose_good(labels: Sequence[str], given: Sequence[str], *, key: str) -> tuple[str, ...]:
    """The good ones of the labels: those that are given, else those whose names say so; empty where none does.

    given: in any spelling. key: the option that gives them, for errors.
    Raises InputError: a given one that is no label; no label is left for a defect.
    """
    good = dict.fromkeys(_label(name, labels, key) for name in given)
    good = good or dict.fromkeys(label for label in labels if is_good_name(label))
    if len(good) == len(labels):
        which = "are given as good" if given else "have the name of a good one"
        raise InputError(
            f"{key}={','.join(good)}: all {len(labels)} classes {which}, so that none is a defect; give those alone "
            "that are good"
        )
    return tuple(good)


def _label(name: str, labels: Sequence[str], key: str) -> str:
    alike = [name] if name in labels else [label for label in labels if spelling(label) == spelling(name)]
    if len(alike) != 1:
        raise InputError(f"{key}={name}: is no class of these images; they are: {listed(labels, most=20)}")
    return alike[0]
