"""What every source hands on: the files of a root folder, and a table of labelled images among them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from components.addresses import redact
from components.data.files import Files
from components.data.image_files import LeftOut
from components.errors import InputError


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
    where there is none; then meta_<name> columns of text; sorted by path, with a range index. description: one line
    for reports, with what was left out. notes: what the user should know of how the source was read, a sentence each.
    left_out: files and folders that lie beside the images.
    """

    files: Files
    table: pd.DataFrame
    description: str
    notes: tuple[str, ...] = ()
    left_out: LeftOut = field(default_factory=LeftOut)


def make_listing(
    files: Files,
    *,
    path: Sequence[str],
    label: Sequence[str],
    group: Sequence[str | None] | None,
    split: Sequence[str | None] | None,
    mask: Sequence[str | None] | None,
    metadata: Mapping[str, Sequence[str | None]],
    description: str,
    notes: Sequence[str] = (),
    left_out: LeftOut | None = None,
) -> Listing:
    """Assemble and sort the table. Raises InputError for a path that text cannot hold."""
    none = [None] * len(path)
    columns: dict[str, Sequence[str | None]] = {
        "path": path,
        "label": label,
        "group": none if group is None else group,
        "split": none if split is None else split,
        "mask": none if mask is None else mask,
    }
    columns |= {f"meta_{name}": values for name, values in metadata.items()}
    _refuse_undecodable_names(files, [*path, *label, *(name for name in mask or () if name is not None)])
    table = pd.DataFrame({name: pd.Series(list(cells), dtype=object) for name, cells in columns.items()})
    left_out = left_out or LeftOut()
    return Listing(
        files=files,
        table=table.sort_values("path", ignore_index=True),
        description=f"{description}; left out: {left_out.text}" if left_out.text else description,
        notes=tuple(notes),
        left_out=left_out,
    )


def refuse_table_options(source: str, options: SourceOptions, *, group: str | None, metadata: tuple[str, ...]) -> None:
    """Raise InputError when options ask a source without a table of the user's for columns it has not."""
    faults = []
    if options.group_column not in (None, group):
        faults.append(f"data.group_column={options.group_column!r}")
    if options.split_column is not None:
        faults.append(f"data.split_column={options.split_column!r}")
    if options.mask_column is not None:
        faults.append(f"data.mask_column={options.mask_column!r}")
    if not set(options.metadata_columns) <= set(metadata):
        faults.append(f"data.metadata_columns={list(options.metadata_columns)}")
    if options.root is not None:
        faults.append(f"data.root={redact(options.root)!r}")
    if faults:
        columns = ", ".join([*([group] if group else []), *metadata]) or "none"
        raise InputError(
            f"{', '.join(faults)}: not with data.source={redact(source)!r}, whose columns are: {columns}; "
            "leave these keys out, or list the images in a table (csv:… or parquet:…)"
        )


def _refuse_undecodable_names(files: Files, names: Sequence[str]) -> None:
    for name in names:
        try:
            name.encode()
        except UnicodeEncodeError as error:
            raise InputError(
                f"data.source: the file name {name!r} in {files.name} is not valid UTF-8; rename the file"
            ) from error
