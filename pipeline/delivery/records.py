"""The records of the trainings behind a model: members, histories, steps, curves, and what the monitor found."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from components.report.figures_training import curves_of_member
from pipeline.delivery.members import MEMBERS, Trained
from pipeline.sections.recipe import Recipe
from pipeline.stage import StageContext
from pipeline.training.checkpoints import TrainingStore
from pipeline.training.job import TrainingSpec
from pipeline.training.progress import history_rows

TRAINING_FILE = "training.json"


def write_training(context: StageContext, trained: Sequence[Trained], spec: TrainingSpec) -> dict[str, Any]:
    """Write training.json, history.parquet, steps.parquet and monitor.json, and log them; figures for the headline.

    spec: recipe and monitor of all. Without a training there is training.json alone.
    """
    values = {"recipe": spec.recipe.model_dump(mode="json"), "members": [_record(one) for one in trained]}
    (context.directory / TRAINING_FILE).write_text(json.dumps(values, indent=2), encoding="utf-8")
    if not trained:
        return {"networks": 0}
    ledger = _write_ledger(context, trained, spec.monitor_action)
    _write_history(context, trained, ledger)
    epochs = [epoch for one in trained for epoch in one.store.progress.history]
    return {
        "networks": len(trained),
        "epochs": len(epochs),
        "median_images_per_second": float(np.median([epoch.images_per_second for epoch in epochs])),
        **_monitor_counts(ledger),
    }


def read_training(folder: Path) -> tuple[Recipe, list[Trained]]:
    """The recipe and the trainings of the stage whose result the folder is."""
    values = json.loads((folder / TRAINING_FILE).read_text(encoding="utf-8"))
    trained = [
        Trained(
            **{key: member[key] for key in ("name", "fold", "seed", "trained_in", "run_id")},
            store=TrainingStore(folder / MEMBERS / member["name"]),
        )
        for member in values["members"]
    ]
    return Recipe.model_validate(values["recipe"]), trained


def _record(one: Trained) -> dict[str, Any]:
    return {
        "name": one.name,
        "fold": one.fold,
        "seed": one.seed,
        "epochs": len(one.store.progress.history),
        "kept_epoch": one.store.progress.kept_epoch,
        "trained_in": one.trained_in,
        "run_id": one.run_id,
    }


def _write_history(context: StageContext, trained: Sequence[Trained], ledger: list[dict[str, Any]]) -> None:
    """Write and log the tables, with the member of each row; log a figure for each member."""
    rows = [pd.DataFrame(history_rows(one.store.progress.history)).assign(member=one.name) for one in trained]
    history = pd.concat(rows, ignore_index=True)
    steps = pd.concat([one.store.steps_table().assign(member=one.name) for one in trained], ignore_index=True)
    for one in trained:
        kept = one.store.progress.kept_epoch
        assert kept is not None  # of every training that has not failed
        figure = curves_of_member(one.name, history, best_epoch=kept, steps=steps, ledger=ledger)
        context.log_figure(figure, f"figures/learning_curves_{one.name}.png")
    history.to_parquet(context.directory / "history.parquet", index=False)
    steps.to_parquet(context.directory / "steps.parquet", index=False)
    context.run.log_artifact(context.directory / "steps.parquet")


def _monitor_counts(ledger: list[dict[str, Any]]) -> dict[str, int]:
    """The number of verdicts, in total and by kind, and of rollbacks."""
    kinds = Counter(entry["kind"] for entry in ledger)
    return {
        "monitor_verdicts": len(ledger),
        "monitor_rollbacks": sum(entry["action"] == "rollback" for entry in ledger),
        **{f"monitor_{kind}": count for kind, count in sorted(kinds.items())},
    }


def _write_ledger(context: StageContext, trained: Sequence[Trained], action: str) -> list[dict[str, Any]]:
    """Write and log monitor.json, print the advice; the verdicts, each with its member."""
    ledger, advice = [], []
    for one in trained:
        for entry in one.ended.ledger:  # JSON has no NaN: what was not measured, or is not finite, is null
            evidence = {key: value if math.isfinite(value) else None for key, value in entry["evidence"].items()}
            ledger.append({**entry, "evidence": evidence, "member": one.name})
        advice += [line if len(trained) == 1 else f"{one.name}: {line}" for line in one.ended.advice]
    values = {"action": action, "advice": advice, "ledger": ledger}
    text = json.dumps(values, indent=2, allow_nan=False)
    (context.directory / "monitor.json").write_text(text, encoding="utf-8")
    context.run.log_artifact(context.directory / "monitor.json")
    for line in advice:
        context.console.warn(line)
    return ledger
