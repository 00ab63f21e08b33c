"""first_model: the best classifier on frozen features as a model that decides, before anything is trained.

A stage of its own, which no other reads: another budget makes another first model, and nothing else anew.
"""

from __future__ import annotations

import json
from typing import Any

from components.evaluation.operating_point import OperatingPoint
from pipeline.config import OperatingPointConfig
from pipeline.data.sources import log_lineage
from pipeline.delivery.frozen import export_frozen
from pipeline.stage import StageContext
from pipeline.training.data import open_data


def run(context: StageContext, *, operating_point: OperatingPointConfig) -> dict[str, Any]:
    """Export the classifier as a model, and say how good it is."""
    prepared = context.inputs["prepare"].directory
    log_lineage(context.run, prepared, used_for="first model")
    model_id, _, point = export_frozen(context, open_data(prepared), operating_point, name="first_model")
    record = json.loads(context.input("embed", "embedding.json").read_text(encoding="utf-8"))
    _announce(context, record, point)
    return {
        "first_model_id": model_id,
        "first_model_certified": point.certified if point else None,
        "first_model_overkill": round(point.overkills / point.goods, 4) if point else None,
    }


def _announce(context: StageContext, record: dict[str, Any], point: OperatingPoint | None) -> None:
    best, name = record["best"], record["separation"].replace("_", " ").replace("auroc", "AUROC")
    limits = (
        "" if best["separation_low"] is None else f" ({best['separation_low']:.3f} to {best['separation_high']:.3f})"
    )
    console = context.console
    console.say(f"  the first model is there: {name} {best['separation']:.3f}{limits}, nothing trained")
    if point is not None:
        console.say(f"  {point.statement}")
    console.say(f"  try it: escapement predict --model {context.directory / 'model'} images/")
