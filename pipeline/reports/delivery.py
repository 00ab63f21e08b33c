"""The trainings behind the delivered model, what it is made of and what it costs: two chapters of the report."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from components.display import counted
from components.report.figures_training import learning_curves
from components.report.html import Section
from pipeline.reports.page import decimal

WAYS = {"ensemble": "all networks", "single": "one network"}


def delivery_section(folder: Path) -> Section:
    """What is delivered, from the folder of the stage train."""
    training = json.loads((folder / "training.json").read_text(encoding="utf-8"))
    record = json.loads((folder / "operating_point.json").read_text(encoding="utf-8"))["assembly"]
    latency = record["latency_ms"]
    limit = "no limit is set" if latency["limit"] is None else f"the limit is {latency['limit']:g} ms"
    text = (
        f"{training['delivered']}. An image takes {milliseconds(latency)}, from its pixels to its logits; {limit}. "
        "The logarithms of the probabilities are averaged over views and networks."
    )
    if record["deliver"] == "single" and len(training["members"]) == 1 and training["members"][0]["name"] == "all":
        text += (
            " The one network was trained on all images that are not test; what is said of views and of the "
            "threshold was found with the networks of the folds."
        )
    return Section(
        "What is delivered",
        text,
        tables=[
            ("Views of an image, on images that the networks had not seen", _views_table(record, latency)),
            ("The networks", _members_table(training["members"])),
        ],
        notes=[_blend_text(record["blend"])] if record["blend"] else [],
    )


def training_section(folder: Path) -> Section:
    """The trainings, each with its curves, from the folder of the stage train."""
    history, steps = (pd.read_parquet(folder / f"{name}.parquet") for name in ("history", "steps"))
    training = json.loads((folder / "training.json").read_text(encoding="utf-8"))
    monitor = json.loads((folder / "monitor.json").read_text(encoding="utf-8"))
    kept = {member["name"]: member["kept_epoch"] for member in training["members"]}
    figures = []
    for name, own in history.groupby("member", sort=False):
        last = int(own["epoch"].max())
        figure = learning_curves(
            own.reset_index(drop=True),
            best_epoch=kept.get(name, last),
            steps=steps[steps["member"] == name],
            ledger=[entry for entry in monitor["ledger"] if entry["member"] == name],
        )
        figures.append((f"Learning curves {name}", figure))
    recipe = {
        key: value for values in training["recipe"].values() for key, value in values.items() if value is not None
    }
    shown = {key: f"{value:.3g}" if isinstance(value, float) else str(value) for key, value in recipe.items()}
    return Section(
        "Training",
        f"{counted(len(figures), 'network')}, {counted(len(history), 'epoch')} together, by the recipe below.",
        tables=[("Recipe", pd.DataFrame({"setting": list(shown), "value": list(shown.values())}))],
        figures=figures,
        notes=[f"The monitor: {advice}" for advice in monitor["advice"]],
    )


def milliseconds(latency: Mapping[str, Any]) -> str:
    """What an image costs, and on what: `9.64 ms on 2 CPU threads`."""
    place = counted(latency["threads"], "CPU thread") if latency["device"] == "cpu" else "a GPU"
    return f"{latency['delivered']:.3g} ms on {place}"


def _views_table(record: Mapping[str, Any], latency: Mapping[str, Any]) -> pd.DataFrame:
    """A row for each number of views: score, and milliseconds for an image by what could be delivered."""
    ways = [way for way in WAYS if way in latency]
    return pd.DataFrame(
        [
            {
                "views": f"{row['views']}, delivered" if row["views"] == record["views"] else str(row["views"]),
                "score": decimal(row["score"]),
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
    return (
        f"The classifier on frozen features (score {decimal(blend['score_of_frozen'])} alone) {verdict}: with it the "
        f"log loss on unseen images falls by {blend['log_loss_gain']:.4f}{error}, and the score is "
        f"{decimal(blend['score'])}."
    )
