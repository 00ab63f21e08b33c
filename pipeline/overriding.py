"""The one mechanism that changes configured values: behind `--set`, `mlflow run -P`, methods and trials.

Values are merged by their dotted paths and validated once; faults are collected and reported together.
"""

from __future__ import annotations

import difflib
import typing
from collections.abc import Mapping
from typing import Any, TypeVar

import yaml
from pydantic import ValidationError

from components.errors import InputError
from pipeline.sections.base import Section

SectionT = TypeVar("SectionT", bound=Section)


def override(section: SectionT, overrides: Mapping[str, Any]) -> SectionT:
    """The same section with some dotted keys replaced; strings are read as YAML. Raises `InputError`."""
    return validate(type(section), merge(section.model_dump(), overrides))


def held(section: Section, key: str, value: Any) -> Any:  # noqa: ANN401 - whatever the key can hold
    """The value as the section holds it at a dotted key, plain as JSON: a number for the text `1e-3`. May raise so."""
    node: Any = override(section, {key: value}).model_dump(mode="json")
    for part in key.split("."):
        node = node[part]
    return node


def merge(values: Mapping[str, Any], overrides: Mapping[str, Any]) -> dict[str, Any]:
    """The values with some replaced, by dotted path; strings are read as YAML where they hold a list, a map or null."""
    merged = {key: dict(value) if isinstance(value, dict) else value for key, value in values.items()}
    for dotted, value in overrides.items():
        *parents, leaf = dotted.split(".")
        node = merged
        for parent in parents:
            child = node.get(parent)
            node[parent] = dict(child) if isinstance(child, dict) else {}
            node = node[parent]
        node[leaf] = _parse(value)
    return merged


def _parse(value: Any) -> Any:  # noqa: ANN401 - whatever a YAML scalar can be
    if not isinstance(value, str):
        return value
    # Scalars are left to their keys' types: YAML would cut `folder:/lots #2` short and read a class `no` as false.
    if value not in ("null", "~") and not value.startswith(("[", "{")):
        return value
    try:
        return yaml.safe_load(value)
    except (yaml.YAMLError, ValueError):
        return value


def validate(kind: type[SectionT], values: Mapping[str, Any]) -> SectionT:
    """The section that plain values make. Raises `InputError` with every fault, each with its dotted path."""
    try:
        return kind.model_validate(dict(values))
    except ValidationError as error:
        faults = [_describe(kind, dict(fault)) for fault in error.errors(include_url=False)]
        raise InputError("\n".join(faults)) from error


def _describe(kind: type[Section], fault: dict[str, Any]) -> str:
    location = [str(part) for part in fault["loc"] if not _is_union_branch(str(part))]
    path, value = ".".join(location), fault["input"]
    if fault["type"] == "extra_forbidden":
        known = _known_keys(kind, location[:-1])
        close = difflib.get_close_matches(location[-1], known, n=1)
        hint = f"did you mean {close[0]}?" if close else f"known here: {', '.join(known)}"
        return f"{path}: unknown key; {hint}"
    shown = "" if isinstance(value, dict | Section) else f"={value}"
    return f"{path}{shown}: {_lower_first(fault['msg'].removeprefix('Value error, '))}"


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
