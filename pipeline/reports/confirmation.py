"""The confirmation as a person reads it: a chapter of the report, and a table at the terminal."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pandas as pd
from rich.table import Table

from components.report.html import Section
from pipeline.confirmation.verdict import DEFAULTS, WINNER
from pipeline.reports.page import terminal_table


def confirmation_section(folder: Path) -> Section:
    """The chapter, from the folder of the stage's result."""
    values = json.loads((folder / "confirmation.json").read_text(encoding="utf-8"))
    if not values["trainings"]:
        return Section("Confirmation", values["statement"])
    notes = []
    if values["difference"] is not None:
        seeds = "not known from the seeds, of which there is one"
        if values["se_seeds"] is not None:
            seeds = f"{values['se_seeds']:.4f} from the seeds"
        source = f"{seeds}, {values['se_sampling']:.4f} from the choice of validation images"
        notes.append(f"Standard error of the difference: {source}.")
    trainings = pd.DataFrame(values["trainings"]).rename(columns=lambda name: name.replace("_", " "))
    return Section(
        "Confirmation",
        f"The winner of the search and the defaults were trained at full length with {len(values['seeds'])} seeds, and "
        f"compared by {values['objective']} on the validation split, each at its best epoch.\n\n{values['statement']}",
        tables=[("Scores per seed", scores_table(values)), ("Trainings", trainings)],
        notes=notes,
    )


def scores_table(values: dict[str, Any]) -> pd.DataFrame:
    """A row per seed: winner, defaults and their difference, nan where one diverged."""
    table = pd.DataFrame({"seed": values["seeds"], **{label: values["scores"][label] for label in (WINNER, DEFAULTS)}})
    table = table.astype({WINNER: float, DEFAULTS: float})
    return table.assign(difference=table[WINNER] - table[DEFAULTS])


def console_table(values: dict[str, Any]) -> Table:
    frame = scores_table(values)
    rows = [
        ((str(seed), *("diverged" if math.isnan(score) else f"{score:.4f}" for score in scores),
          "–" if math.isnan(difference) else f"{difference:+.4f}"), "")
        for seed, *scores, difference in frame.itertuples(index=False)
    ]  # fmt: skip
    return terminal_table(f"Confirmation: {values['objective']}", list(frame.columns), rows)
