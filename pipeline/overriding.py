"""The one mechanism that changes configured values: behind `--set`, `mlflow run -P`, methods and trials.

Values are merged by their dotted paths and validated once; faults are collected and reported together.
"""

from __future__ import annotations

import difflib
import math
import re
import typing
from collections.abc import Iterator, Mapping
from typing import Any, TypeVar

from pydantic import ValidationError

from components.errors import InputError
from pipeline.sections.base import Section
from pipeline.yaml_text import Written, YamlError, parse_yaml

SectionT = TypeVar("SectionT", bound=Section)
#: Keys of earlier releases, and where they are now.
MOVED = {"compute.precision": "recipe.precision"}


def override(section: SectionT, overrides: Mapping[str, Any]) -> SectionT:
    """The same section with some dotted keys replaced; strings are read as in `merge`. Raises `InputError`."""
    return validate(type(section), merge(section.model_dump(), overrides))


def parsed_value(section: Section, key: str, value: Any) -> Any:  # noqa: ANN401 - whatever the key can hold
    """The value as the section holds it at a dotted key, plain as JSON: a number for the text `1e-3`. May raise so."""
    node: Any = override(section, {key: value}).model_dump(mode="json")
    for part in key.split("."):
        node = node[part]
    return node


def merge(values: Mapping[str, Any], overrides: Mapping[str, Any]) -> dict[str, Any]:
    """The values with some replaced, by dotted path. Strings are words as they would stand in a file, and YAML where
    they hold a list, a map or quotes. Raises `InputError`: a key that stands twice in such a map."""
    merged = {key: dict(value) if isinstance(value, dict) else value for key, value in values.items()}
    for dotted, value in overrides.items():
        *parents, leaf = dotted.split(".")
        node = merged
        for parent in parents:
            child = node.get(parent)
            node[parent] = dict(child) if isinstance(child, dict) else {}
            node = node[parent]
        node[leaf] = _parse(dotted, value)
    return merged


def _parse(key: str, value: Any) -> Any:  # noqa: ANN401 - whatever a key can hold
    if not isinstance(value, str):
        return value
    # Words are left to their keys' types: YAML would cut `folder:/lots #2` short.
    if not value.startswith(("[", "{", "'", '"')):
        return Written(value)
    try:
        return parse_yaml(value, source=key)
    except YamlError:  # `[old] lots` may be the name of a folder
        return Written(value)


def validate(kind: type[SectionT], values: Mapping[str, Any]) -> SectionT:
    """The section that plain values make. Raises `InputError` with every fault, each with its dotted path."""
    try:
        return kind.model_validate(dict(values))
    except ValidationError as error:
        by_key: dict[str, list[str]] = {}
        for fault in error.errors(include_url=False):
            key, text = _describe(kind, dict(fault))
            by_key.setdefault(key, []).append(text)
        # Of a key of several types pydantic tells each; where one says how to write it, that is enough.
        told = [[text for text in texts if "; write " in text][:1] or texts for texts in by_key.values()]
        raise InputError("\n".join(text for texts in told for text in texts)) from error


def _describe(kind: type[Section], fault: dict[str, Any]) -> tuple[str, str]:
    """The dotted key of a fault, and what to say of it."""
    location = [str(part) for part in fault["loc"] if not _is_union_branch(str(part))]
    path, value = ".".join(location), fault["input"]
    if fault["type"] == "extra_forbidden":
        if path in MOVED:
            return path, f"{path}: is now {MOVED[path]}; write it there"
        known = _known_keys(kind, location[:-1])
        close = difflib.get_close_matches(location[-1], known, n=1)
        hint = f"did you mean {close[0]}?" if close else f"known here: {', '.join(known)}"
        if location[-1].isdigit():  # {lr: 0,01}
            hint = "a number takes a point, and no comma"
        elif "." in location[-1]:
            hint = "within a file, write the parts of a key one below the other"
        return path, f"{path}: unknown key; {hint}"
    shown = "" if isinstance(value, dict | Section) else f"={_shown(value)}"
    hints = "".join(f"; {hint}" for hint in _hints(fault["type"], value, fault.get("ctx", {})))
    return path, f"{path}{shown}: {_lower_first(fault['msg'].removeprefix('Value error, '))}{hints}"


def _shown(value: Any) -> str:  # noqa: ANN401 - whatever was given
    if value is None:
        return "null"
    return repr(str(value)) if isinstance(value, str) and not value.isprintable() else str(value)


def _hints(kind: str, value: Any, context: Mapping[str, Any]) -> Iterator[str]:  # noqa: ANN401 - whatever was given
    """How to write what was probably meant."""
    if kind == "tuple_type":
        yield "write [] for none, or [null] for a name" if value is None else "write a list: [a, b]"
    elif kind in ("model_type", "dict_type"):
        yield "write its keys below it, as in key: value"
    elif kind == "string_type" and value is None:
        yield "null has no meaning here; quote it if it is a name"
    elif kind in ("float_parsing", "int_parsing") and isinstance(value, str):
        if value.lower() in ("off", "no", "none", "nan"):
            yield "write null for none, where the key may be without a number"
        yield from _number_meant(value, whole=kind == "int_parsing")
    elif kind == "bool_parsing":
        yield "write true or false"
    elif kind == "literal_error" and isinstance(value, str):
        off = {"none", "off"} & set(_words(context))
        if value.lower() in ("off", "none", "no", "false") and off:
            yield f"to switch it off write {off.pop()}"
        yield from (f"did you mean {name}?" for name in difflib.get_close_matches(value.lower(), _words(context), n=1))


def _words(context: Mapping[str, Any]) -> list[str]:
    return re.findall(r"'([^']+)'", str(context.get("expected", "")))


def _number_meant(text: str, *, whole: bool) -> Iterator[str]:
    """A number with a comma, a percent sign, an exponent where it has to be whole."""
    number = text.strip().replace(",", ".").removesuffix("%").strip()
    try:
        meant = float(number) / (100 if "%" in text else 1)
    except ValueError:
        return
    if not math.isfinite(meant):
        return
    if whole and meant.is_integer():
        yield f"write {int(meant)}"
    elif not whole:
        yield f"write {meant:g}"


def _is_union_branch(part: str) -> bool:
    """Pydantic adds the tried type of a union (`float`, `literal['auto']`) to a fault's location."""
    return part in {"float", "int", "str", "bool"} or "[" in part


def _lower_first(message: str) -> str:
    return message[:1].lower() + message[1:]


def _known_keys(kind: type[Section], parents: list[str]) -> list[str]:
    """The keys below a dotted path; empty where the path leaves the typed sections."""
    for parent in parents:
        if parent.isdigit():
            continue
        annotation = kind.model_fields[parent].annotation
        candidates = [annotation, *typing.get_args(annotation)]
        kind = next((c for c in candidates if isinstance(c, type) and issubclass(c, Section)), Section)
    return list(kind.model_fields)
