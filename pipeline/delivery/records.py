"""The records of the trainings behind a model: histories, steps, learning curves, and what the monitor found."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Sequence
from typing import Any

import pandas as pd

from components.report.figures_training import learning_curves
from pipeline.delivery.members import Trained
from pipeline.sections.learning_rate import MonitorConfig
from pipeline.stage import StageContext
from pipeline.training.progress import history_rows


def write_history(
    context: StageContext, trained: Sequence[Trained], group_names: tuple[str, ...], ledger: list[dict[str, Any]]
) -> None:
    """Write history.parquet and steps.parquet, with the member of each row; log them, and a figure for each member."""
    progresses = {one.name: one.store.progress for one in trained}
    rows = [pd.DataFrame(history_rows(progress.history)).assign(member=name) for name, progress in progresses.items()]
    history = pd.concat(rows, ignore_index=True)  # all columns, also where one network was not validated
    tables = {one.name: one.store.steps_table(group_names) for one in trained}
    for name, progress in progresses.items():
        figure = learning_curves(
            history[history["member"] == name],
            best_epoch=max(progress.weights),
            steps=tables[name],
            ledger=[entry for entry in ledger if entry["member"] == name],
        )
        context.log_figure(figure, f"figures/learning_curves_{name}.png")
    history.to_parquet(context.directory / "history.parquet", index=False)
    steps = pd.concat([table.assign(member=name) for name, table in tables.items()], ignore_index=True)
    steps.to_parquet(context.directory / "steps.parquet", index=False)
    context.run.log_artifact(context.directory / "steps.parquet")


def monitor_counts(ledger: list[dict[str, Any]]) -> dict[str, int]:
    """The number of verdicts, in total and by kind, and of rollbacks."""
    kinds = Counter(entry["kind"] for entry in ledger)
    return {
        "monitor_verdicts": len(ledger),
        "monitor_rollbacks": sum(entry["action"] == "rollback" for entry in ledger),
        **{f"monitor_{kind}": count for kind, count in sorted(kinds.items())},
    }


def write_ledger(context: StageContext, trained: Sequence[Trained], settings: MonitorConfig) -> list[dict[str, Any]]:
    """Write and log monitor.json, print the advice; the verdicts, each with its member."""
    ledger, advice = [], []
    for one in trained:
        for entry in one.ended.ledger:  # JSON has no NaN: what was not measured, or is not finite, is null
            evidence = {key: value if math.isfinite(value) else None for key, value in entry["evidence"].items()}
            ledger.append({**entry, "evidence": evidence, "member": one.name})
        advice += [line if len(trained) == 1 else f"{one.name}: {line}" for line in one.ended.advice]
    values = {"action": settings.action, "advice": advice, "ledger": ledger}
    text = json.dumps(values, indent=2, allow_nan=False)
    (context.directory / "monitor.json").write_text(text, encoding="utf-8")
    context.run.log_artifact(context.directory / "monitor.json")
    for line in advice:
        context.console.warn(line)
    return ledger
