"""evaluate: measures the model on the test split, which only this stage uses, at the threshold that `deliver` chose.

Writes `metrics.json` (its schema: docs/metrics.md), the predictions and `report.html`, one self-contained file.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import torch

from components.data.loader import Batch, eval_batch_size, eval_batches, image_set
from components.data.manifest import load_manifest
from components.data.pack.reader import open_pack
from components.errors import InputError
from components.evaluation.decision import DecisionRule
from components.evaluation.metrics import Sampling, class_metrics, inspection_metrics, ranking_metrics
from components.evaluation.predictions import prediction_table, worst_per_file
from components.models.forward import Ensemble
from components.serving.bundle import load_ensemble
from components.serving.card import ModelCard
from components.training.engine import forward_all
from pipeline.compute.device import resolve_target, set_up_process
from pipeline.compute.resources import cpu_threads, driver_compute
from pipeline.config import EvaluateConfig
from pipeline.data.sources import log_lineage
from pipeline.reports.evaluation import EvaluationReport, write_report
from pipeline.stage import StageContext

METRICS_VERSION = 4


def run(context: StageContext, *, seed: int, evaluate: EvaluateConfig) -> dict[str, Any]:
    """Predict the test split with the exported weights; write metrics, predictions and the report."""
    set_up_process(cpu_threads(context.compute))
    prepared = context.inputs["prepare"].directory
    log_lineage(context.run, prepared, used_for="evaluation")
    manifest = load_manifest(prepared / "manifest.parquet")
    test = manifest[manifest["split"] == "test"].reset_index(drop=True)
    card, ensemble = load_ensemble(context.input("deliver", "model"), resolve_target(driver_compute(context.compute)))
    decided = DecisionRule.from_card(vars(card)).decide(_logits(context, card, ensemble, manifest))
    predictions = prediction_table(test, decided, card.classes)
    predictions.to_parquet(context.directory / "test_predictions.parquet", index=False)
    metrics = _measure(predictions, decided.probabilities, card, evaluate, seed)
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


def _logits(context: StageContext, card: ModelCard, ensemble: Ensemble, manifest: pd.DataFrame) -> np.ndarray:
    """(N, K) logits of the test split."""
    images = image_set(manifest, open_pack(context.inputs["prepare"].directory), "test", card.classes)
    with context.console.bar("predicting", len(images)) as advance:

        def batches() -> Any:  # noqa: ANN401 - an iterator of batches
            for batch in eval_batches(images, batch_size=eval_batch_size(card.framing["size"], trained=1)):
                yield batch
                advance(len(batch.labels))

        def forward(batch: Batch) -> torch.Tensor:
            return ensemble.logits(batch.images.to(ensemble.device, non_blocking=True))

        logits = forward_all(forward, batches(), ensemble.device)
    if not np.isfinite(logits).all():
        raise InputError(
            f"the trained model gives outputs that are not finite for {(~np.isfinite(logits).all(axis=1)).sum()} test "
            "images; repeat the training with a lower recipe.lr, or with recipe.precision=float32"
        )
    return logits


def _measure(
    table: pd.DataFrame, probabilities: np.ndarray, card: ModelCard, settings: EvaluateConfig, seed: int
) -> dict[str, Any]:
    position = {name: number for number, name in enumerate(card.classes)}
    metrics: dict[str, Any] = {
        "version": METRICS_VERSION,
        "images": len(table),
        "classes": list(card.classes),
        "good_classes": list(card.good_classes),
        "class_metrics": class_metrics(
            probabilities, table["label"].map(position).to_numpy(), card.classes, _sampling(table, settings, seed)
        ),
        "ranking": None,
        "operating_points": {},
        "per_file": None,
    }
    if card.operating_point is not None:
        metrics |= _decision_metrics(table, card.operating_point, settings, seed)
        if table["path"].duplicated().any():
            files = worst_per_file(table)
            measured = _decision_metrics(files, card.operating_point, settings, seed)
            metrics["per_file"] = {"files": len(files), **measured}
        metrics["budget"] = {
            key: card.operating_point[key]
            for key in ("escape_budget", "confidence", "certified", "statement", "evidence")
        }
    return metrics


def _decision_metrics(
    table: pd.DataFrame, point: Mapping[str, Any], settings: EvaluateConfig, seed: int
) -> dict[str, Any]:
    """`ranking` and `operating_points` of a table with the columns log_odds, is_defect and group."""
    log_odds, is_defect = table["log_odds"].to_numpy(), table["is_defect"].to_numpy(dtype=bool)
    sampling = _sampling(table, settings, seed)
    thresholds = {"escape_budget": point["threshold_log_odds"], "balanced": point["balanced_threshold_log_odds"]}
    return {
        "ranking": ranking_metrics(log_odds, is_defect, sampling),
        "operating_points": {
            name: inspection_metrics(log_odds, is_defect, threshold, sampling) for name, threshold in thresholds.items()
        },
    }


def _sampling(table: pd.DataFrame, settings: EvaluateConfig, seed: int) -> Sampling:
    return Sampling(
        groups=table["group"].to_numpy(), confidence=settings.confidence, samples=settings.bootstrap_samples, seed=seed
    )


def _headline(metrics: dict[str, Any]) -> dict[str, Any]:
    """The main figures, for the summary and MLflow's table of runs."""
    if metrics["ranking"] is None:
        overall = metrics["class_metrics"]
        return {
            "accuracy": overall["accuracy"]["value"],
            "balanced_accuracy": overall["balanced_accuracy"]["value"],
            "mcc": overall["mcc"]["value"],
        }
    at_budget, balanced = (metrics["operating_points"][name] for name in ("escape_budget", "balanced"))
    rates = ("accuracy", "sensitivity", "specificity", "escape_rate", "overkill_rate")
    headline = {
        "auroc": metrics["ranking"]["auroc"]["value"],
        "average_precision": metrics["ranking"]["average_precision"]["value"],
        "balanced_accuracy": balanced["balanced_accuracy"]["value"],
        **{name: at_budget[name]["value"] for name in rates},
    }
    if metrics["per_file"] is not None:  # rates of whole images, as in production
        files = metrics["per_file"]["operating_points"]["escape_budget"]
        headline |= {f"{name}_per_file": files[name]["value"] for name in ("escape_rate", "overkill_rate")}
    return headline
