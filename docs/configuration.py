"""Writes configuration.md from the typed sections: `python docs/configuration.py > docs/configuration.md`."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator

from pydantic.fields import FieldInfo

from pipeline.config import Config
from pipeline.sections.base import Section

HEAD = """# Configuration

Written from `pipeline/config.py` by `python docs/configuration.py`; a test keeps the two in step.

A configuration file is YAML and holds differences from these defaults. `--config` takes a file or one of the shipped
`default`, `demo`, `smoke`, `cluster`. Any key can be overridden: `--set train.epochs=3`, or `-P train.epochs=3` under
`mlflow run`. Precedence: default, file, override. An override of a searched key pins it and takes it out of the search.
`escapement run --config demo --dry-run` prints the resolved configuration and what would run.
It refuses what the run would refuse; `doctor` also starts Ray and writes to the tracking store.

The type of a key decides what a word without quotes is: `010`, `no`, `1e3` and `2024-01-01` are labels in
`good_labels`, and `off` is false for `audit` and a value of `near_duplicates`. `null` is no value; write `'null'` for
the name. One word stands for a list of one. Fixed words and optimizers may have capital letters. A key that stands
twice is refused.
"""


def render() -> str:
    """The whole page."""
    lines = [HEAD]
    for name, field in Config.model_fields.items():
        section = field.annotation
        if isinstance(section, type) and issubclass(section, Section):
            lines += [f"## `{name}`", "", *_text(section), "| Key | Default | Meaning |", "|---|---|---|"]
            lines += [f"| `{key}` | {default} | {meaning} |" for key, default, meaning in _rows(name, section)]
        else:
            lines += [f"## `{name}`", "", f"Default {_default(field)}. Seeds the splits, the search and the training."]
        lines.append("")
    return "\n".join(lines)


def _text(section: type[Section]) -> list[str]:
    own = section.__doc__ if section.__doc__ != Section.__doc__ else None
    return [_one_line(own), ""] if own else []


def _rows(prefix: str, section: type[Section]) -> Iterator[tuple[str, str, str]]:
    for name, field in section.model_fields.items():
        key = f"{prefix}.{name}"
        if isinstance(field.annotation, type) and issubclass(field.annotation, Section):
            yield from _rows(key, field.annotation)
        else:
            yield key, _default(field), _one_line(field.description or "").replace("|", "\\|")


def _default(field: FieldInfo) -> str:
    value = field.default
    if isinstance(value, tuple) and value and isinstance(value[0], Section):
        return "<br>".join(f"`{_dimension(entry)}`" for entry in value)
    if isinstance(value, tuple):
        value = list(value)
    return f"`{'null' if value is None else value}`"


def _dimension(entry: Section) -> str:
    given = entry.model_dump(exclude_defaults=True)
    return ", ".join(f"{key}: {list(v) if isinstance(v, tuple) else v}" for key, v in given.items())


def _one_line(text: str) -> str:
    return re.sub(r"\s+", " ", text).strip()


if __name__ == "__main__":
    sys.stdout.write(render())
