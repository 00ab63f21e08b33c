"""The confirmation as a person reads it: a chapter of the report, and a table at the terminal."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pandas as pd
from rich.table import Table

from components.report.figures_confirmation import difference_figure
from components.report.html import Section
from pipeline.confirmation.verdict import DEFAULTS, WINNER
from pipeline.reports.page import terminal_table


def confirmation_section(folder: Path) -> Section:
    """The chapter, from the folder of the stage's result."""
    values = json.loads((folder / "confirmation.json").read_text(encoding="utf-8"))
    if not values["trainings"]:
        return Section("Confirmation", values["statement"])
    over_folds = values["replicates"][0].startswith("fold")
    compared = "on the fold that each left out, at the last epoch" if over_folds else "on the validation split"
    notes, measured = [f"Before the trainings: {values['foresight']}"], None
    if values["difference"] is not None:
        measured = (values["difference"], math.hypot(values["se_seeds"], values["se_sampling"]))
        notes.append(
            f"Standard error of the measured difference: {values['se_seeds']:.4f} from the seeds, "
            f"{values['se_sampling']:.4f} from the choice of validation images (whole groups resampled)."
        )
    if values["at_rung"] is not None:
        notes.append(values["at_rung"]["statement"])
    frame = scores_table(values)
    known, expected = frame.dropna(), values["expected"]
    figure = difference_figure(
        list(zip(known["replicate"], known["difference"], strict=True)),
        measured=measured,
        expected=None if expected is None else (expected, values["low"], values["high"]),
        objective=values["objective"],
        confidence=values["confidence"],
    )
    trainings = pd.DataFrame(values["trainings"]).rename(columns=lambda name: name.replace("_", " "))
    return Section(
        "Confirmation",
        f"The winner of the search and the defaults were trained at full length with the same "
        f"{'folds' if over_folds else 'seeds'}, and compared by {values['objective']} {compared}.\n\n"
        f"{values['statement']}",
        figures=[("The difference of the two recipes", figure)],
        tables=[("Scores of both recipes", _with_rung(frame, values)), ("Trainings", trainings)],
        notes=notes,
    )


def _with_rung(frame: pd.DataFrame, values: dict[str, Any]) -> pd.DataFrame:
    """The scores below those at the search's rung, where there are any."""
    at_rung = values["at_rung"]
    if at_rung is None:
        return frame
    row = {"replicate": f"search, epoch {at_rung['epoch']}", WINNER: at_rung[WINNER], DEFAULTS: at_rung[DEFAULTS]}
    return pd.concat([pd.DataFrame([row | {"difference": row[WINNER] - row[DEFAULTS]}]), frame], ignore_index=True)


def scores_table(values: dict[str, Any]) -> pd.DataFrame:
    """A row per fold or seed: winner, defaults and their difference, nan where one diverged."""
    table = pd.DataFrame({"replicate": [name.replace("-", " ") for name in values["replicates"]], **values["scores"]})
    table = table[["replicate", WINNER, DEFAULTS]].astype({WINNER: float, DEFAULTS: float})
    return table.assign(difference=table[WINNER] - table[DEFAULTS])


def console_table(values: dict[str, Any]) -> Table:
    """The scores, their mean, and the difference after shrinking with its bounds."""
    frame = scores_table(values)
    rows = [
        ((name, *("diverged" if math.isnan(score) else f"{score:.4f}" for score in scores), _signed(difference)), "")
        for name, *scores, difference in frame.itertuples(index=False)
    ]
    if values["difference"] is not None:
        means = [f"{frame[label].mean():.4f}" for label in (WINNER, DEFAULTS)]
        rows.append((("mean", *means, _signed(values["difference"])), ""))
    if values["expected"] is not None:
        bounds = f"{_signed(values['expected'])} ({_signed(values['low'])} to {_signed(values['high'])})"
        rows.append((("expected", "", "", bounds), ""))
    return terminal_table(f"Confirmation: {values['objective']}", list(frame.columns), rows)


def _signed(value: float) -> str:
    return "–" if math.isnan(value) else f"{value:+.4f}"
