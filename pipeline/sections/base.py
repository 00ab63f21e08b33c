"""The base of every section of the configuration, how it reads what was written, and the pattern of a safe name."""

from __future__ import annotations

import types
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import AfterValidator, BaseModel, ConfigDict, ValidationInfo, field_validator

from pipeline.yaml_text import NULLS, Written, plain_value

#: A name that is safe as a registered model, an experiment and a file.
NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9_.-]*$"


class Section(BaseModel):
    """Base of every section: frozen, and it refuses a key that it does not know."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        use_attribute_docstrings=True,
        coerce_numbers_to_str=True,
        allow_inf_nan=False,
    )

    @field_validator("*", mode="before")
    @classmethod
    def _as_written(cls, value: Any, info: ValidationInfo) -> Any:  # noqa: ANN401 - whatever was given
        annotation = cls.model_fields[info.field_name or ""].annotation
        # Python counts true as 1, so `lr: yes` would train at a rate of 1.
        if isinstance(value, bool) and annotation is not bool:
            raise ValueError("true and false have no meaning here; quote it if it is a name")
        return _read_as(annotation, value)


def _no_control_characters(value: str) -> str:
    found = next((char for char in value if unicodedata.category(char) == "Cc"), None)
    if found is None:
        return value
    raise ValueError(
        f"holds a control character, {found!r}; within double quotes YAML reads \\t as a tab and \\n as a line break, "
        "so write paths in single quotes or with /"
    )


#: A path or an address.
Location = Annotated[str, AfterValidator(_no_control_characters)]


def _read_as(annotation: Any, value: Any) -> Any:  # noqa: ANN401 - any type, any value
    """What was written, for a key of this type: null for no value, one word as a list of one, fixed words in any case.

    What does not fit is left to pydantic.
    """
    kinds = list(_kinds(annotation))
    if isinstance(value, Written) and _is_null(value, kinds):
        return {} if any(_is_section(kind) for kind in kinds) else None
    if Any in kinds or any(get_origin(kind) is dict for kind in kinds):
        return _plain(value)
    for kind in kinds:
        if get_origin(kind) is tuple and get_args(kind)[1:] == (...,):
            return _read_list(get_args(kind)[0], value)
    if isinstance(value, list | tuple):
        return [str(item) if isinstance(item, Written) else item for item in value]
    if not isinstance(value, str):
        return value
    text = str(value) if str in kinds else value.strip()
    words = [word for kind in kinds if get_origin(kind) is Literal for word in get_args(kind)]
    return next((word for word in words if str(word).casefold() == text.casefold()), text)


def _is_null(word: str, kinds: Sequence[Any]) -> bool:
    return word in NULLS or (word.lower() == "none" and types.NoneType in kinds and str not in kinds)


def _read_list(items: Any, value: Any) -> Any:  # noqa: ANN401 - any type, any value
    names = list(_kinds(items))
    if isinstance(value, str) and ("," in value or value.startswith(("[", "{"))):
        quoted = f"; a name that holds a comma or brackets is quoted within it: ['{value}']" if str in names else ""
        raise ValueError(f"give a list: [{value.strip('[]{} ')}]{quoted}")
    if isinstance(value, str | int | float) or (isinstance(value, Mapping) and _is_section(items)):
        value = [value]
    if not isinstance(value, list | tuple):
        return value
    if str in names and any(isinstance(item, list) for item in value):
        raise ValueError("a list within a list; a name in brackets is quoted: ['[a]']")
    # Within a list `null` is a name.
    return [str(item) if isinstance(item, str) and str in names else _read_as(items, item) for item in value]


def _kinds(annotation: Any) -> Iterator[Any]:  # noqa: ANN401 - any type
    """The types of a union, without their annotations."""
    if get_origin(annotation) is Annotated:
        yield from _kinds(get_args(annotation)[0])
    elif get_origin(annotation) in (Union, types.UnionType):
        for kind in get_args(annotation):
            yield from _kinds(kind)
    else:
        yield annotation


def _is_section(kind: Any) -> bool:  # noqa: ANN401 - any type
    return isinstance(kind, type) and issubclass(kind, Section)


def _plain(value: Any) -> Any:  # noqa: ANN401 - any value
    """Where a key may hold anything, words without quotes are read as JSON would."""
    if isinstance(value, Written):
        return plain_value(value)
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    return value
