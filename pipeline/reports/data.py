"""The data report: what an inspection engineer has to know about the images before a model is trained on them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from components.data.manifest import classes_of
from components.report.figures_data import split_counts
from components.report.galleries import augmentation_grid, sample_grid
from components.report.html import Section, render_report
from pipeline.data.findings import (
    DataFindings,
    counted,
    files_of,
    fold_table,
    near_duplicate_groups,
    split_table,
    warnings_of,
)
from pipeline.reports.data_chapters import MOST_ROWS, audit_chapters, limited
from pipeline.reports.data_galleries import cut

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
    chapters = [
        _first_looks(findings),
        _splits(findings),
        _samples(findings, pack),
        *audit_chapters(findings, pack),
        _augmentation(augmented),
        _faults(findings),
    ]
    for chapter in chapters:
        for caption, figure in chapter.figures:
            context.log_figure(figure, f"figures/{_slug(caption)}.png")
    html = render_report(
        title="Data report",
        subtitle=findings.listing_description,
        headline=_headline(findings),
        sections=chapters,
    )
    (context.directory / "data_report.html").write_text(html, encoding="utf-8")


def _headline(findings: DataFindings) -> list[tuple[str, str, str]]:
    manifest, near, probe = findings.manifest, findings.near, findings.probe
    names = classes_of(manifest)
    tiles = [
        ("Images", f"{len(manifest):,}", f"{manifest['group'].nunique():,} groups"),
        ("Classes", str(len(names)), cut(", ".join(names), 60)),
        (
            "Near-duplicate groups",
            "–" if near is None else f"{near_duplicate_groups(findings):,}",
            "not looked for" if near is None else f"{counted(len(near.pairs), 'pair')}; kept in one split",
        ),
        ("Quarantined", f"{len(findings.quarantine):,}", "files that cannot be used"),
    ]
    if probe is not None and probe.overstatement is not None:
        points = f"{100 * probe.overstatement:+.1f}".replace("-", "−")
        hint = "points of accuracy that it would overstate" if probe.leaks else "points: cannot be told from none"
        tiles.append(("Random split", points, hint))
    return tiles


def _first_looks(findings: DataFindings) -> Section:
    warnings = warnings_of(findings)
    text = "The worst first; the chapters below show each." if warnings else "Nothing suspicious was found."
    return Section("What to look at first", text, notes=warnings)


def _splits(findings: DataFindings) -> Section:
    manifest = findings.manifest
    counts, folds, metadata = split_table(manifest), fold_table(manifest), _metadata_table(manifest)
    tables = [("Images per class and split", _named(counts, "class"))]
    if folds.shape[1]:
        tables.append(("Images per class and fold, within train and val", _named(folds.add_prefix("fold "), "class")))
    text = ["Groups never cross a split or a fold.", *findings.notes]
    if len(metadata):
        tables.append(limited("Images per metadata and split", metadata, MOST_ROWS, "manifest.parquet"))
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
            others = rest.sum().to_frame(f"{len(rest):,} others").T
            counts = pd.concat([counts.iloc[:MOST_VALUES], others])
        block = counts.reset_index(names="value")
        block.insert(0, "metadata", column.removeprefix("meta_"))
        blocks.append(block)
    return pd.concat(blocks, ignore_index=True) if blocks else pd.DataFrame()


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
        tables=[limited("What the files are", table, MOST_KINDS, "statistics.parquet")],
    )


def _spread(count: int, most: int) -> list[int]:
    """Places of at most so many, evenly spread."""
    return np.unique(np.linspace(0, count - 1, min(count, most)).astype(int)).tolist()


def _augmentation(augmented: Sequence[Sequence[np.ndarray]]) -> Section:
    text = (
        "What a training may see of an image. A defect has to stay one in each version: where it does not, lower "
        "recipe.augment_strength, or take the step that does it out of recipe.augment."
    )
    return Section(
        "Augmentation",
        text,
        figures=[
            ("Augmentation: a row per image, the stronger the further to the right.", augmentation_grid(augmented))
        ],
    )


def _faults(findings: DataFindings) -> Section:
    files = files_of(findings)
    pages = files.loc[files["frames"] > 1, ["path", "frames"]].rename(columns={"frames": "pages"})
    turned = int((files["orientation"] > 1).sum())
    text, tables = [], []
    if turned:
        text.append(f"{counted(turned, 'file')} turned upright, as their EXIF orientation says.")
    if len(pages):
        text.append(f"{counted(len(pages), 'file')} of several pages or frames: the first of each was taken.")
        tables.append(limited("Files of several pages", pages, MOST_ROWS, "statistics.parquet"))
    if len(findings.quarantine):
        text.append(f"{counted(len(findings.quarantine), 'file')} set aside; no image of them is in the data set.")
        tables.insert(0, limited("Files set aside", findings.quarantine, MOST_ROWS, "quarantine.csv"))
    return Section("Faults", "\n\n".join(text) or "None was found.", tables=tables)


def _named(table: pd.DataFrame, name: str) -> pd.DataFrame:
    return table.rename_axis(index=name, columns=None)


def _slug(caption: str) -> str:
    """The name that a caption begins with, as a file's."""
    return caption.partition(":")[0].lower().replace(" ", "_")
