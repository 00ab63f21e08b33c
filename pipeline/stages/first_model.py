"""first_model: the best classifier on frozen features as a model that decides, before anything is trained.

A stage of its own, which no other reads: another budget makes another first model, and nothing else anew.
"""

from __future__ import annotations

import json
from typing import Any

import numpy as np

from components.evaluation.operating_point import Evidence, OperatingPoint
from pipeline.config import OperatingPointConfig
from pipeline.data.sources import log_lineage
from pipeline.delivery.decision import decide
from pipeline.delivery.export import export_model, model_card
from pipeline.delivery.frozen import frozen_part
from pipeline.stage import StageContext
from pipeline.training.build import open_data


def run(context: StageContext, *, operating_point: OperatingPointConfig) -> dict[str, Any]:
    """Calibrate the classifier's scores, choose the threshold, write model/ and operating_point.json, log the model.

    The scores are out of fold, without the fold on which candidates were compared, or those of the calibration split.
    """
    prepared = context.inputs["prepare"].directory
    log_lineage(context.run, prepared, used_for="first model")
    data = open_data(prepared)
    record = json.loads(context.input("embed", "embedding.json").read_text(encoding="utf-8"))
    logits = np.load(context.input("embed", "frozen_logits.npy")).astype(np.float64)
    scored = np.isfinite(logits).all(axis=1)
    evidence = Evidence("held_out", folds=0, choices=1)
    if data.folds:
        compared_on = tuple(record["not_certifying"])
        evidence = Evidence("out_of_fold", folds=data.folds, choices=1, not_certifying=compared_on)
    else:
        scored &= data.manifest["split"].eq("calibration").to_numpy()
    calibration, point = decide(
        context, data, logits[scored], data.manifest[scored], operating_point, evidence=evidence
    )
    part = frozen_part(context)
    card = model_card(
        context, data, [part.member], recipe=None, precision="float32", calibration=calibration, point=point
    )
    model_id = export_model(context, data, card, [part], name="first_model")
    _announce(context, record, point)
    return {
        "first_model_id": model_id,
        "first_model_certified": point.certified if point else None,
        "first_model_overkill": round(point.overkills / point.goods, 4) if point else None,
    }


def _announce(context: StageContext, record: dict[str, Any], point: OperatingPoint | None) -> None:
    best, name = record["candidates"][0], record["separation"].replace("_", " ").replace("auroc", "AUROC")
    limits = (
        "" if best["separation_low"] is None else f" ({best['separation_low']:.3f} to {best['separation_high']:.3f})"
    )
    console = context.console
    console.say(f"  the first model is there: {name} {best['separation']:.3f}{limits}, nothing trained")
    if point is not None:
        console.say(f"  {point.statement}")
    console.say(f"  try it: escapement predict --model {context.directory / 'model'} images/")
