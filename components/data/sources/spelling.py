"""Labels and groups that differ in their spelling alone: refused, or taken for one, and never silently two."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Literal

import pandas as pd

from components.data.names import look_alikes, normal_path, spelling, told_apart
from components.data.sources.listing import Listing
from components.display import listed
from components.errors import InputError


def settle_spelling(
    listing: Listing, *, good_labels: Sequence[str], labels: Literal["error", "merge", "keep"]
) -> Listing:
    """The listing with one spelling of each label and group, and what was done in its notes.

    labels: what to do with labels that differ only in case, blanks, Unicode form or alphabet: stop, make them one class
    (spelt as in good_labels, else as most images have it), or leave them apart. Groups are always joined: a part that
    is in train under one spelling must not be in test under another. Files of one name stay apart, and are told.
    Raises InputError: labels that look alike under "error".
    """
    table, notes = listing.table, []
    alike = look_alikes(table["label"])
    if alike and labels == "error":
        raise InputError(
            f"data.source: labels that look alike would be different classes ({_listed(map(_counted, alike))}); "
            "correct the labels, or set data.label_spelling to merge (one class) or keep (different classes)"
        )
    if labels == "merge":
        label, changed = _in_one_spelling(table["label"], first=good_labels)
        table, notes = table.assign(label=label), _told("Labels", changed)
    elif alike:
        notes = [f"Labels that look alike stay different classes: {_listed(map(_counted, alike))}."]
    group, changed = _in_one_spelling(table["group"], first=())
    if changed:
        table, notes = table.assign(group=group), notes + _told("Groups", changed)
    twice = _names_twice(table["path"])
    if twice:
        notes.append(
            "Files whose names differ in blanks, invisible characters or Unicode form alone count as images of their "
            f"own: {_listed(twice)}."
        )
    return replace(listing, table=table, notes=(*listing.notes, *notes))


def _in_one_spelling(
    names: Iterable[str | None], *, first: Sequence[str]
) -> tuple[pd.Series, Counter[tuple[str, str]]]:
    """The names in the spelling of `first` where it has one, else in the most frequent; what became what, how often."""
    counts = Counter(name for name in names if name is not None)
    chosen: dict[str, str] = {}
    for name in [*first, *sorted(counts, key=lambda name: (-counts[name], name))]:
        chosen.setdefault(spelling(name), name)
    forms = {name: chosen[spelling(name)] for name in counts}
    changed = Counter({(old, new): counts[old] for old, new in forms.items() if old != new})
    return pd.Series([None if name is None else forms[name] for name in names], dtype=object), changed


def _names_twice(paths: Iterable[str]) -> list[str]:
    """The normal forms that several of these paths have."""
    forms = Counter(form for path in paths if (form := normal_path(path)) != path)
    if not forms:
        return []
    there = set(paths)
    return [form for form, count in forms.items() if count > 1 or form in there]


def _told(what: str, changed: Counter[tuple[str, str]]) -> list[str]:
    texts = [f"{' as '.join(told_apart(old, new))} ({count:,})" for (old, new), count in changed.most_common()]
    return [f"{what} that look alike count as one: {_listed(texts)}."] if texts else []


def _counted(group: Counter[str]) -> str:
    names, counts = zip(*group.most_common(), strict=True)
    return ", ".join(f"{name} {count:,}" for name, count in zip(told_apart(*names), counts, strict=True))


def _listed(texts: Iterable[str]) -> str:
    return listed(list(texts), separator="; ")
