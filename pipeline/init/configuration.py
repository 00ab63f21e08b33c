"""A first configuration as a commented YAML file: what differs from the defaults, and why."""

from __future__ import annotations

import re
import shlex
import textwrap
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

from components.display import counted, listed, one_line
from components.models.skeleton import USUAL_SIZES
from pipeline.compute.device import resolve_target
from pipeline.config import Config
from pipeline.init.evidence import BUDGETS, Certifiable, certifiable
from pipeline.init.look import GOOD_KEY, Look
from pipeline.init.weights import weights_at_hand
from pipeline.yaml_text import write_yaml

#: What to go on with.
NEXT_COMMANDS = ("escapement run --config {config} --dry-run", "escapement run --config {config} --budget 10min")
#: A size that trains about three times as fast as the default, 224 px: (224 / 128)² = 3.1.
FAST_SIZE = 128
#: For problems of defect types only, which have no default.
BALANCED_ACCURACY_GATE = 0.5
#: From how many of its pixels to one of the model's on small defects are worth a word.
_MUCH_REDUCED = 4
_WIDTH, _LONGEST_NAME, _SHOWN_CLASSES = 118, 60, 12
DEFAULTS = Config()


@dataclass(frozen=True)
class Entry:
    """A key of the file. comment: stands above it. without: it is only shown, behind a #, as one of the defaults is."""

    section: str
    key: str
    value: Any
    comment: str = ""
    without: bool = False

    @property
    def is_active(self) -> bool:
        own = getattr(getattr(DEFAULTS, self.section), self.key)
        return not self.without and (tuple(self.value) if isinstance(self.value, list) else self.value) != own


def propose(look: Look) -> list[Entry]:
    """The keys that matter for a first run, by sections; those that keep their default are shown, too."""
    name = Entry("project", "name", project_name(look.name))
    return [name, *_data(look), *_model(), *(_budget(look) if look.good else _goodless())]


def configuration(look: Look, entries: Sequence[Entry], commands: Sequence[str]) -> str:
    """The text of the file."""
    lines = _comment(
        f"Written by escapement init: {look.layout}, {counted(len(look.listing.table), 'image')}. It holds what "
        "differs from the defaults; what stands behind a # has its default. All keys: docs/configuration.md."
    )
    lines += [f"#   {_plain(command)}" for command in commands]
    for section, keys in groupby(entries, key=lambda entry: entry.section):
        shown = list(keys)
        lines.append(f"{'' if any(entry.is_active for entry in shown) else '# '}{section}:")
        for entry in shown:
            lines += _comment(entry.comment, indent="  ")
            mark = "" if entry.is_active else "# "
            lines += [f"  {mark}{line}" for line in write_yaml({entry.key: entry.value}).splitlines()]
    return "\n".join(lines) + "\n"


def next_commands(config: Path) -> list[str]:
    return [command.format(config=shlex.quote(str(config))) for command in NEXT_COMMANDS]


def project_name(folder: str) -> str:
    """The folder's name with the characters that a model, an experiment and a file may have in their names."""
    plain = unicodedata.normalize("NFKD", folder).encode("ascii", errors="ignore").decode()
    name = re.sub(r"[^A-Za-z0-9_.-]+", "-", plain)[:_LONGEST_NAME].strip("-_.")
    # By the default name, results of several projects could not be told apart.
    return f"{name}-images" if name == DEFAULTS.project.name else name or "images"


def image_size(look: Look) -> int:
    """The default, or for smaller images the largest usual size that enlarges them in no direction."""
    side, default = max(look.sizes.width, look.sizes.height), DEFAULTS.data.image_size
    return default if side >= default else max((size for size in USUAL_SIZES if size <= side), default=USUAL_SIZES[0])


