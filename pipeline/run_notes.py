"""What a run says of itself in MLflow: its name, a note in Markdown, and the data and the model that it ends with.

A person who opens the tracking server a month later reads this first: the verdict, the figures with their intervals,
where the report is, and what was done in each stage.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from components.display import markdown
from pipeline.console import duration
from pipeline.data.sources import log_lineage
from pipeline.stage import StageRecord

if TYPE_CHECKING:
    from components.tracking import Run, Tracker
    from pipeline.runner import StageSummary, Summary


def run_name(project: str, until: str | None) -> str:
    """The name of a root run: project, the stage it ends with where that is not the last, and local time."""
    return " ".join([project, *([until] if until else []), time.strftime("%Y-%m-%d %H:%M")])


def link_results(root: Run, tracker: Tracker, record: StageRecord) -> None:
    """Show the data set of a finished `prepare`, and the model of a finished `deliver`, on the root run as well."""
    if record.stage == "prepare":
        log_lineage(root, record.directory, used_for="pipeline")
    elif record.stage == "deliver":
        model_id = _read(record, "delivery.json")["model_id"]
        if tracker.holds_model(model_id):
            root.link_model(model_id)


def root_note(project: str, summary: Summary, records: Mapping[str, StageRecord], *, planned: int) -> str:
    """The note of the root run, in Markdown.

    records: the results of the stages that are done. planned: number of stages that the run has.
    """
    parts = [f"### {_verdict(project, summary, records, planned)}"]
    if "evaluate" in records:
        parts.append(_figures(records["evaluate"]))
    reports = [_report_line(name, record, summary) for name, record in records.items() if _html_files(record)]
    if reports:
        parts.append("**Reports** (in the artifacts of the stage's run)\n\n" + "\n".join(reports))
    if summary.stages:
        parts.append(_stage_table(summary.stages))
    return "\n\n".join(parts)


def stage_note(record: StageRecord) -> str:
    """The note of a stage's run: its headline figures, and which reports are in its artifacts."""
    lines = [f"- {_words(key)}: {_value(value)}" for key, value in record.headline.items() if value is not None]
    files = _html_files(record)
    if files:
        lines.append(f"- report: {', '.join(files)}, in the artifacts")
    return "\n".join(lines)


def _verdict(project: str, summary: Summary, records: Mapping[str, StageRecord], planned: int) -> str:
    name = markdown(project)
    done = f"{len(summary.stages)} of {planned} stages done"
    if summary.error is not None:
        remedy = "The same command resumes it." if summary.status == "interrupted" else ""
        lines = "\n\n".join(markdown(line) for line in summary.error.splitlines())
        return f"{name}: {summary.status}, {done}\n\n{lines}\n\n{remedy}"
    if len(summary.stages) < planned:
        return f"{name}: running, {done}"
    if "promote" not in records:
        return f"{name}: complete up to {summary.stages[-1].name}"
    decision = _read(records["promote"], "decision.json")
    version = f"version {decision['version']} of `{decision['model_name']}` is {decision['alias']}"
    return f"{name}: {version}: {markdown(decision['reason'])}"


def _figures(record: StageRecord) -> str:
    """Headline figures of the test split with their intervals, and what is certified of the budget."""
    metrics = _read(record, "metrics.json")
    rows = [_row(name, entry) for name, entry in _headline_metrics(metrics)]
    confidence = metrics["class_metrics"]["accuracy"]["confidence"]
    table = "\n".join([f"| Test split | | {confidence:.0%} interval |", "|---|--:|---|", *rows])
    statement = (metrics.get("budget") or {}).get("statement")
    return f"{table}\n\n{markdown(statement)}" if statement else table


def _headline_metrics(metrics: Mapping[str, Any]) -> list[tuple[str, Mapping[str, Any]]]:
    if metrics["ranking"] is None:
        overall = metrics["class_metrics"]
        return [("accuracy", overall["accuracy"]), ("balanced accuracy", overall["balanced_accuracy"])]
    at_budget, balanced = (metrics["operating_points"][name] for name in ("escape_budget", "balanced"))
    return [
        ("AUROC", metrics["ranking"]["auroc"]),
        ("average precision", metrics["ranking"]["average_precision"]),
        ("escape rate", at_budget["escape_rate"]),
        ("overkill rate", at_budget["overkill_rate"]),
        ("balanced accuracy, at its own threshold", balanced["balanced_accuracy"]),
    ]


def _row(name: str, entry: Mapping[str, Any]) -> str:
    """A line of the table: a rate in per cent with its counts, an estimate as it is."""
    is_rate = "numerator" in entry
    shown = [
        "–" if value is None else f"{value:.1%}" if is_rate else f"{value:.3f}"
        for value in (entry["value"], entry["low"], entry["high"])
    ]
    counts = f" ({entry['numerator']} of {entry['denominator']})" if is_rate else ""
    return f"| {name} | {shown[0]}{counts} | {shown[1]} to {shown[2]} |"


def _report_line(name: str, record: StageRecord, summary: Summary) -> str:
    link = f"#/experiments/{summary.experiment_id}/runs/{record.run_id}/artifacts"
    return f"- [{', '.join(_html_files(record))}]({link}) of {name}; also in `{record.directory}`"


def _stage_table(stages: Sequence[StageSummary]) -> str:
    rows = ["| Stage | | time | result |", "|---|---|--:|---|"]
    for stage in stages:
        made_by = f", made by {markdown(stage.made_by)}" if stage.made_by else ""
        time_taken = duration(stage.seconds) if stage.seconds else ""
        shown = [f"{_words(key)} {_value(value)}" for key, value in stage.headline.items() if value is not None]
        rows.append(f"| {stage.name} | {stage.action}{made_by} | {time_taken} | {', '.join(shown[:6])} |")
    return "\n".join(rows)


def _html_files(record: StageRecord) -> list[str]:
    return [name for name in record.artifacts if name.endswith(".html")]


def _words(key: str) -> str:
    return markdown(key.replace("_", " "))


def _value(value: Any) -> str:  # noqa: ANN401 - a headline figure is a number or a text
    return f"{value:.4g}" if isinstance(value, float) else markdown(str(value))


def _read(record: StageRecord, name: str) -> dict[str, Any]:
    values: dict[str, Any] = json.loads((record.directory / name).read_text(encoding="utf-8"))
    return values
