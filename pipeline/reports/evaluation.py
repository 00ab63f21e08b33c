"""The report of a run: what the model does on the test split, how it was found, and what led there, in one file."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from components.report.figures_evaluation import confusion_figure, roc_figure, score_histogram
from components.report.figures_lr import range_test_figure
from components.report.galleries import gallery
from components.report.html import Section
from components.serving.card import ModelCard
from pipeline.reports.confirmation import confirmation_section
from pipeline.reports.delivery import delivery_section, training_sections
from pipeline.reports.page import decimal, interval, share, write_page
from pipeline.reports.search import search_section
from pipeline.stage import StageContext

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from components.data.pack.reader import Pack

RATES = ("accuracy", "sensitivity", "specificity", "escape_rate", "overkill_rate", "reject_precision")
PAIRS_SHOWN = 50
"""Rows of the table of classes that are taken for each other."""
THRESHOLD_NAMES = {"escape_budget": "escape budget", "balanced": "balanced"}


@dataclass(frozen=True)
class EvaluationReport:
    """What the report is made from.

    pack_indices: (N,) int, where in the pack the image of each prediction is.
    """

    context: StageContext
    card: ModelCard
    metrics: dict[str, Any]
    predictions: pd.DataFrame
    pack: Pack
    pack_indices: np.ndarray


def write_report(report: EvaluationReport, *, gallery_size: int) -> None:
    """Write report.html; log each figure to MLflow as well."""
    train, deliver = (report.context.inputs[name].directory for name in ("train", "deliver"))
    provenance = [
        {"stage": name, "fingerprint": record.fingerprint[:16], "run id": record.run_id, "commit": record.commit[:12],
         "seconds": record.seconds}
        for name, record in report.context.inputs.items()
    ]  # fmt: skip
    write_page(
        report.context,
        "report.html",
        title="Inspection model report",
        subtitle=f"{report.card.summary}, on {report.metrics['images']:,} test images of "
        f" {len(report.card.classes)} classes",
        headline=_headline(report),
        sections=[
            *(_decision_sections(report, gallery_size) if report.metrics["ranking"] else []),
            _class_section(report),
            delivery_section(train, deliver),
            *training_sections(train, deliver),
            search_section(report.context.inputs["search"].directory),
            confirmation_section(report.context.inputs["confirm"].directory),
            *_range_test_sections(report),
            Section("Provenance", tables=[("What this was made from", pd.DataFrame(provenance))]),
        ],
    )


def _headline(report: EvaluationReport) -> list[tuple[str, str, str]]:
    if report.metrics["ranking"] is None:
        overall = report.metrics["class_metrics"]
        shown = {"Accuracy": overall["accuracy"], "Balanced accuracy": overall["balanced_accuracy"]}
        return [(name, share(record["value"]), interval(record)) for name, record in shown.items()]
    auroc = report.metrics["ranking"]["auroc"]
    point = report.metrics["operating_points"]["escape_budget"]
    balanced = report.metrics["operating_points"]["balanced"]["balanced_accuracy"]
    return [
        ("AUROC", decimal(auroc["value"]), interval(auroc, as_share=False)),
        ("Escape rate", share(point["escape_rate"]["value"]), interval(point["escape_rate"])),
        ("Overkill rate", share(point["overkill_rate"]["value"]), interval(point["overkill_rate"])),
        ("Balanced accuracy", share(balanced["value"]), "at the balanced threshold"),
    ]


def _decision_sections(report: EvaluationReport, gallery_size: int) -> list[Section]:
    points = report.metrics["operating_points"]
    thresholds = {THRESHOLD_NAMES[name]: point["threshold_log_odds"] for name, point in points.items()}
    log_odds = report.predictions["log_odds"].to_numpy()
    is_defect = report.predictions["is_defect"].to_numpy(dtype=bool)
    budget = report.metrics["budget"]
    decision = Section(
        "Accept or reject",
        f"An image is rejected when its calibrated defect score reaches the threshold. {budget['statement']}",
        tables=[
            (f"At the {THRESHOLD_NAMES[name]} threshold {point['threshold']:.4g}", _rate_table(point))
            for name, point in points.items()
        ],
        figures=[
            ("ROC", roc_figure(log_odds, is_defect, thresholds)),
            ("Defect scores", score_histogram(log_odds, is_defect, thresholds)),
        ],
        notes=[] if budget["certified"] else ["The escape budget is not certified; see the statement above."],
    )
    if not gallery_size:
        return [decision]
    rejected = report.predictions["decision"].to_numpy() == "reject"
    worst = Section(
        "Worst errors",
        "Escapes are defective parts that were accepted, the most confident first; overkills are good parts rejected.",
        figures=[
            ("Escapes", _worst(report, is_defect & ~rejected, log_odds, "Worst escapes", gallery_size)),
            ("Overkills", _worst(report, ~is_defect & rejected, -log_odds, "Worst overkills", gallery_size)),
        ],
    )
    return [decision, worst]


def _worst(report: EvaluationReport, where: np.ndarray, order: np.ndarray, title: str, size: int) -> Figure:
    chosen = np.flatnonzero(where)
    chosen = chosen[np.argsort(order[chosen], kind="stable")][:size]
    rows = report.predictions.iloc[chosen]
    captions = [
        f"{image}\n{label}\nscore {score:.3f}"
        for image, label, score in zip(rows["image_id"], rows["label"], rows["defect_score"], strict=True)
    ]
    images = [report.pack[int(index)] for index in report.pack_indices[chosen]]
    return gallery(images, captions, f"{title} ({int(where.sum())} in all)")


def _rate_table(point: dict[str, Any]) -> pd.DataFrame:
    rows = []
    for name in (*RATES, "balanced_accuracy", "mcc"):
        record, is_rate = point[name], name in RATES
        show = share if is_rate else decimal
        count = f"{record['numerator']} of {record['denominator']}" if is_rate else ""
        rows.append((name.replace("_", " "), show(record["value"]), interval(record, as_share=is_rate), count))
    return pd.DataFrame(rows, columns=["figure", "value", "interval", "count"])


def _class_section(report: EvaluationReport) -> Section:
    metrics = report.metrics["class_metrics"]
    per_class = pd.DataFrame(
        [
            {
                "class": name,
                "images": values["images"],
                "recall": share(values["recall"]["value"]),
                "recall interval": interval(values["recall"]),
                "precision": share(values["precision"]["value"]),
            }
            for name, values in metrics["per_class"].items()
        ]
    )
    tables, figures = [("Per class", per_class)], []
    if metrics["confusion_matrix"] is not None:
        figures = [("Confusion", confusion_figure(metrics["confusion_matrix"], report.metrics["classes"]))]
    else:
        pairs = pd.DataFrame(metrics["confused_pairs"][:PAIRS_SHOWN])
        if len(pairs):
            pairs["share"] = [f"{share(part)} of the actual class" for part in pairs["share"]]
            tables.append(("The most frequent errors", pairs))
    text = "The class of highest probability, whatever the operating point."
    return Section("Classes", text, tables=tables, figures=figures)


def _range_test_sections(report: EvaluationReport) -> list[Section]:
    """The range tests of the backbone that was trained in the end, by optimizer; none where they were left out."""
    curves = pd.read_parquet(report.context.input("lr_range_test", "curves.parquet"))
    training = json.loads(report.context.input("train", "training.json").read_text(encoding="utf-8"))
    backbone = training["recipe"]["model"]["backbone"]
    curves = curves[curves["backbone"] == backbone]
    if curves.empty:
        return []
    text = report.context.input("lr_range_test", "backbone_bounds.json").read_text(encoding="utf-8")
    figures = [
        (
            f"Range test {name}",
            range_test_figure(curves[curves["optimizer"] == name], record, title=f"Range test: {name}"),
        )
        for name, record in json.loads(text)[backbone].items()
    ]
    section = Section(
        "Learning-rate range test",
        "Short runs under a rising rate show where this model starts to learn and where it diverges. "
        "They find a stable range, not the optimum.",
        figures=figures,
    )
    return [section]
