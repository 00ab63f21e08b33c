"""What `escapement init` does: look, write the file, show what was found and what to go on with."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.table import Table

from components.display import counted, listed
from components.errors import InputError
from components.whole_files import whole_file
from pipeline.commands import check_output
from pipeline.console import Console, Terminal
from pipeline.init.configuration import Entry, configuration, next_commands, project_name, propose
from pipeline.init.look import Look, folder_name, look_at


def init(folder: str, *, output: Path | None, good: Sequence[str], as_json: bool) -> None:
    """Write a first configuration for a folder of images. Raises `InputError`; then nothing is written."""
    output = Path(f"{project_name(folder_name(folder))}.yaml" if output is None else os.path.expanduser(output))  # noqa: PTH111
    check_new(output)
    look = look_at(folder, good=good)
    entries, commands = propose(look), next_commands(output)
    write_new(output, configuration(look, entries, commands))
    console = Console()
    for note in look.notes:
        console.warn(note)
    if as_json:
        sys.stdout.write(json.dumps({"config": str(output), **_found(look, entries), "next": commands}) + "\n")
        return
    table = Table(show_header=False)
    for kind, text in _rows(look, entries):
        table.add_row(kind, text)
    Terminal().print(table)
    sys.stdout.write(f"wrote {output}; go on with\n" + "".join(f"  {command}\n" for command in commands))


def check_new(output: Path) -> None:
    """Raise `InputError` for a file that is there, or cannot be written."""
    if os.path.lexists(output):
        raise InputError(f"output={output}: is there already and is not overwritten; give another name, or remove it")
    check_output(output)


def write_new(output: Path, text: str) -> None:
    """Whole or not at all, and never over a file that is there. Raises `InputError`."""
    try:
        with whole_file(output) as draft:
            draft.write_text(text, encoding="utf-8")
            check_new(output)  # which somebody else may have written meanwhile
    except OSError as error:
        raise InputError(f"output={output}: cannot be written ({error.strerror}); give another file") from error


def _rows(look: Look, entries: Sequence[Entry]) -> list[tuple[str, str]]:
    sizes, values = look.sizes, {f"{entry.section}.{entry.key}": entry for entry in entries}
    counts = [f"{label} {count:,}" for label, count in look.counts.items()]
    about = "" if sizes.alike else f", sides from {sizes.shortest_side} to {sizes.longest_side}"
    left_out = look.listing.left_out.text
    budget = values.get("operating_point.escape_budget")
    rows = [
        ("layout", f"{look.layout}, {counted(len(look.listing.table), 'image')}"),
        ("classes", listed(counts, most=12)),
        ("good", listed(look.good) or "none has the name of a good one: kinds of defects only (--good NAME names one)"),
        ("size", f"{sizes.width} × {sizes.height} px{about}; the model sees {values['data.image_size'].value} px"),
        ("groups", _groups(look)),
        ("weights", f"{values['model.backbone'].value}, {values['model.weights'].value}"),
    ]
    if left_out:
        rows.insert(1, ("left out", left_out))
    if budget is not None:
        rows.append(("escape budget", f"{budget.value:.0%}. {budget.comment}"))
    return rows


def _groups(look: Look) -> str:
    found = look.groups
    if found is not None:
        torn = "; the given splits divide some, so the key is left out" if look.torn else ""
        return f"{found.groups:,} parts by the names of the files, such as {found.example}{torn}"
    own = look.listing.table["group"].nunique()
    return f"{own:,}, of the table" if own else "none are named; near duplicates are kept together"


def _found(look: Look, entries: Sequence[Entry]) -> dict[str, Any]:
    sizes = look.sizes
    return {
        "layout": look.layout,
        "images": len(look.listing.table),
        "classes": look.counts,
        "good_labels": list(look.good),
        "width": sizes.width,
        "height": sizes.height,
        "groups": int(look.listing.table["group"].nunique()),
        "settings": {f"{entry.section}.{entry.key}": entry.value for entry in entries if entry.is_active},
        "left_out": look.listing.left_out.text,
        "notes": list(look.notes),
    }
