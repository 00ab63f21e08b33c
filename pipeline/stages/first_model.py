"""first_model: the best classifier on frozen features as a model that decides, before anything is trained.

A stage of its own, which no other reads: another budget makes another first model, and nothing else anew.
"""

from __future__ import annotations

import json
import platform
import shutil
from dataclasses import asdict
from typing import Any

import numpy as np
from safetensors.torch import load_file

from components.evaluation.calibration import Calibration, fit_decision
from components.evaluation.operating_point import Evidence, OperatingPoint
from components.serving.bundle import save_bundle
from components.serving.card import Member, ModelCard
from components.serving.export import ARTIFACT, MODEL_CONFIG, PYFUNC_FILE, pip_requirements, signature_fields
from components.tracking import save_pyfunc
from pipeline.config import OperatingPointConfig
from pipeline.data.sources import log_lineage
from pipeline.stage import StageContext
from pipeline.training.build import SELECTION_FOLD, TrainingData, open_data


def run(context: StageContext, *, operating_point: OperatingPointConfig) -> dict[str, Any]:
    """Calibrate the classifier's scores, choose the threshold, write model/ and operating_point.json, log the model."""
    prepared = context.inputs["prepare"].directory
    log_lineage(context.run, prepared, used_for="first model")
    data = open_data(prepared)
    record = json.loads(context.input("embed", "embedding.json").read_text(encoding="utf-8"))
    calibration, point = _decide(context, record, data, operating_point)
    card = _card(context, record, data, calibration, point)
    model_id = _export(context, card, data)
    _announce(context, record, point)
    return {
        "first_model_id": model_id,
        "first_model_certified": point.certified if point else None,
        "first_model_overkill": round(point.overkills / point.goods, 4) if point else None,
    }


def _decide(
    context: StageContext, record: dict[str, Any], data: TrainingData, settings: OperatingPointConfig
) -> tuple[Calibration, OperatingPoint | None]:
    """On the scores out of fold, but for the fold on which candidates were compared; held out on calibration."""
    logits = np.load(context.input("embed", "frozen_logits.npy")).astype(np.float64)
    scored = np.isfinite(logits).all(axis=1)
    if not data.folds:
        scored &= data.manifest["split"].eq("calibration").to_numpy()
    rows, certifying, evidence = data.manifest[scored], None, Evidence("held_out", folds=0, choices=1)
    if data.folds:
        chosen_on = (SELECTION_FOLD,) if len(record["candidates"]) > 1 else ()
        certifying = ~rows["fold"].isin(chosen_on).to_numpy()
        evidence = Evidence("out_of_fold", folds=data.folds, choices=1, not_certifying=chosen_on)
    calibration, point, _ = fit_decision(
        logits[scored],
        rows,
        classes=data.classes,
        good_classes=data.good_classes,
        escape_budget=settings.escape_budget,
        confidence=settings.confidence,
        evidence=evidence,
        certifying=certifying,
    )
    if calibration.note:
        context.console.warn(f"calibration of the first model: {calibration.note}")
    chosen = {"calibration": calibration.to_dict(), "operating_point": point.to_dict() if point else None}
    (context.directory / "operating_point.json").write_text(json.dumps(chosen, indent=2), encoding="utf-8")
    context.run.log_artifact(context.directory / "operating_point.json")
    return calibration, point


def _card(
    context: StageContext,
    record: dict[str, Any],
    data: TrainingData,
    calibration: Calibration,
    point: OperatingPoint | None,
) -> ModelCard:
    best = record["best"]
    report = json.loads(context.input("prepare", "data_report.json").read_text(encoding="utf-8"))
    return ModelCard(
        name=f"frozen-{best['backbone']}-{context.run.id[:8]}",
        num_classes=len(data.classes),
        classes=data.classes,
        good_classes=data.good_classes,
        framing=asdict(data.pack.framing),
        members=(
            Member(
                kind="frozen",
                backbone=best["backbone"],
                input_size=best["image_size"],
                mean=tuple(best["mean"]),
                std=tuple(best["std"]),
                weight=1.0,
                views=(0,),
            ),
        ),
        precision="float32",
        calibration={"scale": calibration.scale, "bias": calibration.bias},
        operating_point=point.to_dict() if point else None,
        provenance={
            "run_id": context.run.id,
            "commit": context.commit,
            "versions": {"python": platform.python_version(), **dict(pin.split("==") for pin in pip_requirements())},
            "manifest_digest": report["digest"],
            "fingerprints": {name: made.fingerprint for name, made in context.inputs.items()},
        },
    )


def _export(context: StageContext, card: ModelCard, data: TrainingData) -> str:
    """Write the bundle and the MLflow model around it, and log the model; its MLflow id."""
    seen = data.manifest.loc[data.manifest["split"] != "test", "sha256"].tolist()
    state = load_file(context.input("embed", "frozen.safetensors"))
    bundle = save_bundle(context.work / "bundle", states=[state], card=card, seen_images=seen)
    target = context.directory / "model"
    shutil.rmtree(target, ignore_errors=True)  # left by an export that was interrupted
    save_pyfunc(
        target,
        code=PYFUNC_FILE,
        artifacts={ARTIFACT: bundle},
        requirements=pip_requirements(),
        signature_fields=signature_fields(card),
        model_config=MODEL_CONFIG,
    )
    params = {"members": card.summary, "classes": ",".join(card.classes)}
    return context.tracker.log_model(context.run, target, name="first_model", params=params)


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
