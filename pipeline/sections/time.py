"""A length of time as a configuration says it: a number and its unit."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import AfterValidator

#: Seconds of each unit, by the ways to write it.
UNITS = {
    **dict.fromkeys(("s", "sec", "second", "seconds"), 1.0),
    **dict.fromkeys(("min", "minute", "minutes"), 60.0),
    **dict.fromkeys(("h", "hour", "hours"), 3600.0),
}
_FORM = re.compile(r"([0-9]+(?:\.[0-9]+)?) *([a-z]*)", re.IGNORECASE)


def _duration(text: str) -> str:
    found = _FORM.fullmatch(text.strip())
    unit = found[2].lower() if found else ""
    if found is None or (unit and unit not in UNITS):
        raise ValueError("is no length of time; write a number and a unit: 30s, 10min or 2h")
    if not unit:
        raise ValueError(f"lacks a unit; write {text.strip()}s, {text.strip()}min or {text.strip()}h")
    if not float(found[1]):
        raise ValueError("leaves no time for anything; give more than 0")
    return f"{found[1]}{unit}"


#: Such as `90s`, `10min`, `1.5h`.
Duration = Annotated[str, AfterValidator(_duration)]


def seconds_of(duration: str) -> float:
    """Of a valid `Duration`."""
    found = _FORM.fullmatch(duration)
    assert found is not None
    return float(found[1]) * UNITS[found[2].lower()]