def _data(look: Look) -> Iterator[Entry]:
    counts = listed([f"{label} {count:,}" for label, count in look.counts.items()], most=_SHOWN_CLASSES)
    comments = {
        "source": f"{counted(len(look.counts), 'class', 'classes')}: {counts}.",
        "label_spelling": "Some classes differ in case, blanks or look-alike letters alone; they become one.",
        "good_labels": "Good parts, by their name or as given; every other class is a defect."
        if look.good
        else "No class has the name of a good one, so all are taken for kinds of defects: no escapes, no threshold. If "
        f"one is good, run init anew with {GOOD_KEY} NAME.",
    }
    for key, value in look.data.items():
        if key != "group_pattern":
            yield Entry("data", key, value, comments.get(key, ""))
    yield Entry("data", "image_size", image_size(look), _said_of_size(look))
    if look.groups is not None:
        said = f"The names of the files tell {look.groups.groups:,} parts (one: {look.groups.example})"
        said += (
            ", and some are in several of the given splits: then tests look better than they are. With this key a run "
            "stops there; with split_conflict: majority as well, each part goes into one split."
            if look.torn
            else ", whose images stay in one split each. Remove the key if the names mean something else."
        )
        yield Entry("data", "group_pattern", look.groups.pattern, said, without=look.torn)


def _said_of_size(look: Look) -> str:
    sizes, size = look.sizes, image_size(look)
    said = f"The images are {'' if sizes.alike else 'about '}{sizes.width} × {sizes.height} px"
    if size < DEFAULTS.data.image_size:
        return f"{said}: a larger size would only enlarge them."
    factor = round(max(sizes.width, sizes.height) / size)
    if factor >= _MUCH_REDUCED:
        said += f", {factor} of them to one of the model's: raise the size for small defects"
    if resolve_target(DEFAULTS.compute).type == "cpu":
        said += f". Without a GPU {FAST_SIZE} is about three times as fast"
    return f"{said}."


def _model() -> Iterator[Entry]:
    found = weights_at_hand(DEFAULTS)
    yield Entry("model", "backbone", found.model.get("backbone", DEFAULTS.model.backbone), found.said)
    yield Entry("model", "weights", found.model.get("weights", DEFAULTS.model.weights))


def _budget(look: Look) -> Iterator[Entry]:
    found = certifiable(look.listing.table, look.is_defect, DEFAULTS)
    yield Entry("operating_point", "escape_budget", found.budget or BUDGETS[-1], said_of_budget(found))
    if found.gate is not None:
        yield Entry(
            "promote",
            "gates",
            {"max_escape_rate": found.gate},
            f"About {counted(found.test, f'defective {found.unit}')} in the test split cannot show the default of "
            f"{DEFAULTS.promote.gates.max_escape_rate:.0%}, an upper bound; a model within the budget can show this.",
        )


def said_of_budget(found: Certifiable) -> str:
    """What so many defectives prove, in plain words."""
    units = counted(found.defects, f"defective {found.unit}")
    said = (
        f"At most this share of the defective {found.unit}s escapes, with {DEFAULTS.operating_point.confidence:.0%} "
        f"confidence. Of {units} about {found.certify:,} can certify it"
    )
    if found.budget is None:
        return f"{said}, which proves no budget: {BUDGETS[-1]:.0%} takes {found.needed(BUDGETS[-1])}. Add such images."
    said += f"; without a miss {found.needed(found.budget)} are enough"
    if found.budget > BUDGETS[0]:
        lower = BUDGETS[BUDGETS.index(found.budget) - 1]
        return f"{said}, and {lower:.0%} would take {found.needed(lower)}."
    return f"{said}. They can prove {100 * found.least:.1g} % at best: choose what your line can bear."


def _goodless() -> Iterator[Entry]:
    yield Entry("recipe", "objective", "balanced_accuracy", "The objective that needs no good class.")
    yield Entry(
        "promote",
        "gates",
        {"min_balanced_accuracy": BALANCED_ACCURACY_GATE},
        "A model is promoted by this bound alone: the least balanced accuracy that you accept.",
    )


def _comment(text: str, *, indent: str = "") -> list[str]:
    mark = f"{indent}# "
    return textwrap.wrap(
        _plain(text), width=_WIDTH, initial_indent=mark, subsequent_indent=mark, break_on_hyphens=False
    )


def _plain(text: str) -> str:
    """In one line, and without the characters that YAML takes in no comment."""
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in one_line(text))
