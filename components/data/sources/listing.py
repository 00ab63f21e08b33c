"""What every source hands on: the files of a root folder, and a table of labelled images among them."""

import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from components.data.files import Files
from components.data.image_files import LeftOut
from components.data.names import normal_form
from components.display import listed
from components.errors import InputError, redact


@dataclass(frozen=True, kw_only=True)
class SourceOptions:
    """How to read a source; built from the config's data section."""

    path_column: str
    label_column: str
    group_column: str | None
    """Images with the same value belong together (part, board, lot) and never cross a split."""
    split_column: str | None
    mask_column: str | None
    """Path of a picture that is not black where the defect is, of the image's size; relative to the same root."""
    confidence_column: str | None
    """The probability that the label is right; empty: 1."""
    metadata_columns: tuple[str, ...]
    root: str | None
    """Folder or address that a table's paths are relative to; None: the table's own folder."""
    defect_threshold: float
    """elpv: an image whose defect probability is at least this is defective."""
    cache_dir: Path
    """Where `generated:` may put its images."""


@dataclass(frozen=True)
class Listing:
    """Labelled images that are not read yet.

    table: path (posix, relative to the root, unique), label; group, split and mask (a path like the image's), None
    where there is none; confidence, in [0, 1], where the labels have one; then meta_<name> columns of text; sorted by
    path, with a range index. description: one line for reports, with what was left out. notes: what the user should
    know of how the source was read, a sentence each. left_out: files and folders that lie beside the images.
    """

    files: Files
    table: pd.DataFrame
    description: str
    notes: tuple[str, ...] = ()
    left_out: LeftOut = field(default_factory=LeftOut)


def make_listing(
    files: Files,
    columns: Mapping[str, Sequence[str | None] | None],
    *,
    confidences: Sequence[float] | None = None,
    description: str,
    notes: Sequence[str] = (),
    left_out: LeftOut | None = None,
) -> Listing:
    """Assemble and sort the table: labels, groups, splits and metadata in their normal form, paths as they are.

    columns: path, label, and what the source has of the other columns of text of a listing; None for what it has not.
    confidences: in [0, 1], of each label.

    Raises InputError: a path that text cannot hold, labels of which nothing is visible.
    """
    given = {name: values for name, values in columns.items() if values is not None}
    none: Sequence[str | None] = [None] * len(given["path"])
    path, mask = given.pop("path"), given.pop("mask", none)
    read = {"label": none, "group": none, "split": none} | given
    for name in (*path, *read["label"], *mask):
        try:
            (name or "").encode()
        except UnicodeEncodeError as error:
            raise InputError(
                f"data.source: the file name {name!r} in {files.name} is not valid UTF-8; rename the file"
            ) from error
    named = {name: _in_normal_form(values) for name, values in read.items()}
    blank = [place for place, name in zip(path, named["label"], strict=True) if name is None]
    if blank:
        raise InputError(
            f"data.source: {len(blank)} images have a label of which nothing is visible (the first: {blank[0]})"
        )
    table = pd.DataFrame({"path": path, **named, "mask": mask}, dtype=object)
    metadata = [name for name in named if name.startswith("meta_")]
    if confidences is not None:
        table["confidence"] = np.asarray(confidences, dtype=np.float64)
        metadata.insert(0, "confidence")
    table = table[["path", "label", "group", "split", "mask", *metadata]]
    left_out = left_out or LeftOut()
    return Listing(
        files=files,
        table=table.sort_values("path", ignore_index=True),
        description=f"{description}; left out: {left_out.text}" if left_out.text else description,
        notes=(*notes, *_changes(read, named)),
        left_out=left_out,
    )


def refuse_table_options(
    source: str,
    options: SourceOptions,
    *,
    group: str | None,
    metadata: tuple[str, ...],
    confidence: str | None,
) -> None:
    """Raise InputError when options ask a source without a table of the user's for columns it has not."""
    faults = []
    if options.group_column not in (None, group):
        faults.append(f"data.group_column={options.group_column!r}")
    if options.split_column is not None:
        faults.append(f"data.split_column={options.split_column!r}")
    if options.mask_column is not None:
        faults.append(f"data.mask_column={options.mask_column!r}")
    if options.confidence_column not in (None, confidence):
        faults.append(f"data.confidence_column={options.confidence_column!r}")
    if not set(options.metadata_columns) <= set(metadata):
        faults.append(f"data.metadata_columns={list(options.metadata_columns)}")
    if options.root is not None:
        faults.append(f"data.root={redact(options.root)!r}")
    if faults:
        columns = ", ".join(filter(None, [group, *metadata, confidence])) or "none"
        raise InputError(
            f"{', '.join(faults)}: not with data.source={redact(source)!r}, whose columns are: {columns}; "
            "leave these keys out, or list the images in a table (csv:… or parquet:…)"
        )


def _in_normal_form(names: Sequence[str | None]) -> list[str | None]:
    """Each name in its normal form, None where nothing of it is visible."""
    forms = {name: normal_form(name) or None for name in set(names) if name is not None}
    return [None if name is None else forms[name] for name in names]


def _changes(read: Mapping[str, Sequence[str | None]], named: Mapping[str, Sequence[str | None]]) -> list[str]:
    """A sentence for each kind of name that was not in its normal form, and in what.

    Blanks around a name are told of only where it stands without them, too: behind every comma they are a habit.
    """
    notes = []
    for kind, names in named.items():
        plain = set(read[kind])
        changed, faults = Counter[str](), set[str]()
        for (old, new), count in Counter(zip(read[kind], names, strict=True)).items():
            if old is None or new is None or old == new or (old.strip() == new and new not in plain):
                continue
            changed[new] += count
            faults.add(_fault(old, new))
        if changed:
            shown = listed([f"{name} {count:,}" for name, count in changed.most_common()])
            notes.append(
                f"The {kind.removeprefix('meta_')} of {changed.total():,} images had {' or '.join(sorted(faults))}; "
                f"read as: {shown}."
            )
    return notes


def _fault(old: str, new: str) -> str:
    if old.strip() == new:
        return "blanks around it"
    return "another Unicode form" if unicodedata.normalize("NFC", old).strip() == new else "invisible characters"
