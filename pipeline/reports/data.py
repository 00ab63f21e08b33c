"""The data report: what an inspection engineer has to know about the images before a model is trained on them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from components.data.manifest import classes_of
from components.display import counted, shortened
from components.report.galleries import (
    augmentation_grid,
    groups_gallery,
    pairs_gallery,
    sample_grid,
    split_counts,
)
from components.report.html import Section
from pipeline.data.findings import (
    DataFindings,
    exact_duplicates,
    files_of,
    fold_table,
    joined,
    near_duplicate_groups,
    shown_images,
    split_table,
    warnings_of,
)
from pipeline.reports.page import DASH, decimal, first_rows, share, write_page

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from components.data.pack.reader import Pack
    from pipeline.stage import StageContext

SAMPLES_PER_CLASS, MOST_SAMPLED = 8, 24
"""Pictures of a class, and classes of which there are some."""
MOST_KINDS = 10
"""Rows of the table of sizes and modes."""
MOST_VALUES = 8
"""Values of a metadata column that get a row of their own."""
MOST_ROWS = 50
"""Rows of a table; the rest is in the artifact that a sentence names."""
MOST_PICTURES = 24
"""Pairs or single images in a gallery."""
MOST_GROUPS = 8
"""Rows of a gallery of groups, and pictures in a row."""


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
            *_audit_chapters(findings, pack),
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
        tables.append(("Images per class and fold", folds))
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


def _audit_chapters(findings: DataFindings, pack: Pack) -> list[Section]:
    """One for each subject, in the order in which they are worth reading."""
    chapters = [_duplicates(findings, pack)]
    if findings.audited:
        chapters += [_leakage(findings), _shortcuts(findings)]
    chapters.append(_conflicts(findings, pack))
    if findings.audited:
        return chapters
    return [*chapters, Section("Leakage, shortcuts", "Not looked for: data.audit is off.")]


def _duplicates(findings: DataFindings, pack: Pack) -> Section:
    near = findings.near
    copies = exact_duplicates(findings.manifest)
    text = [f"{counted(copies, 'byte-identical copy', 'byte-identical copies')}." if copies else "No file is a copy."]
    figures = []
    if near is None:
        text.append("Images that are only nearly the same were not looked for (data.near_duplicates: off).")
    else:
        text.append(near.note)
        if len(near.pairs):
            text.append("In the gallery the least alike come first: if those are duplicates, all are.")
            figures.append(
                ("Pairs: correlation and symmetry, then label and name of both images.", _pairs_figure(findings, pack))
            )
    if len(findings.largest_groups):
        figures.append(
            ("Largest groups: up to eight images of each; labels where they differ.", _largest_figure(findings, pack))
        )
    else:
        text.append("No group has more than one image.")
    return Section("Duplicates and groups", "\n\n".join(text), figures=figures)


def _leakage(findings: DataFindings) -> Section:
    probe = findings.probe
    if probe is None:
        return Section("Leakage", "Not probed.")
    if probe.random_interval is None or probe.grouped_interval is None:
        return Section("Leakage", probe.statement)
    text = (
        f"{probe.statement}\n\nEach of {probe.images:,} images gets the label of the image most like it in the other "
        "folds: once with folds drawn at random, once with folds that keep groups whole. What the first has over the "
        "second is memory, not recognition."
    )
    rows = [
        ("random", probe.random_accuracy, probe.random_interval),
        ("keeping groups whole", probe.grouped_accuracy, probe.grouped_interval),
    ]
    table = pd.DataFrame(
        [(folds, share(accuracy), f"{share(low)} to {share(high)}") for folds, accuracy, (low, high) in rows],
        columns=["folds", "accuracy", "95 % interval"],
    )
    return Section("Leakage", text, tables=[("Accuracy of the most similar image's label", table)])


def _shortcuts(findings: DataFindings) -> Section:
    text = (
        "A model uses whatever separates the classes. Where something other than the part does, such as the file's "
        "format or the time of day, the results on a test split are good and those on the line are not. Each cue is "
        "tried alone, under folds that keep groups whole; the score is that of the class that it separates best."
    )
    table = pd.DataFrame(
        [
            {
                "cue": cue.name.replace(" ", "\u00a0"),
                "score": share(cue.score) if cue.label else None,
                "95 % interval": f"{share(cue.low)} to {share(cue.high)}" if cue.label else None,
                "what it says": cue.statement,
            }
            for cue in findings.shortcuts
        ]
    )
    return Section("Shortcuts", text, tables=[("Balanced accuracy of each cue alone; chance is 50 %", table)])


def _conflicts(findings: DataFindings, pack: Pack) -> Section:
    conflicts = findings.conflicts
    if conflicts.empty:
        return Section("Conflicting labels", "No two images that show the same thing carry different labels.")
    table = pd.DataFrame(
        {
            "kind": conflicts["kind"],
            "labels": conflicts["labels"].map(lambda labels: joined(sorted(set(labels)))),
            "images": conflicts["image_ids"].map(lambda names: cut(joined(names), 200)),
        }
    )
    text = (
        "The images of a set show the same thing and carry different labels. Where they are identical, a label is "
        "wrong; of near duplicates, a defect too small for their thumbnails may be all that differs. "
        "data.label_conflicts says whether they are kept, dropped, or stop the run."
    )
    return Section(
        "Conflicting labels",
        text,
        tables=[first_rows("Sets of images", table, MOST_ROWS, "label_conflicts.csv")],
        figures=[("Conflicts: label and name of each image.", _conflicts_figure(findings, pack))],
    )


def _pairs_figure(findings: DataFindings, pack: Pack) -> Figure:
    """Pairs of near duplicates, the least alike first. There must be at least one."""
    assert findings.near is not None
    pairs, known = findings.near.pairs, shown_images(findings)
    shown = pairs.sort_values("correlation", kind="stable").head(MOST_PICTURES)
    images, captions = [], []
    for pair in shown.to_dict("records"):
        places = [int(pair[side]) for side in ("first", "second")]
        images.append((pack[places[0]], pack[places[1]]))
        names = [f"{shortened(label, 12)}: {tail(image, 24)}" for image, label in known.loc[places].to_numpy()]
        captions.append("\n".join([f"{pair['correlation']:.3f}, {pair['symmetry']}", *names]))
    return pairs_gallery(images, captions, f"The least alike first: {len(shown):,} of {counted(len(pairs), 'pair')}")


def _largest_figure(findings: DataFindings, pack: Pack) -> Figure:
    """A row for each of the largest groups; captions only where the images that are shown differ in their labels."""
    rows, names, captions = [], [], []
    for group in findings.largest_groups.head(MOST_GROUPS).to_dict("records"):
        members = findings.manifest[findings.manifest["group"] == group["group"]]
        shown = members.head(MOST_GROUPS)
        rows.append([pack[int(index)] for index in shown["pack_index"]])
        mixed = members["label"].nunique() > 1
        captions.append([shortened(label, 16) if mixed else "" for label in shown["label"]])
        names.append(
            f"{tail(group['group'], 40)}: {group['images']:,} images ({cut(group['labels'], 60)}); "
            f"{group['reason']}; in {members['split'].iloc[0]}"
        )
    return groups_gallery(rows, names, captions, "The largest groups")


def _conflicts_figure(findings: DataFindings, pack: Pack) -> Figure:
    """A row for each set of images that show the same thing under different labels."""
    shown = findings.conflicts.head(MOST_GROUPS)
    rows, names, captions = [], [], []
    for conflict in shown.to_dict("records"):
        chosen = one_of_each(conflict["labels"])
        rows.append([pack[int(conflict["pack_index"][place])] for place in chosen])
        texts = [(conflict["labels"][place], conflict["image_ids"][place]) for place in chosen]
        captions.append([f"{shortened(label, 16)}\n{tail(image, 16)}" for label, image in texts])
        labels = cut(", ".join(sorted(set(conflict["labels"]))), 80)
        names.append(f"{conflict['kind']}, {len(conflict['labels']):,} images: {labels}")
    title = f"Same thing, different labels: {len(shown)} of {counted(len(findings.conflicts), 'set')}"
    return groups_gallery(rows, names, captions, title)


def one_of_each(labels: Sequence[str]) -> list[int]:
    """Places of the images to show: the first of each label, then the others, as many as fit."""
    first = [list(labels).index(label) for label in dict.fromkeys(labels)]
    return [*first, *(place for place in range(len(labels)) if place not in first)][:MOST_GROUPS]


def cut(text: str, width: int) -> str:
    """The beginning of a name that is too long."""
    return text if len(text) <= width else text[: width - 1] + "…"


def tail(text: str, width: int) -> str:
    """The end of a path that is too long: there it differs from others."""
    return text if len(text) <= width else "…" + text[-(width - 1) :]
