"""The comparison of methods for people: one table, at the terminal and in an HTML page with figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import pandas as pd
from rich.table import Table

from components.display import counted
from components.report.figures_comparison import comparison_curves, comparison_dots, comparison_rates
from components.report.html import Section
from pipeline.comparison.results import STATEMENT
from pipeline.console import duration
from pipeline.reports.page import DASH, decimal, terminal_table, write_page

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from pipeline.stage import StageContext

#: Characters that the whole table takes on a terminal.
WIDE = 150
NAMES = {"auroc": "AUROC", "balanced_accuracy": "balanced accuracy"}
HOW_TO_READ = (
    "A figure after ± is half of the 95 % t interval over the seeds; with three seeds it is 2.5 times their spread, so "
    "it is wide, and two methods may differ though their intervals overlap. The column Δ compares seed by seed with "
    "the method at the top, which cancels what a seed does to both: where its interval reaches 0, the method is within "
    "the noise of the best, and the data give no reason to prefer either. Steps to the target count up to where the "
    "validation loss first falls to the target; methods that never reach it have none."
)


def comparison_rows(summary: Mapping[str, Any]) -> list[dict[str, str]]:
    """The table as text, a row per method, the best first."""
    measure = summary["measure"]
    return [
        {
            "method": entry["name"],
            _name(measure): _with_interval(entry["metrics"][measure]),
            "Δ to the best": DASH
            if entry["name"] == summary["best"]
            else _with_interval(entry["gap_to_best"], sign="+"),
            **{_name(metric): _with_interval(entry["metrics"][metric]) for metric in _shown_metrics(summary)[1:]},
            "rate": _rate(entry),
            "steps to target": _reached(entry["steps_to_target"]),
            "time": DASH if entry["seconds"]["mean"] is None else duration(entry["seconds"]["mean"]),
        }
        for entry in summary["entries"]
    ]


def console_table(summary: Mapping[str, Any], *, width: int) -> Table:
    """The table; bold are the methods within the noise of the best. A narrow terminal gets the columns it can hold."""
    rows = comparison_rows(summary)
    left_out = () if width >= WIDE else ("accuracy", "sensitivity", "specificity")
    columns = [column for column in rows[0] if column not in left_out]
    return terminal_table(
        "Methods, each at its own rate (held-out images)",
        columns,
        [
            ([row[column] for column in columns], "bold" if entry["within_noise"] else "")
            for row, entry in zip(rows, summary["entries"], strict=True)
        ],
    )


def conditions(summary: Mapping[str, Any]) -> str:
    seeds = len(summary["seeds"])
    interval = "mean ± half of the 95 % t interval" if seeds > 1 else "a single seed, so without an interval"
    target = ""
    if summary["target_val_loss"] is not None:
        origin = "" if summary["target_given"] else ", the median of the lowest that the methods reach"
        target = f" Target: a validation loss of {summary['target_val_loss']:.3f}{origin}."
    return f"{counted(summary['epochs'], 'epoch')}, {counted(seeds, 'seed')}: {interval}.{target} {STATEMENT}"


def noise_words(summary: Mapping[str, Any]) -> str:
    best, entries = summary["best"], summary["entries"]
    if best is None:
        return "No method was measured to its end."
    others = [entry["name"] for entry in entries if entry["within_noise"] and entry["name"] != best]
    if any(entry["within_noise"] is None for entry in entries):
        return f"{best} came out best; with one seed nothing can be said of the noise."
    if not others:
        return f"{best} came out best, and no other method is within its noise."
    return f"{best} came out best; within its noise: {', '.join(others)}."


def rate_notes(summary: Mapping[str, Any]) -> list[str]:
    """What was out of the ordinary about rates and trainings."""
    entries = summary["entries"]
    notes = []
    for edge, way in (("highest", "higher"), ("lowest", "lower")):
        names = [entry["name"] for entry in entries if entry["edge"] == edge]
        if names:
            notes.append(
                f"At the {edge} rate that was tried: {', '.join(names)}. A {way} one may do better; widen "
                "compare_lr.rate_factors to find out."
            )
    abstained = [entry["name"] for entry in entries if entry["abstained"]]
    if abstained:
        notes.append(
            f"The range test gave no suggestion, so that the optimizer's default was used: {', '.join(abstained)}."
        )
    for entry in entries:
        if entry["failed"]:
            notes.append(f"{entry['name']}: training diverged at every rate that was tried, so it was not compared.")
        elif entry["diverged"]:
            notes.append(
                f"{entry['name']}: {entry['diverged']} of {entry['trainings']} trainings diverged; its figures are "
                "those of the others, and it ranks last."
            )
    return notes


def write_comparison_report(
    context: StageContext,
    summary: Mapping[str, Any],
    trainings: pd.DataFrame,
    curves: pd.DataFrame,
    rates: pd.DataFrame,
    *,
    backbone: str,
) -> None:
    """Write comparison.html with its figures, which are logged to MLflow as well.

    trainings, curves, rates: of the trainings at full length, as `pipeline.comparison.results` makes them.
    """
    measure = summary["measure"]
    order = [entry["name"] for entry in summary["entries"] if not entry["failed"]]
    sections = [
        Section(
            "Results",
            f"{noise_words(summary)}\n\n{conditions(summary)}",
            tables=[(f"Sorted by {_name(measure)}", pd.DataFrame(comparison_rows(summary)))],
            figures=[("Results", _results_figure(summary, trainings))],
            notes=rate_notes(summary),
        ),
        Section("How to read it", HOW_TO_READ),
        Section(
            "Learning curves",
            figures=[
                ("Validation loss", comparison_curves(curves, metric="val_loss", order=order)),
                (_name(measure), comparison_curves(curves, metric=measure, order=order)),
            ],
        ),
        Section(
            "Learning rates",
            "The rate of every step, warmup included. A method's peak is the rate that was chosen for it.",
            tables=[("How the rates were chosen", _choices(summary))],
            figures=[("Learning rates", comparison_rates(rates, order=order))],
        ),
    ]
    write_page(
        context,
        "comparison.html",
        title="Learning-rate methods compared",
        subtitle=f"{backbone}, {len(summary['entries'])} methods, each at a rate of its own",
        headline=_headline(summary),
        sections=sections,
    )


def _results_figure(summary: Mapping[str, Any], trainings: pd.DataFrame) -> Figure:
    ends = ["mean", "low", "high"]
    compared = [entry for entry in summary["entries"] if not entry["failed"]]
    intervals = {
        metric: pd.DataFrame(
            [{"entry": entry["name"], **{end: entry["metrics"][metric][end] for end in ends}} for entry in compared],
            columns=["entry", *ends],
        ).astype(dict.fromkeys(ends, float))
        for metric in _shown_metrics(summary)
    }
    return comparison_dots(intervals, trainings, {entry["name"]: entry["within_noise"] for entry in compared})


def _headline(summary: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    entries = summary["entries"]
    trainings = sum(entry["trainings"] for entry in entries)
    methods = ("Methods", str(len(entries)), f"{trainings} trainings of {counted(summary['epochs'], 'epoch')}")
    if summary["best"] is None:
        return [methods]
    best, several = entries[0], len(summary["seeds"]) > 1
    within = sum(entry["within_noise"] is True for entry in entries) - 1
    return [
        ("Best", best["name"], f"rate {best['lr']:.2g}"),
        (_name(summary["measure"]), _with_interval(best["metrics"][summary["measure"]]), "held-out images"),
        ("Within its noise", *((str(within), "other methods") if several else (DASH, "not known from one seed"))),
        methods,
    ]


def _choices(summary: Mapping[str, Any]) -> pd.DataFrame:
    return pd.DataFrame(
        [
            {
                "method": entry["name"],
                "suggestion": f"{entry['suggested']:.2g}",
                "from": "default (range test abstained)" if entry["abstained"] else "range test",
                **{
                    f"{float(factor):.2g}×": "diverged" if score is None else decimal(score)
                    for factor, score in entry["rate_scores"].items()
                },
                "taken": _rate(entry),
            }
            for entry in summary["entries"]
        ]
    )


def _shown_metrics(summary: Mapping[str, Any]) -> Sequence[str]:
    """What methods are ranked by, then others."""
    if summary["measure"] == "auroc":
        return ("auroc", "accuracy", "sensitivity", "specificity")
    return ("balanced_accuracy", "accuracy")


def _name(metric: str) -> str:
    return NAMES.get(metric, metric)


def _with_interval(over_seeds: Mapping[str, Any], *, sign: str = "") -> str:
    half = "" if over_seeds["high"] is None else f" ± {over_seeds['high'] - over_seeds['mean']:.3f}"
    return decimal(over_seeds["mean"], sign=sign) + half


def _rate(entry: Mapping[str, Any]) -> str:
    if entry["failed"]:
        return "all diverged"
    mark = {"lowest": " ↓", "highest": " ↑", "": ""}[entry["edge"]]
    return f"{entry['lr']:.2g} ({entry['factor']:.2g}×{mark})"


def _reached(target: Mapping[str, Any]) -> str:
    if target["mean"] is None:
        return DASH
    some = "" if target["reached"] == target["count"] else f" ({target['reached']} of {target['count']})"
    return f"{target['mean']:,.0f}{some}"
