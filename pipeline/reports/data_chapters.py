"""The data report's chapters on what the audit found: duplicates, leakage, shortcuts, labels in doubt."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd

from components.display import counted
from components.report.html import Section
from pipeline.data.findings import DataFindings, exact_duplicates, joined
from pipeline.reports.data_galleries import conflicts_figure, cut, doubtful_figure, largest_figure, pairs_figure
from pipeline.reports.page import first_rows, share

if TYPE_CHECKING:
    from components.data.pack.reader import Pack

MOST_ROWS = 50
"""Rows of a table; the rest is in the artifact that a sentence names."""


def audit_chapters(findings: DataFindings, pack: Pack) -> list[Section]:
    """One for each subject, in the order in which they are worth reading."""
    chapters = [_duplicates(findings, pack)]
    if findings.audited:
        chapters += [_leakage(findings), _shortcuts(findings)]
    chapters.append(_conflicts(findings, pack))
    if findings.audited:
        return [*chapters, _doubtful(findings, pack)]
    return [*chapters, Section("Leakage, shortcuts, doubtful labels", "Not looked for: data.audit is off.")]


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
                ("Pairs: correlation and symmetry, then label and name of both images.", pairs_figure(findings, pack))
            )
    if len(findings.largest_groups):
        figures.append(
            ("Largest groups: up to eight images of each; labels where they differ.", largest_figure(findings, pack))
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
        figures=[("Conflicts: label and name of each image.", conflicts_figure(findings, pack))],
    )


def _doubtful(findings: DataFindings, pack: Pack) -> Section:
    if findings.doubtful.empty:
        return Section("Doubtful labels", "No image disagrees with its neighbours enough to be named.")
    text = (
        "The images whose most similar images mostly carry another label, the most doubtful first. A hint, not a "
        "verdict: a small defect hardly moves what an image looks like as a whole."
    )
    return Section(
        "Doubtful labels",
        text,
        figures=[("Doubtful labels: the label, and that of most neighbours.", doubtful_figure(findings, pack))],
    )
