"""YAML as its writer meant it: a word without quotes keeps its letters until the type of its key is known.

YAML 1.1 by itself reads `010` as 8, `no` as false and `12:30:45` as 45045, and of a key that stands twice it drops the
first without a word. Here the section that takes a value decides what it is, and a key that stands twice is refused.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import yaml

from components.errors import InputError

#: Words without quotes that stand for no value, where the key may be without one.
NULLS = ("null", "Null", "NULL", "~", "")
_NUMBER = re.compile(r"[-+]?(0|[1-9][0-9]*|(0|[1-9][0-9]*)?\.[0-9]+|(0|[1-9][0-9]*)\.)([eE][-+]?[0-9]+)?")
_SHOWN = 60


class YamlError(InputError):
    """The text is no YAML at all."""


class Written(str):
    """A word or number as it stands there without quotes."""

    __slots__ = ()


def read_yaml(data: bytes, *, source: str) -> Any:  # noqa: ANN401 - whatever the text holds
    """Maps, lists and texts, `Written` where they stand without quotes. source: for errors, such as `config=my.yaml`.

    UTF-8, or UTF-16 with its mark. Raises InputError: other bytes, no YAML, keys that stand twice in one map or hold
    invisible characters.
    """
    return parse_yaml(_decoded(data, source), source=source)


def parse_yaml(text: str, *, source: str) -> Any:  # noqa: ANN401 - whatever the text holds
    """`read_yaml` for text; what is no YAML at all is a `YamlError`."""
    try:
        node = yaml.compose(text, Loader=_Loader)
        faults = [] if node is None else list(_faulty_keys(node, "", set(), frozenset()))
        values = None if node is None or faults else _Loader("").construct_document(node)
    except yaml.MarkedYAMLError as error:
        raise YamlError(f"{source}: not valid YAML: {_explained(error, text)}") from error
    except yaml.reader.ReaderError as error:
        where = f"line {text.count(chr(10), 0, error.position) + 1} has the control character {chr(error.character)!a}"
        remedy = "save the file as UTF-8" if error.character == 0 else "remove it"
        raise YamlError(f"{source}: not valid YAML: {where}; {remedy}") from error
    except (RecursionError, ValueError) as error:  # ValueError: of an explicit tag, such as !!timestamp
        raise YamlError(f"{source}: not valid YAML: {str(error).partition(chr(10))[0]}") from error
    if faults:
        raise InputError("\n".join(f"{source}: {fault}" for fault in faults))
    return values


def write_yaml(values: Any) -> str:  # noqa: ANN401 - whatever is plain
    """YAML that `read_yaml` and the sections read as the same values."""
    return yaml.dump(values, Dumper=_Dumper, sort_keys=False, allow_unicode=True)


def plain_value(word: str) -> Any:  # noqa: ANN401 - as JSON would read it
    """What a `Written` is where no key says its type: null, true, false, a decimal number, or else the word itself."""
    if word in NULLS:
        return None
    if word in ("true", "false"):
        return word == "true"
    if not _NUMBER.fullmatch(word):
        return str(word)
    return float(word) if re.search(r"[.eE]", word) else int(word)


class _Loader(yaml.SafeLoader):
    # Of all that YAML reads into a word without quotes, only the merge key `<<` is left.
    yaml_implicit_resolvers = {"<": yaml.SafeLoader.yaml_implicit_resolvers["<"]}  # noqa: RUF012


def _written(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> str:
    return node.value if node.style else Written(node.value)


_Loader.add_constructor("tag:yaml.org,2002:str", _written)


class _Dumper(yaml.SafeDumper):
    def ignore_aliases(self, data: object) -> bool:
        return True


def _quoted(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    # Within other than double quotes PyYAML takes some characters for line breaks.
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=None if text.isprintable() else '"')


_Dumper.add_representer(str, _quoted)
# `1e-3` is a text for YAML 1.1, and so would be written without quotes.
_Dumper.add_implicit_resolver("tag:yaml.org,2002:float", _NUMBER, list("-+.0123456789"))


def _decoded(data: bytes, source: str) -> str:
    encoding = "utf-16" if data.startswith((b"\xff\xfe", b"\xfe\xff")) else "utf-8-sig"
    try:
        return data.decode(encoding)
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise InputError(
            f"{source}: line {line} is not UTF-8 (byte 0x{data[error.start]:02X}); save the file as UTF-8"
        ) from error


def _faulty_keys(node: yaml.Node, path: str, seen: set[int], above: frozenset[int]) -> Iterator[str]:
    """A sentence for each key that stands twice in one map, or that is not what it looks like."""
    if id(node) in above:
        yield f"line {node.start_mark.line + 1}: {path} holds itself by an alias (*); write out what is meant"
    if id(node) in seen:
        return
    seen.add(id(node))
    above |= {id(node)}
    if isinstance(node, yaml.SequenceNode):
        for index, child in enumerate(node.value):
            yield from _faulty_keys(child, f"{path}.{index}" if path else str(index), seen, above)
    if not isinstance(node, yaml.MappingNode):
        return
    lines: dict[str, list[int]] = {}
    for key, child in node.value:
        name, line = key.value if isinstance(key, yaml.ScalarNode) else "?", key.start_mark.line + 1
        below = f"{path}.{name}" if path else name
        if not name.isprintable():
            yield f"line {line}: the key {name!r} has invisible characters; type the line anew"
        elif key.tag != "tag:yaml.org,2002:merge":
            lines.setdefault(below, []).append(line)
        yield from _faulty_keys(child, below, seen, above)
    for key, places in lines.items():
        if len(places) > 1:
            where = f"on lines {' and '.join(map(str, places))}" if len(set(places)) > 1 else f"on line {places[0]}"
            often = "twice" if len(places) == 2 else f"{len(places)} times"
            yield f"{key} stands {often}, {where}; keep one entry, with all that is meant"


def _explained(error: yaml.MarkedYAMLError, text: str) -> str:
    """One sentence: the line, what is wrong there, and how to write it."""
    problem = error.problem or error.context or "it cannot be read"
    mark = error.problem_mark or error.context_mark
    if mark is None:
        return problem
    line = text.splitlines()[mark.line] if mark.line < len(text.splitlines()) else ""
    shown = line.strip()[:_SHOWN]
    return f"line {mark.line + 1}: {problem}{f' in: {shown}' if shown else ''}; {_remedy(problem, line)}"


def _remedy(problem: str, line: str) -> str:
    if "\\t" in problem:
        return "YAML takes no tabs there; write blanks in their place"
    if "cannot start" in problem or "undefined alias" in problem or "for the tag" in problem:
        return "quote a value that starts with such a sign"
    if "escape" in problem:
        return "within double quotes a backslash starts an escape; use single quotes"
    if "another document" in problem:
        return "keep one document, without a second ---"
    if "mapping values" in problem:
        key, _, value = line.strip().partition(": ")
        if ": " in value or value.endswith(":"):
            return f"quote a value that holds a colon and a blank: {key}: '{value}'"
        return "indent the line as its neighbours are, or quote the value above it"
    return "look at the quotes, brackets and indentation there and on the line above"
