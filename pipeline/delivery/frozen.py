"""The classifier on frozen features, of the stage embed: as a member of a model, and as a model by itself."""

from __future__ import annotations

import json

import numpy as np
from safetensors.torch import load_file

from components.evaluation.operating_point import Evidence, OperatingPoint
from components.serving.card import Member, ModelCard
from pipeline.config import OperatingPointConfig
from pipeline.delivery.decision import decide
from pipeline.delivery.export import Part, export_model, model_card
from pipeline.stage import StageContext
from pipeline.training.data import TrainingData


def frozen_part(context: StageContext) -> Part:
    """With a weight of 1, as in a model of its own."""
    best = json.loads(context.input("embed", "embedding.json").read_text(encoding="utf-8"))["best"]
    member = Member(
        kind="frozen",
        backbone=best["backbone"],
        input_size=best["image_size"],
        mean=tuple(best["mean"]),
        std=tuple(best["std"]),
        weight=1.0,
        views=tuple(best["views"]),
    )
    return Part(member=member, state=load_file(context.input("embed", "frozen.safetensors")))


def export_frozen(
    context: StageContext, data: TrainingData, settings: OperatingPointConfig, *, name: str
) -> tuple[str, ModelCard, OperatingPoint | None]:
    """Calibrate its scores, choose the threshold, write model/ and operating_point.json, log the model under the name.

    The scores are out of fold, without the fold on which candidates were compared, or those of the calibration split.
    Returns the model's MLflow id, its card and its operating point.
    """
    record = json.loads(context.input("embed", "embedding.json").read_text(encoding="utf-8"))
    logits = np.load(context.input("embed", "frozen_logits.npy"), allow_pickle=False).astype(np.float64)
    scored = np.isfinite(logits).all(axis=1)
    evidence = Evidence("held_out", folds=0, choices=1)
    if data.folds:
        compared_on = tuple(record["not_certifying"])
        evidence = Evidence("out_of_fold", folds=data.folds, choices=1, not_certifying=compared_on)
    else:
        scored &= data.manifest["split"].eq("calibration").to_numpy()
    calibration, point = decide(context, data, logits[scored], data.manifest[scored], settings, evidence=evidence)
    part = frozen_part(context)
    card = model_card(
        context, data, [part.member], recipe=None, precision="float32", calibration=calibration, point=point
    )
    return export_model(context, data, card, [part], name=name), card, point
