"""evaluate: the test split, read here and nowhere else, at the threshold that training fixed.

Writes `metrics.json` (its schema: docs/metrics.md), the predictions and `report.html`, one self-contained file.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from scipy import special

from components.data.loader import eval_batch_size, eval_batches, image_set
from components.data.manifest import load_manifest
from components.data.pack.reader import open_pack
from components.errors import InputError
from components.evaluation.calibration import (
    Calibration,
    calibrate_log_odds,
    calibrated_probabilities,
    defect_log_odds,
)
from components.evaluation.metrics import class_metrics, inspection_metrics, ranking_metrics
from components.serving.bundle import ModelCard, load_bundle
from components.training.engine import Preprocessing, predict
from pipeline.compute.machine import cpu_threads, driver_compute
from pipeline.config import EvaluateConfig
from pipeline.data.per_file import worst_per_file
from pipeline.data.sources import log_lineage
from pipeline.reports.evaluation import EvaluationReport, write_report
from pipeline.stage import StageContext
from pipeline.training.build import bare_model, probability_table, resolve_device, use_threads

METRICS_VERSION = 2


def run(context: StageContext, *, seed: int, evaluate: EvaluateConfig) -> dict[str, Any]:
    """Predict the test split with the exported weights, measure, write metrics, predictions and the report."""
    use_threads(cpu_threads(context.compute))
    prepared = context.inputs["prepare"].directory
    log_lineage(context.run, prepared, used_for="evaluation")
    manifest = load_manifest(prepared / "manifest.parquet")
    test = manifest[manifest["split"] == "test"].reset_index(drop=True)
    card, state = load_bundle(context.input("train", "model"))
    logits = _logits(context, card, state, manifest)
    calibration = Calibration.from_dict(card.calibration)
    probabilities = calibrated_probabilities(logits, np.isin(card.classes, card.good_classes), calibration)
    predictions = _prediction_table(test, probabilities, card)
    if card.operating_point is not None:
        log_odds = calibrate_log_odds(defect_log_odds(logits, card.classes, card.good_classes), calibration)
        predictions = _decided(predictions, log_odds, card.operating_point)
    predictions.to_parquet(context.directory / "test_predictions.parquet", index=False)
    metrics = _measure(predictions, probabilities, card, evaluate, seed)
    text = json.dumps(metrics, indent=2, allow_nan=False)
    (context.directory / "metrics.json").write_text(text, encoding="utf-8")
    headline = _headline(metrics)
    report = EvaluationReport(
        context=context,
        card=card,
        metrics=metrics,
        predictions=predictions,
        pack=open_pack(prepared),
        pack_indices=test["pack_index"].to_numpy(),
    )
    write_report(report, gallery_size=evaluate.gallery_size)
    for name in ("metrics.json", "report.html", "test_predictions.parquet"):
        context.run.log_artifact(context.directory / name)
    return headline


def _logits(context: StageContext, card: ModelCard, state: dict[str, Any], manifest: pd.DataFrame) -> np.ndarray:
    """(N, K) logits of the test split."""
    device = resolve_device(driver_compute(context.compute))
    images = image_set(manifest, open_pack(context.inputs["prepare"].directory), "test", card.classes)
    with context.console.bar("predicting", len(images)) as advance:

        def batches() -> Any:  # noqa: ANN401 - an iterator of batches
            for batch in eval_batches(images, batch_size=eval_batch_size(card.framing["size"], trained=1)):
                yield batch
                advance(len(batch.labels))

        logits = predict(
            bare_model(card, state, device),
            batches(),
            device=device,
            preprocessing=Preprocessing.from_unit_scale(card.mean, card.std, size=card.input_size),
        )
    if not np.isfinite(logits).all():
        raise InputError(
            f"the trained model gives outputs that are not finite for {(~np.isfinite(logits).all(axis=1)).sum()} test "
            "images; train it again at a lower recipe.lr, or with compute.precision=float32"
        )
    return logits


def _prediction_table(test: pd.DataFrame, probabilities: np.ndarray, card: ModelCard) -> pd.DataFrame:
    """One row per test image or tile: what it is, and how likely each class. path: of the file."""
    metadata = [name for name in test.columns if name.startswith("meta_")]
    table = test[["image_id", "path", "sha256", "label", "is_defect", "group", *metadata]].copy()
    table["predicted"] = np.asarray(card.classes)[probabilities.argmax(axis=1)]
    return table.join(probability_table(probabilities, card.classes))


def _decided(table: pd.DataFrame, log_odds: np.ndarray, point: Mapping[str, Any]) -> pd.DataFrame:
    """With the columns defect_score (to read), log_odds (which rank and decide) and decision."""
    rejected = log_odds >= point["threshold_log_odds"]
    return table.assign(
        defect_score=special.expit(log_odds), log_odds=log_odds, decision=np.where(rejected, "reject", "accept")
    )


def _measure(
    table: pd.DataFrame, probabilities: np.ndarray, card: ModelCard, settings: EvaluateConfig, seed: int
) -> dict[str, Any]:
    position = {name: number for number, name in enumerate(card.classes)}
    labels = table["label"].map(position).to_numpy()
    overall = class_metrics(
        probabilities, labels, card.classes, **_resampling(settings, table["group"].to_numpy(), seed)
    )
    metrics: dict[str, Any] = {
        "version": METRICS_VERSION,
        "split": "test",
        "images": len(table),
        "classes": list(card.classes),
        "good_classes": list(card.good_classes),
        "class_metrics": overall,
        "ranking": None,
        "operating_points": {},
        "per_file": None,
    }
    if card.operating_point is not None:
        metrics |= _decision_metrics(table, card.operating_point, settings, seed)
        if table["path"].duplicated().any():
            files = worst_per_file(table)
            metrics["per_file"] = {
                "files": len(files),
                **_decision_metrics(files, card.operating_point, settings, seed),
            }
        metrics["budget"] = {
            key: card.operating_point[key] for key in ("escape_budget", "confidence", "certified", "statement")
        }
    return metrics


def _decision_metrics(
    table: pd.DataFrame, point: Mapping[str, Any], settings: EvaluateConfig, seed: int
) -> dict[str, Any]:
    """`ranking` and `operating_points` of a table with the columns log_odds, is_defect and group."""
    log_odds, is_defect = table["log_odds"].to_numpy(), table["is_defect"].to_numpy(dtype=bool)
    resampling = _resampling(settings, table["group"].to_numpy(), seed)
    thresholds = {"escape_budget": point["threshold_log_odds"], "balanced": point["balanced_threshold_log_odds"]}
    return {
        "ranking": ranking_metrics(log_odds, is_defect, **resampling),
        "operating_points": {
            name: inspection_metrics(log_odds, is_defect, threshold, **resampling)
            for name, threshold in thresholds.items()
        },
    }


def _resampling(settings: EvaluateConfig, groups: np.ndarray, seed: int) -> dict[str, Any]:
    return {
        "confidence": settings.confidence,
        "groups": groups,
        "bootstrap_samples": settings.bootstrap_samples,
        "seed": seed,
    }


def _headline(metrics: dict[str, Any]) -> dict[str, Any]:
    """The figures that the summary, MLflow's run table and the gates look at first."""
    if metrics["ranking"] is None:
        overall = metrics["class_metrics"]
        return {
            "accuracy": overall["accuracy"]["value"],
            "balanced_accuracy": overall["balanced_accuracy"]["value"],
            "mcc": overall["mcc"]["value"],
        }
    at_budget, balanced = (metrics["operating_points"][name] for name in ("escape_budget", "balanced"))
    rates = ("accuracy", "sensitivity", "specificity", "escape_rate", "overkill_rate")
    return {
        "auroc": metrics["ranking"]["auroc"]["value"],
        "average_precision": metrics["ranking"]["average_precision"]["value"],
        "balanced_accuracy": balanced["balanced_accuracy"]["value"],
        **{name: at_budget[name]["value"] for name in rates},
        **_file_headline(metrics["per_file"]),
    }


def _file_headline(per_file: dict[str, Any] | None) -> dict[str, Any]:
    """The rates that the line will see, where an image is judged in tiles."""
    if per_file is None:
        return {}
    point = per_file["operating_points"]["escape_budget"]
    return {f"{name}_per_file": point[name]["value"] for name in ("escape_rate", "overkill_rate")}
