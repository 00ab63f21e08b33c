"""The confirmation as a person reads it: a chapter of the report, a figure, a table at the terminal."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
from rich.table import Table

from components.report.figures_search_confirmation import confirmation_figure
from components.report.html import Section
from pipeline.confirmation.verdict import DEFAULTS, WINNER

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def confirmation_section(folder: Path) -> Section:
    """The chapter, from the folder of the stage's result."""
    values = json.loads((folder / "confirmation.json").read_text(encoding="utf-8"))
    if not values["trainings"]:
        return Section("Confirmation", values["statement"])
    text = (
        f"The winner of the search and the defaults were trained at full length with {len(values['seeds'])} seeds, and "
        f"compared by {values['objective']} on the validation split, each at its best epoch.\n\n{values['statement']}"
    )
    return Section(
        "Confirmation",
        text,
        tables=[("Scores per seed", scores_table(values)), ("Trainings", trainings_table(values))],
        figures=[("Confirmation", seeds_figure(values))],
        notes=_notes(values),
    )


def seeds_figure(values: dict[str, Any]) -> Figure:
    """Each recipe's score per seed, and the difference with its bound."""
    scores = {label: [_number(score) for score in values["scores"][label]] for label in (DEFAULTS, WINNER)}
    return confirmation_figure(
        scores,
        difference=values["difference"],
        low=values["low"],
        confidence=values["confidence"],
        metric_name=values["objective"],
    )


def scores_table(values: dict[str, Any]) -> pd.DataFrame:
    """A row per seed: winner, defaults and their difference, nan where one diverged."""
    table = pd.DataFrame({"seed": values["seeds"], **{label: values["scores"][label] for label in (WINNER, DEFAULTS)}})
    table = table.astype({WINNER: float, DEFAULTS: float})
    return table.assign(difference=table[WINNER] - table[DEFAULTS])


def trainings_table(values: dict[str, Any]) -> pd.DataFrame:
    """A row per training."""
    return pd.DataFrame(values["trainings"]).rename(columns={"best_epoch": "best epoch", "run_id": "run id"})


def console_table(values: dict[str, Any]) -> Table:
    """The scores for the terminal."""
    table = Table(title=f"Confirmation: {values['objective']}", title_justify="left")
    frame = scores_table(values)
    for column in frame.columns:
        table.add_column(column, justify="right")
    for row in frame.itertuples(index=False):
        table.add_row(str(row[0]), *(_shown(value, sign=place == 2) for place, value in enumerate(row[1:])))
    return table


def _number(score: float | None) -> float:
    return math.nan if score is None else score


def _notes(values: dict[str, Any]) -> list[str]:
    if values["difference"] is None:
        return []
    known = values["se_seeds"] is not None
    seeds = f"{values['se_seeds']:.4f} from the seeds" if known else "not known from the seeds, of which there is one"
    return [
        f"Standard error of the difference: {seeds}, {values['se_sampling']:.4f} from the choice of validation images."
    ]


def _shown(value: float, *, sign: bool) -> str:
    if value != value:
        return "diverged" if not sign else "–"
    return f"{value:+.4f}" if sign else f"{value:.4f}"
