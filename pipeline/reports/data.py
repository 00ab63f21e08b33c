"""The data report: what an inspection engineer has to know about the images before a model is trained on them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from components.data.manifest import classes_of
from components.display import counted
from components.report.figures_data import split_counts
from components.report.galleries import augmentation_grid, sample_grid
from components.report.html import Section
from pipeline.data.findings import (
    DataFindings,
    files_of,
    fold_table,
    near_duplicate_groups,
    split_table,
    warnings_of,
)
from pipeline.reports.data_chapters import MOST_ROWS, audit_chapters
from pipeline.reports.data_galleries import cut
from pipeline.reports.page import DASH, decimal, first_rows, write_page

if TYPE_CHECKING:
    from components.data.pack.reader import Pack
    from pipeline.stage import StageContext

SAMPLES_PER_CLASS, MOST_SAMPLED = 8, 24
"""Pictures of a class, and classes of which there are some."""
MOST_KINDS = 10
"""Rows of the table of sizes and modes."""
MOST_VALUES = 8
"""Values of a metadata column that get a row of their own."""


def write_data_report(
    context: StageContext, findings: DataFindings, pack: Pack, *, augmented: Sequence[Sequence[np.ndarray]]
) -> None:
    """Write data_report.html, and log its figures to MLflow.

    augmented: per image a row of (S, S, 3) uint8: the image, then versions of it of rising strength.
    """
    warnings = warnings_of(findings)
    looks = "The worst first; the chapters below show each." if warnings else "Nothing suspicious was found."
    write_page(
        context,
        "data_report.html",
        title="Data report",
        subtitle=findings.listing_description,
        headline=_headline(findings),
        sections=[
            Section("What to look at first", looks, notes=warnings),
            _splits(findings),
            _samples(findings, pack),
            *audit_chapters(findings, pack),
            Section(
                "Augmentation",
                "What a training may see of an image. A defect has to stay one in each version: where it does not, "
                "lower recipe.augment_strength, or take the step that does it out of recipe.augment.",
                figures=[("Augmentation: a row per image, the stronger to the right.", augmentation_grid(augmented))],
            ),
            _faults(findings),
        ],
    )


def _headline(findings: DataFindings) -> list[tuple[str, str, str]]:
    manifest, near, probe = findings.manifest, findings.near, findings.probe
    names = classes_of(manifest)
    tiles = [
        ("Images", f"{len(manifest):,}", f"{manifest['group'].nunique():,} groups"),
        ("Classes", str(len(names)), cut(", ".join(names), 60)),
        (
            "Near-duplicate groups",
            DASH if near is None else f"{near_duplicate_groups(findings):,}",
            "not looked for" if near is None else f"{counted(len(near.pairs), 'pair')}; kept in one split",
        ),
        ("Quarantined", f"{len(findings.quarantine):,}", "files that cannot be used"),
    ]
    if probe is not None and probe.overstatement is not None:
        hint = "points of accuracy that it would overstate" if probe.leaks else "points: cannot be told from none"
        tiles.append(("Random split", decimal(100 * probe.overstatement, 1, sign="+"), hint))
    return tiles


def _splits(findings: DataFindings) -> Section:
    manifest = findings.manifest
    counts, folds, metadata = split_table(manifest), fold_table(manifest), _metadata_table(manifest)
    tables = [("Images per class and split", counts.rename_axis(index="class", columns=None))]
    if folds.shape[1]:
        folds = folds.add_prefix("fold ").rename_axis(index="class", columns=None)
        tables.append(("Images per class and fold, within train and val", folds))
    text = ["Groups never cross a split or a fold.", *findings.notes]
    if len(metadata):
        tables.append(first_rows("Images per metadata and split", metadata, MOST_ROWS, "manifest.parquet"))
    return Section(
        "Splits",
        "\n\n".join(text),
        tables=tables,
        figures=[("Splits: whole groups, drawn per class.", split_counts(counts))],
    )


def _metadata_table(manifest: pd.DataFrame) -> pd.DataFrame:
    """Columns metadata, value and one per split; the rarer values of a column in one row."""
    blocks = []
    for column in (name for name in manifest.columns if name.startswith("meta_")):
        counts = split_table(manifest.assign(label=manifest[column].fillna("(none)")))
        counts = counts.loc[counts.sum(axis=1).sort_values(ascending=False, kind="stable").index]
        rest = counts.iloc[MOST_VALUES:]
        if len(rest) > 1:
            counts = pd.concat([counts.head(MOST_VALUES), rest.sum().to_frame(f"{len(rest):,} others").T])
        blocks.append(counts.reset_index(names="value").assign(metadata=column.removeprefix("meta_")))
    if not blocks:
        return pd.DataFrame()
    table = pd.concat(blocks, ignore_index=True)
    return table[["metadata", *table.columns.drop("metadata")]]


def _samples(findings: DataFindings, pack: Pack) -> Section:
    names = classes_of(findings.manifest)
    shown = [names[place] for place in _spread(len(names), MOST_SAMPLED)]
    samples = {}
    for label in shown:
        rows = findings.manifest.loc[findings.manifest["label"] == label, "pack_index"]
        # Spread over the class: its first images are mostly of one part.
        samples[label] = [pack[int(rows.iloc[place])] for place in _spread(len(rows), SAMPLES_PER_CLASS)]
    choice = f", for {len(shown)} of {len(names):,} classes" if len(shown) < len(names) else ""
    files = files_of(findings)
    kinds = files.groupby(["format", "mode", "width", "height"]).size().sort_values(ascending=False, kind="stable")
    table = kinds.rename("files").reset_index()
    return Section(
        "Samples",
        "As the model sees them.",
        figures=[(f"Samples: spread over each class{choice}.", sample_grid(samples))],
        tables=[first_rows("What the files are", table, MOST_KINDS, "statistics.parquet")],
    )


def _spread(count: int, most: int) -> list[int]:
    return [int(place) for place in np.unique(np.linspace(0, count - 1, min(count, most)).astype(int))]


def _faults(findings: DataFindings) -> Section:
    files = files_of(findings)
    pages = files.loc[files["frames"] > 1, ["path", "frames"]].rename(columns={"frames": "pages"})
    turned = int((files["orientation"] > 1).sum())
    text, tables = [], []
    if turned:
        text.append(f"{counted(turned, 'file')} turned upright, as their EXIF orientation says.")
    if len(pages):
        text.append(f"{counted(len(pages), 'file')} of several pages or frames: the first of each was taken.")
        tables.append(first_rows("Files of several pages", pages, MOST_ROWS, "statistics.parquet"))
    if len(findings.quarantine):
        text.append(f"{counted(len(findings.quarantine), 'file')} set aside; no image of them is in the data set.")
        tables.insert(0, first_rows("Files set aside", findings.quarantine, MOST_ROWS, "quarantine.csv"))
    return Section("Faults", "\n\n".join(text) or "None was found.", tables=tables)
