"""The comparison for people: one table, as Markdown, on the console and in an HTML report with its figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
from rich.table import Table

from components.display import markdown
from components.report.figures_comparison import comparison_curves, comparison_dots, comparison_rates
from components.report.html import Section, render_report
from pipeline.comparison.results import STATEMENT
from pipeline.console import duration

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DASH = "–"
#: Characters that the whole table takes on a terminal.
WIDE = 150
NAMES = {"auroc": "AUROC", "balanced_accuracy": "balanced accuracy"}
HOW_TO_READ = (
    "A figure after ± is half of the 95 % t interval over the seeds; with three seeds it is 2.5 times their spread, so "
    "it is wide, and two methods may differ though their intervals overlap. The column Δ compares seed by seed with "
    "the method at the top, which cancels what a seed does to both: where its interval reaches 0, the method is within "
    "the noise of the best, and the data give no reason to prefer either. Steps and seconds to the target count "
    "training alone, up to where the validation loss first falls to the target; methods that never get there have none."
)


def comparison_rows(summary: Mapping[str, Any]) -> list[dict[str, str]]:
    """The table as text, a row per method, the best first."""
    measure = summary["measure"]
    others = [name for name in _shown_metrics(summary) if name != measure]
    rows = []
    for entry in summary["entries"]:
        gap = entry["gap_to_best"] if entry["name"] != summary["best"] else None
        rows.append(
            {
                "method": entry["name"],
                _name(measure): _with_interval(entry["metrics"][measure]),
                "Δ to the best": _signed(gap) if gap else DASH,
                **{_name(metric): _with_interval(entry["metrics"][metric]) for metric in others},
                "rate": _rate(entry),
                "steps to target": _reached(entry["steps_to_target"]),
                "time": _time(entry["seconds"]["mean"]),
            }
        )
    return rows


def console_table(summary: Mapping[str, Any], *, width: int) -> Table:
    """The table; bold are the methods within the noise of the best. A narrow terminal gets the columns it can hold."""
    table = Table(title="Methods, each at its own rate (validation split)", title_justify="left")
    rows = comparison_rows(summary)
    left_out = () if width >= WIDE else ("accuracy", "sensitivity", "specificity")
    columns = [column for column in rows[0] if column not in left_out]
    for number, column in enumerate(columns):
        table.add_column(column, justify="right" if number else "left", no_wrap=True)
    for row, entry in zip(rows, summary["entries"], strict=True):
        table.add_row(*(row[column] for column in columns), style="bold" if entry["within_noise"] else "")
    return table


def markdown_table(summary: Mapping[str, Any]) -> str:
    """The table with what is needed to read it, for a document."""
    rows = comparison_rows(summary)
    columns = list(rows[0])
    lines = [
        "| " + " | ".join(columns) + " |",
        "|" + "|".join("---" if number == 0 else "--:" for number in range(len(columns))) + "|",
        *("| " + " | ".join(map(markdown, row.values())) + " |" for row in rows),
        "",
        conditions(summary),
        "",
        *(markdown(line) for line in (noise_words(summary), *rate_notes(summary)) if line),
    ]
    return "\n".join(lines) + "\n"


def conditions(summary: Mapping[str, Any]) -> str:
    """How it was measured, in words."""
    seeds = len(summary["seeds"])
    interval = "mean ± half of the 95 % t interval" if seeds > 1 else "a single seed, so without an interval"
    target = ""
    if summary["target_val_loss"] is not None:
        origin = "" if summary["target_given"] else ", the median of the lowest that the methods reach"
        target = f" Target: a validation loss of {summary['target_val_loss']:.3f}{origin}."
    epochs = f"{summary['epochs']} epoch{'s' if summary['epochs'] != 1 else ''}"
    return f"{epochs}, {seeds} seed{'s' if seeds != 1 else ''}: {interval}.{target} {STATEMENT}"


def noise_words(summary: Mapping[str, Any]) -> str:
    """Which methods cannot be told from the best."""
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
                "those of the others, and it stands last."
            )
    return notes


def comparison_figures(
    summary: Mapping[str, Any], trainings: pd.DataFrame, curves: pd.DataFrame, rates: pd.DataFrame
) -> dict[str, Figure]:
    """File name → figure, of the full trainings. Tables: as `comparison_results` makes them."""
    compared = [entry for entry in summary["entries"] if not entry["failed"]]
    order = [entry["name"] for entry in compared]
    metrics, ends = _shown_metrics(summary), ("mean", "low", "high")
    intervals = {
        metric: pd.DataFrame(
            [{"entry": e["name"], **{key: e["metrics"][metric][key] for key in ends}} for e in compared],
            columns=["entry", *ends],
        ).astype({"mean": float, "low": float, "high": float})
        for metric in metrics
    }  # fmt: skip
    within = {entry["name"]: entry["within_noise"] for entry in compared}
    return {
        "results": comparison_dots(intervals, trainings, within),
        "val_loss": comparison_curves(curves, metric="val_loss", order=order),
        summary["measure"]: comparison_curves(curves, metric=summary["measure"], order=order),
        "rates": comparison_rates(rates, order=order),
    }


def write_html(summary: Mapping[str, Any], figures: Mapping[str, Figure], path: Path, *, subtitle: str) -> None:
    """One file that stands alone."""
    measure = summary["measure"]
    results, val_loss, by_measure, rates = figures.values()
    sections = [
        Section(
            "Results",
            f"{noise_words(summary)}\n\n{conditions(summary)}",
            tables=[(f"Sorted by {_name(measure)}", _quality(summary)), ("Cost", _cost(summary))],
            figures=[("", results)],
            notes=rate_notes(summary),
        ),
        Section("How to read it", HOW_TO_READ),
        Section("Learning curves", figures=[("", val_loss), ("", by_measure)]),
        Section(
            "Learning rates",
            "What each method's steps really used, warmup included. Its peak is the rate that was chosen for it.",
            tables=[("How the rates were chosen", _choices(summary))],
            figures=[("", rates)],
        ),
    ]
    html = render_report(
        title="Learning-rate methods compared", subtitle=subtitle, headline=_headline(summary), sections=sections
    )
    path.write_text(html, encoding="utf-8")


def _headline(summary: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    entries = summary["entries"]
    trainings = sum(entry["trainings"] for entry in entries)
    shown = [
        ("Methods", str(len(entries)), f"{trainings} trainings of {summary['epochs']} epochs"),
    ]
    if summary["best"] is not None:
        best = entries[0]
        within = sum(entry["within_noise"] is True for entry in entries) - 1
        noise = "not known from one seed" if len(summary["seeds"]) < 2 else "other methods"
        shown = [
            ("Best", best["name"], f"rate {best['lr']:.2g}"),
            (_name(summary["measure"]), _with_interval(best["metrics"][summary["measure"]]), "validation split"),
            ("Within its noise", str(within) if len(summary["seeds"]) > 1 else DASH, noise),
            *shown,
        ]
    return shown


def _quality(summary: Mapping[str, Any]) -> pd.DataFrame:
    """The table without rate and cost, each figure kept on one line with its interval."""
    table = pd.DataFrame(comparison_rows(summary)).drop(columns=["rate", "steps to target", "time"])
    return table.apply(lambda column: column.str.replace(" ± ", "\u00a0±\u00a0"))


def _cost(summary: Mapping[str, Any]) -> pd.DataFrame:
    return pd.DataFrame(
        [
            {
                "method": entry["name"],
                "steps to target": _reached(entry["steps_to_target"]),
                "seconds to target": _number(entry["seconds_to_target"]["mean"], "–", digits=1),
                "time of a training": _time(entry["seconds"]["mean"]),
                "rate": _rate(entry),
            }
            for entry in summary["entries"]
        ]
    )


def _choices(summary: Mapping[str, Any]) -> pd.DataFrame:
    rows = []
    for entry in summary["entries"]:
        tried = {
            f"{float(factor):.2g}×": _number(score, "diverged", digits=3)
            for factor, score in entry["rate_scores"].items()
        }
        source = "default (range test abstained)" if entry["abstained"] else "range test"
        rows.append(
            {"method": entry["name"], "suggestion": f"{entry['suggested']:.2g}", "from": source, **tried,
             "taken": _rate(entry)}
        )  # fmt: skip
    return pd.DataFrame(rows)


def _shown_metrics(summary: Mapping[str, Any]) -> Sequence[str]:
    if summary["measure"] == "auroc":
        return ("auroc", "accuracy", "sensitivity", "specificity")
    return ("balanced_accuracy", "accuracy")


def _name(metric: str) -> str:
    return NAMES.get(metric, metric)


def _with_interval(repeats: Mapping[str, Any]) -> str:
    if repeats["mean"] is None:
        return DASH
    half = "" if repeats["high"] is None else f" ± {repeats['high'] - repeats['mean']:.3f}"
    return f"{repeats['mean']:.3f}{half}"


def _signed(repeats: Mapping[str, Any]) -> str:
    if repeats["mean"] is None:
        return DASH
    half = "" if repeats["high"] is None else f" ± {repeats['high'] - repeats['mean']:.3f}"
    return f"{repeats['mean']:+.3f}".replace("-", "−") + half


def _rate(entry: Mapping[str, Any]) -> str:
    if entry["failed"]:
        return "all diverged"
    mark = {"lowest": " ↓", "highest": " ↑", "": ""}[entry["edge"]]
    return f"{entry['lr']:.2g} ({entry['factor']:.2g}×{mark})"


def _reached(reach: Mapping[str, Any]) -> str:
    if reach["mean"] is None:
        return DASH
    some = "" if reach["reached"] == reach["count"] else f" ({reach['reached']} of {reach['count']})"
    return f"{reach['mean']:,.0f}{some}"


def _time(seconds: float | None) -> str:
    return DASH if seconds is None else duration(seconds)


def _number(value: float | None, missing: str, *, digits: int) -> str:
    return missing if value is None else f"{value:.{digits}f}"
