"""The report of a search: a chapter for the reports of a run, and a page of its own."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from components.report.figures_search import importance_figure, pareto_figure, search_figure
from components.report.html import Section
from pipeline.console import duration
from pipeline.reports.page import decimal, write_page
from pipeline.stage import StageContext

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def write_report(context: StageContext) -> None:
    """Write search.html from the other files of the result, and log its figures."""
    folder = context.directory
    outcome, trials = _read(folder / "best.json"), pd.read_parquet(folder / "trials.parquet")
    write_page(
        context,
        "search.html",
        title="Search report",
        subtitle=f"{len(trials)} trials, compared by {outcome['objective']}",
        headline=_headline(outcome, trials),
        sections=[search_section(folder)],
    )
    if not trials.empty:
        context.console.say(f"  {gain_in_words(outcome)}")
        context.console.say(f"  report: {folder / 'search.html'}")


def search_section(folder: Path) -> Section:
    """The chapter of a report, from the folder of the stage's result."""
    outcome, analysis = _read(folder / "best.json"), _read(folder / "search.json")
    trials = pd.read_parquet(folder / "trials.parquet")
    if trials.empty:
        return Section("Search", "No search was made; the recipe was trained as configured.")
    made = (
        f"{len(trials)} trials, trial 0 with the defaults; sampler {analysis['sampler']}, scheduler "
        f"{analysis['scheduler']}, horizon {analysis['horizon']}."
    )
    return Section(
        "Search",
        f"{made} {gain_in_words(outcome)}",
        tables=[
            *_portfolio_table(analysis),
            ("Trials", _shown_trials(trials)),
            *_rung_table(analysis),
            *_front_table(trials, analysis),
        ],
        figures=_figures(outcome, analysis, trials),
        notes=[note for note in (outcome["note"], analysis["agreement_warning"]) if note],
    )


def gain_in_words(outcome: Mapping[str, Any]) -> str:
    """The winner, and how far it is ahead of the defaults."""
    if outcome["trial"] is None:
        return "No trial reached a score."
    if outcome["trial"] == 0:
        return "The defaults had the best score."
    if outcome["gain"] is None:
        return f"Trial {outcome['trial']} was the best; the defaults reached no score to compare it with."
    words = (
        f"Trial {outcome['trial']} was the best. After epoch {outcome['compared_at_epoch']}, the last that both "
        f"reached, {outcome['objective']} was {outcome['score']:.3f}, and {outcome['score_of_defaults']:.3f} with the "
        f"defaults: {outcome['gain']:+.3f}"
    )
    means = outcome["fold_means"]
    if means:
        words += f". Over {means['folds']} folds its mean was {means['winner']:.3f}"
        words += "" if means["defaults"] is None else f", and {means['defaults']:.3f} with the defaults"
    return words + "."


def _read(path: Path) -> dict[str, Any]:
    values: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return values


def _headline(outcome: Mapping[str, Any], trials: pd.DataFrame) -> list[tuple[str, str, str]]:
    if trials.empty:
        return []
    winner_name = "the defaults" if outcome["trial"] == 0 else f"trial {outcome['trial']}"
    score, gain = outcome["last_score"], outcome["gain"]
    return [
        ("Winner", winner_name, outcome["objective"]),
        ("Its score", decimal(score), "held-out images"),
        ("Over the defaults", decimal(gain, sign="+"), "unconfirmed"),
        ("Time in trials", duration(float(trials["seconds"].sum())), f"{int(trials['epochs'].sum())} epochs"),
    ]


def _figures(outcome: Mapping[str, Any], analysis: Mapping[str, Any], trials: pd.DataFrame) -> list[tuple[str, Figure]]:
    objective, whole = outcome["objective"], trials[trials["fold"].isna()]
    rates = search_figure(
        whole,
        bounds={name: (low, high) for name, (low, high) in outcome["lr_ranges"].items()},
        default_trial=0,
        best_trial=outcome["trial"],
        metric_name=objective,
    )
    figures = [("Search", rates), ("Importance", importance_figure(analysis["importances"]))]
    if "latency_ms" in trials:
        figures.append(("Quality and latency", pareto_figure(whole, analysis["pareto_front"], metric_name=objective)))
    return figures


def _shown_trials(trials: pd.DataFrame) -> pd.DataFrame:
    """The table without columns that say the same of every trial."""
    same = [name for name in ("fold", "seed", "gpu_seconds", "backbone") if trials[name].nunique(dropna=False) == 1]
    return trials.drop(columns=same).rename(columns=lambda name: str(name).removeprefix("recipe.").replace("_", " "))


def _portfolio_table(analysis: Mapping[str, Any]) -> list[tuple[str, pd.DataFrame]]:
    if not analysis["portfolio"]:
        return []
    return [("The portfolio: recipes that were tried first, and why", pd.DataFrame(analysis["portfolio"]))]


def _rung_table(analysis: Mapping[str, Any]) -> list[tuple[str, pd.DataFrame]]:
    if not analysis["survival"]:
        return []
    table = pd.DataFrame(analysis["survival"]).rename(columns={"rung": "epoch"})
    correlations = {record["rung"]: record["rho"] for record in analysis["agreement"]}
    if any(rho is not None for rho in correlations.values()):
        table["correlation with the final score"] = table["epoch"].map(correlations)
    return [("How many trials reached each rung, and how the others ended", table)]


def _front_table(trials: pd.DataFrame, analysis: Mapping[str, Any]) -> list[tuple[str, pd.DataFrame]]:
    if not analysis["pareto_front"]:
        return []
    front = trials[trials["trial"].isin(analysis["pareto_front"])].sort_values("latency_ms", ignore_index=True)
    columns = ["trial", "score", "latency_ms", "backbone", "optimizer", "lr"]
    return [("No trial is better and faster than one of these", front[columns])]
