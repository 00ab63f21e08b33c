"""What frozen features tell: at the terminal, in MLflow's run, and as embed.html."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import pandas as pd

from components.display import counted, shortened
from components.report.figures_embedding import candidates_figure
from components.report.galleries import gallery
from components.report.html import Section
from pipeline.console import duration
from pipeline.reports.data import tail
from pipeline.reports.page import DASH, decimal, file_safe, first_rows, terminal_table, write_page

if TYPE_CHECKING:
    from components.data.pack.reader import Pack
    from pipeline.embedding.hints import Hints
    from pipeline.stage import StageContext

MOST_PICTURES, MOST_ROWS = 24, 50
PAGE = "embed.html"


def report_embedding(context: StageContext, record: Mapping[str, Any], hints: Hints, pack: Pack) -> None:
    """Say how the candidates rank and what is doubtful; write embed.html, log tables and scores.

    record: what embedding.json holds. pack: pixels by pack_index.
    """
    console, candidates = context.console, record["candidates"]
    metric = record["objective"].replace("_", " ")
    console.table(
        terminal_table(f"Frozen features, {metric}; ms to serve an image, estimated s to train", *_rows(record))
    )
    for line in [*_verdicts(record), *record["notes"]]:
        console.say(f"  {line}")
    for warning in record["warnings"]:
        console.warn(warning)
    if len(hints.doubtful) or len(hints.outliers):
        console.say(
            f"  {counted(len(hints.doubtful), 'doubtful label')}, {counted(len(hints.outliers), 'outlier')}: "
            f"{context.directory / PAGE}"
        )
    for one in candidates:
        name = file_safe(f"{one['backbone']}_{one['image_size']}")
        context.run.log_metrics({f"frozen_{name}": one["score"], f"frozen_ms_{name}": one["serve_ms"]})
    context.run.log_table(_table(record), "tables/candidates.json")
    write_page(
        context,
        PAGE,
        title="Frozen features",
        subtitle=_said_of_images(record),
        headline=_headline(record, hints),
        sections=[_candidates(record), _doubtful(hints, pack), _outliers(hints, pack)],
    )
    for name in (PAGE, "embedding.json", "doubtful.csv", "outliers.csv"):
        context.run.log_artifact(context.directory / name)


def _rows(record: Mapping[str, Any]) -> tuple[Sequence[str], list[tuple[Sequence[str], str]]]:
    columns = ("backbone", "px", "score", "interval", "ms", "s/epoch")
    rows: list[tuple[Sequence[str], str]] = []
    for one in record["candidates"]:
        cells = (
            one["backbone"],
            str(one["image_size"]),
            decimal(one["score"]),
            DASH if one["low"] is None else f"{one['low']:.3f} … {one['high']:.3f}",
            decimal(one["serve_ms"], 1),
            f"~{one['epoch_seconds']:.0f}",
        )
        rows.append((cells, "" if record["backbones"][one["backbone"]]["kept"] else "dim"))
    return columns, rows


def _verdicts(record: Mapping[str, Any]) -> list[str]:
    """Which of several backbones go on, a line each."""
    verdicts = record["backbones"].items()
    if len(verdicts) < 2:
        return []
    return [f"{name} {'goes on' if one['kept'] else 'is dropped'}: {one['reason']}" for name, one in verdicts]


def _table(record: Mapping[str, Any]) -> pd.DataFrame:
    kept = record["backbones"]
    return pd.DataFrame(
        [
            {
                "backbone": one["backbone"],
                "px": one["image_size"],
                record["objective"].replace("_", " "): decimal(one["score"]),
                "95 % interval": DASH if one["low"] is None else f"{decimal(one['low'])} to {decimal(one['high'])}",
                record["separation"].replace("_", " "): decimal(one["separation"]),
                "ms/image": decimal(one["serve_ms"], 1),
                "s/epoch": decimal(one["epoch_seconds"], 0),
                "goes on": f"{'yes' if kept[one['backbone']]['kept'] else 'no'}: {kept[one['backbone']]['reason']}",
            }
            for one in record["candidates"]
        ]
    )


def _said_of_images(record: Mapping[str, Any]) -> str:
    images = f"{record['images']:,} images"
    if record["images"] < record["available"]:
        images = f"{record['images']:,} of {record['available']:,} images, whole groups by class (embed.max_images)"
    if record["folds"]:
        scored = f"{images}; scored out of fold, {record['folds']} folds of whole groups"
        part = (
            "" if record["compared"] == record["images"] else f"; compared on the first, {record['compared']:,} images"
        )
        return f"{scored}{part}. No image of the test split."
    return f"{images}; learned on train, compared on val. No image of the test split."


def _headline(record: Mapping[str, Any], hints: Hints) -> list[tuple[str, str, str]]:
    best = record["best"]
    passes = [*record["candidates"], *([best] if len(best["views"]) > 1 else [])]
    within = "" if best["low"] is None else f"{decimal(best['low'])} to {decimal(best['high'])}"
    return [
        ("Best", f"{best['image_size']} px", f"{best['backbone']}, {counted(len(best['views']), 'view')}"),
        (record["objective"].replace("_", " "), decimal(best["score"]), within),
        ("One image", f"{best['serve_ms']:.1f} ms", "from pixels to features"),
        ("Embedding", duration(sum(one["seconds"] for one in passes)), "all candidates"),
        ("Doubtful labels", f"{len(hints.doubtful)}", f"{counted(len(hints.outliers), 'outlier')}"),
    ]


def _candidates(record: Mapping[str, Any]) -> Section:
    text = (
        "Each backbone sees the images with its weights as they come. A linear classifier on the pooled features of "
        "its last layers is fitted to some of the groups and scored on others. It is the first model, it ranks the "
        "backbones and image sizes before anything is trained, and its last layer is where fine-tuning starts.\n\n"
        "ms/image: one image at a time, from its pixels to the features, on the machine and threads that embedded. "
        "s/epoch: of a training on all images that are not test, estimated as three times the time of embedding."
    )
    figures = []
    if len(record["candidates"]) > 1:
        figure = candidates_figure(record["candidates"], metric_name=record["objective"].replace("_", " "))
        figures.append(("Candidates: score against the cost of an image.", figure))
    return Section(
        "Backbones and sizes",
        text,
        tables=[("The best first", _table(record))],
        figures=figures,
        notes=[*record["warnings"], *record["notes"]],
    )


def _doubtful(hints: Hints, pack: Pack) -> Section:
    if hints.doubtful.empty:
        return Section("Doubtful labels", "The classifier confidently contradicts no label.")
    text = (
        "Images on which a classifier that has not seen them is as sure of another class as it is on images of that "
        "class (confident learning, Northcutt et al. 2021), the most doubtful first. A hint, not a verdict: a small "
        "defect may be missed by features that nobody has trained for it."
    )
    shown = hints.doubtful.head(MOST_PICTURES)
    captions = [
        f"labelled {shortened(label, 15)}\nrather {shortened(other, 17)}\n{tail(name, 22)}"
        for name, label, other in shown[["image_id", "label", "suggested"]].itertuples(index=False, name=None)
    ]
    caption = "Doubtful labels: the label, and the class that the classifier is sure of."
    return _hints(
        "Doubtful labels",
        text,
        hints.doubtful,
        captions,
        pack,
        order="most doubtful",
        caption=caption,
        file="doubtful.csv",
    )


def _outliers(hints: Hints, pack: Pack) -> Section:
    if hints.outliers.empty:
        return Section("Outliers", "No image lies far from all others.")
    text = (
        "Images far from their nearest neighbours of other groups in the space of the features: another part, a fault "
        "of the camera, or a defect that is there once. z: robust standard deviations above the median distance."
    )
    shown = hints.outliers.head(MOST_PICTURES)
    captions = [
        f"{shortened(label, 18)}, z {z:.1f}\n{tail(name, 22)}"
        for name, label, z in shown[["image_id", "label", "z"]].itertuples(index=False, name=None)
    ]
    caption = "Outliers: the label, and how far off."
    return _hints(
        "Outliers", text, hints.outliers, captions, pack, order="farthest", caption=caption, file="outliers.csv"
    )


def _hints(
    title: str, text: str, found: pd.DataFrame, captions: list[str], pack: Pack, *, order: str, caption: str, file: str
) -> Section:
    """Images to look at, with their table. captions: of the first ones, whose pictures are shown."""
    heading = f"The {order} first: {len(captions)} of {counted(len(found), 'image')}"
    pictures = gallery([pack[int(index)] for index in found["pack_index"].head(len(captions))], captions, heading)
    table = first_rows(title, found.drop(columns="pack_index"), MOST_ROWS, file)
    return Section(title, text, tables=[table], figures=[(caption, pictures)])
