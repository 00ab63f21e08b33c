"""The trainings behind the delivered model, what it is made of and what it costs: two chapters of the report."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from components.display import counted
from components.report.figures_training import curves_of_member
from components.report.html import Section
from pipeline.reports.page import decimal

WAYS = {"ensemble": "all networks", "single": "one network"}
VIEWS = "Views of an image, on images that the networks had not seen"


def delivery_section(train: Path, deliver: Path) -> Section:
    """What is delivered, from the folders of the stages train and deliver."""
    record = _read(deliver, "delivery.json")
    trained = [one for folder in _with_trainings(train, deliver) for one in _read(folder, "training.json")["members"]]
    members = [one for one in trained if one["name"] in record["networks"]]
    latency = record["latency_ms"]
    limit = "no limit is set" if latency["limit"] is None else f"the limit is {latency['limit']:g} ms"
    text = (
        f"{record['summary']}. An image takes {milliseconds(latency)}, from its pixels to its logits; {limit}. "
        + _networks_text(record)
    )
    return Section(
        "What is delivered",
        text,
        tables=[
            *([(VIEWS, _views_table(record, latency))] if record["compared_views"] else []),
            *([("The networks", _members_table(members))] if members else []),
        ],
        notes=[_blend_text(record["blend"])] if record["blend"] else [],
    )


def _networks_text(record: Mapping[str, Any]) -> str:
    networks = record["networks"]
    if not record["compared_views"]:
        return "No network was trained (train.networks=0)."
    if not networks:
        return "No network is delivered, since none would gain anything beside the classifier on frozen features."
    averaged = "The logarithms of the probabilities are averaged over views and networks."
    if networks != ["all"]:
        return averaged
    return (
        f"{averaged} The one network was trained on all images that are not test; what is said of views and of the "
        "threshold was found with the networks of the folds."
    )


def training_sections(train: Path, deliver: Path) -> list[Section]:
    """The trainings, each with its curves, from the folders of the stages train and deliver; none without any."""
    figures, epochs, advice = [], 0, []
    for folder in _with_trainings(train, deliver):
        history, steps = (pd.read_parquet(folder / f"{name}.parquet") for name in ("history", "steps"))
        monitor = _read(folder, "monitor.json")
        for member in _read(folder, "training.json")["members"]:
            figure = curves_of_member(
                member["name"], history, best_epoch=member["kept_epoch"], steps=steps, ledger=monitor["ledger"]
            )
            figures.append((f"Learning curves {member['name']}", figure))
        epochs += len(history)
        advice += monitor["advice"]
    if not figures:
        return []
    recipe = {
        key: value
        for values in _read(train, "training.json")["recipe"].values()
        for key, value in values.items()
        if value is not None
    }
    shown = {key: f"{value:.3g}" if isinstance(value, float) else str(value) for key, value in recipe.items()}
    section = Section(
        "Training",
        f"{counted(len(figures), 'network')}, {counted(epochs, 'epoch')} together, by the recipe below.",
        tables=[("Recipe", pd.DataFrame({"setting": list(shown), "value": list(shown.values())}))],
        figures=figures,
        notes=[f"The monitor: {line}" for line in advice],
    )
    return [section]


def milliseconds(latency: Mapping[str, Any]) -> str:
    """What an image costs, and on what: `9.64 ms on 2 CPU threads`."""
    place = counted(latency["threads"], "CPU thread") if latency["device"] == "cpu" else "a GPU"
    return f"{latency['delivered']:.3g} ms on {place}"


def _with_trainings(*folders: Path) -> list[Path]:
    """Those of the stages that have trained something."""
    return [folder for folder in folders if (folder / "history.parquet").is_file()]


def _read(folder: Path, name: str) -> dict[str, Any]:
    values: dict[str, Any] = json.loads((folder / name).read_text(encoding="utf-8"))
    return values


def _views_table(record: Mapping[str, Any], latency: Mapping[str, Any]) -> pd.DataFrame:
    """A row for each number of views: score, log loss, and milliseconds for an image by what could be delivered."""
    ways, views = [way for way in WAYS if way in latency], record["views"] if record["networks"] else None
    return pd.DataFrame(
        [
            {
                "views": f"{row['views']}{', delivered' if row['views'] == views else ''}",
                "score": decimal(row["score"]),
                "log loss": decimal(row["log_loss"]),
                **{f"ms, {WAYS[way]}": f"{latency[way][str(row['views'])]:.3g}" for way in ways},
            }
            for row in record["compared_views"]
        ]
    )


def _members_table(members: list[dict[str, Any]]) -> pd.DataFrame:
    table = pd.DataFrame(members)[["name", "seed", "epochs", "kept_epoch", "trained_in", "run_id"]]
    return table.rename(columns=lambda name: name.replace("_", " "))


def _blend_text(blend: Mapping[str, Any]) -> str:
    """Whether the classifier on frozen features joins, and by what that was decided."""
    if "reason" in blend:
        return f"The classifier on frozen features does not join: {blend['reason']}."
    error = "" if blend["standard_error"] is None else f" ± {blend['standard_error']:.4f}"
    verdict = "joins" if blend["taken"] else "does not join"
    gain = blend["log_loss_gain"]
    return (
        f"The classifier on frozen features (score {decimal(blend['score_of_frozen'])} alone) {verdict}: with it the "
        f"log loss on unseen images is {abs(gain):.4f}{error} {'lower' if gain >= 0 else 'higher'}, and the score is "
        f"{decimal(blend['score'])}."
    )
