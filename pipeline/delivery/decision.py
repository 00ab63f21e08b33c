"""The decision of a model, calibrated and certified on images that it had not seen, and written down."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd

from components.evaluation.calibration import Calibration, fit_decision
from components.evaluation.operating_point import Evidence, OperatingPoint
from components.evaluation.transfer import SeenScores
from pipeline.config import OperatingPointConfig
from pipeline.stage import StageContext
from pipeline.training.data import TrainingData


def decide(
    context: StageContext,
    data: TrainingData,
    logits: np.ndarray,
    rows: pd.DataFrame,
    settings: OperatingPointConfig,
    *,
    evidence: Evidence,
    seen: SeenScores | None = None,
) -> tuple[Calibration, OperatingPoint | None]:
    """Fit the calibration and the threshold; write calibration_predictions.parquet and operating_point.json.

    logits: (N, K), finite; rows: (N,) of the manifest. seen: see `fit_decision`.
    """
    certifying = None
    if evidence.not_certifying:
        certifying = ~rows["fold"].isin(evidence.not_certifying).to_numpy()
    calibration, point, table = fit_decision(
        logits,
        rows,
        classes=data.classes,
        good_classes=data.good_classes,
        escape_budget=settings.escape_budget,
        confidence=settings.confidence,
        evidence=evidence,
        certifying=certifying,
        seen=seen,
    )
    if calibration.note:
        context.console.warn(f"calibration: {calibration.note}")
    table.to_parquet(context.directory / "calibration_predictions.parquet", index=False)
    chosen = {"calibration": calibration.to_dict(), "operating_point": point.to_dict() if point else None}
    (context.directory / "operating_point.json").write_text(json.dumps(chosen, indent=2), encoding="utf-8")
    context.run.log_artifact(context.directory / "operating_point.json")
    return calibration, point
