"""train: the confirmed recipe at full length, then calibration, the operating point and the export of the model.

A training of the confirmation is reused, not repeated. The calibration split is used here only, after the training;
neither the search nor early stopping has used it.
"""

from __future__ import annotations

import json
import math
import platform
import shutil
from collections import Counter
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import pandas as pd
import torch

from components.errors import InputError
from components.evaluation.calibration import Calibration, fit_decision
from components.evaluation.operating_point import Evidence, OperatingPoint
from components.optim.range_test.bounds import describe_rates, read_backbone_bounds
from components.report.figures_training import learning_curves
from components.serving.bundle import save_bundle
from components.serving.card import Member, ModelCard
from components.serving.export import ARTIFACT, MODEL_CONFIG, PYFUNC_FILE, pip_requirements, signature_fields
from components.tracking import save_pyfunc
from components.training.engine import Learner
from pipeline.compute.device import use_threads
from pipeline.compute.resources import cpu_threads, driver_compute
from pipeline.config import OperatingPointConfig, TrainConfig
from pipeline.data.sources import log_lineage
from pipeline.overriding import override
from pipeline.sections.learning_rate import MonitorConfig
from pipeline.sections.recipe import ModelConfig, Recipe, RecipeConfig
from pipeline.stage import StageContext
from pipeline.training.build import TrainingData, new_learner, open_data, predict_split
from pipeline.training.checkpoints import TrainingStore, copy_training
from pipeline.training.confirmed import KEPT, Confirmed, read_confirmed
from pipeline.training.job import REMEDY, Ended, TrainingSpec
from pipeline.training.placement import run_training
from pipeline.training.progress import history_rows


def run(
    context: StageContext,
    *,
    seed: int,
    model: ModelConfig,
    recipe: RecipeConfig,
    train: TrainConfig,
    monitor: MonitorConfig,
    operating_point: OperatingPointConfig,
) -> dict[str, Any]:
    """Train, calibrate, choose the threshold, write the model and its records."""
    prepared = context.inputs["prepare"].directory
    log_lineage(context.run, prepared, used_for="training")
    confirmed = read_confirmed(context.input("confirm", "confirmation.json"))
    chosen = override(Recipe(model=model, recipe=recipe), confirmed.overrides)
    spec = TrainingSpec(recipe=chosen, seed=seed, epochs=train.epochs, patience=train.patience, monitor=monitor)
    store = _open_store(context, confirmed)
    with context.run.system_metrics():
        ended = run_training(context, spec, store, known=_range_test_says(context, chosen))
    data, progress = open_data(prepared), store.progress
    use_threads(cpu_threads(context.compute))
    learner = new_learner(chosen, data, total_epochs=train.epochs, seed=seed, compute=driver_compute(context.compute))
    _load_trained(learner, store)
    ledger = _write_ledger(context, ended, monitor)
    _write_history(context, store, learner.stepper.group_names, ledger)
    calibration, point = _calibrate(context, learner, chosen, data, operating_point)
    card = _model_card(context, learner, chosen, data, calibration, point)
    model_id = _export(context, learner, data, card)
    outcome = {
        "model_id": model_id,
        "best_epoch": progress.best.epoch,
        "seed": seed,
        "trained_in": "train" if confirmed.kept_run is None else "confirm",
        "trained_in_run": confirmed.kept_run or context.run.id,
        "recipe": chosen.model_dump(mode="json"),
    }
    (context.directory / "training.json").write_text(json.dumps(outcome, indent=2), encoding="utf-8")
    if point is not None:
        context.console.say(f"  {point.statement}")
    return {
        "epochs": len(progress.history),
        "best_epoch": progress.best.epoch,
        "kept_val_score": progress.best.metrics["val_score"],
        "kept_val_loss": progress.best.metrics["val_loss"],
        "threshold": point.threshold if point else None,
        "budget_certified": point.certified if point else None,
        "median_images_per_second": float(np.median([record.images_per_second for record in progress.history])),
        **_monitor_counts(ledger),
    }


def _open_store(context: StageContext, confirmed: Confirmed) -> TrainingStore:
    """The store of the training, with the epochs of the confirmation or of an interrupted run of this stage."""
    if confirmed.kept_run is not None:
        copy_training(context.input("confirm", KEPT), context.work)
        context.console.say(
            f"  reuses the training of the stage confirm (run {confirmed.kept_run}), which has the same recipe and seed"
        )
    store = TrainingStore(context.work, context.run)
    if store.progress.history and store.ended is None:
        context.console.say(f"  resumes after epoch {store.progress.epochs_done()}")
    return store


def _load_trained(learner: Learner, store: TrainingStore) -> None:
    """Give it the weights that were kept, and the precision that they were trained in, maybe on another machine."""
    assert store.ended is not None
    learner.model.load_state_dict(store.best().weights)
    learner.device = replace(learner.device, precision=store.ended.precision)


def _range_test_says(context: StageContext, recipe: Recipe) -> str:
    """The range test's result for the recipe's optimizer, to append to a message; empty if it was not tested."""
    found = read_backbone_bounds(context.input("lr_range_test", "backbone_bounds.json"))
    bounds = found.get((recipe.model.backbone, recipe.recipe.optimizer))
    return "" if bounds is None else f" ({describe_rates(bounds)})"


def _write_history(
    context: StageContext, store: TrainingStore, group_names: tuple[str, ...], ledger: list[dict[str, Any]]
) -> None:
    """Write history.parquet and steps.parquet, log the latter and the figure of both."""
    history, steps = pd.DataFrame(history_rows(store.progress.history)), store.steps_table(group_names)
    history.to_parquet(context.directory / "history.parquet", index=False)
    steps.to_parquet(context.directory / "steps.parquet", index=False)
    context.run.log_artifact(context.directory / "steps.parquet")
    figure = learning_curves(history, best_epoch=store.progress.best.epoch, steps=steps, ledger=ledger)
    context.log_figure(figure, "figures/learning_curves.png")


def _monitor_counts(ledger: list[dict[str, Any]]) -> dict[str, int]:
    """The number of verdicts, in total and by kind, and of rollbacks."""
    kinds = Counter(entry["kind"] for entry in ledger)
    return {
        "monitor_verdicts": len(ledger),
        "monitor_rollbacks": sum(entry["action"] == "rollback" for entry in ledger),
        **{f"monitor_{kind}": count for kind, count in sorted(kinds.items())},
    }


def _write_ledger(context: StageContext, ended: Ended, settings: MonitorConfig) -> list[dict[str, Any]]:
    """Write and log monitor.json, print the advice; the verdicts."""
    ledger = []
    for entry in ended.ledger:  # JSON has no NaN: what was not measured, or is not finite, is null
        evidence = {key: value if math.isfinite(value) else None for key, value in entry["evidence"].items()}
        ledger.append({**entry, "evidence": evidence})
    values = {"action": settings.action, "advice": ended.advice, "ledger": ledger}
    text = json.dumps(values, indent=2, allow_nan=False)
    (context.directory / "monitor.json").write_text(text, encoding="utf-8")
    context.run.log_artifact(context.directory / "monitor.json")
    for line in ended.advice:
        context.console.warn(line)
    return ledger


def _calibrate(
    context: StageContext, learner: Learner, recipe: Recipe, data: TrainingData, settings: OperatingPointConfig
) -> tuple[Calibration, OperatingPoint | None]:
    """Fit scale and bias, then the threshold, on the calibration split; write its predictions."""
    logits = predict_split(learner.model, data.split("calibration"), learner)
    if not np.isfinite(logits).all():
        raise InputError(
            f"recipe.lr={recipe.recipe.lr:g}: the trained model gives outputs that are not finite on the calibration "
            f"split; {REMEDY}{_range_test_says(context, recipe)}"
        )
    calibration, point, table = fit_decision(
        logits,
        data.manifest[data.manifest["split"] == "calibration"],
        classes=data.classes,
        good_classes=data.good_classes,
        escape_budget=settings.escape_budget,
        confidence=settings.confidence,
        evidence=Evidence("held_out", folds=0, choices=1),
        certifying=None,
    )
    if calibration.note:
        context.console.warn(f"calibration: {calibration.note}")
    table.to_parquet(context.directory / "calibration_predictions.parquet", index=False)
    chosen = {"calibration": calibration.to_dict(), "operating_point": point.to_dict() if point else None}
    (context.directory / "operating_point.json").write_text(json.dumps(chosen, indent=2), encoding="utf-8")
    context.run.log_artifact(context.directory / "operating_point.json")
    return calibration, point


def _model_card(
    context: StageContext,
    learner: Learner,
    recipe: Recipe,
    data: TrainingData,
    calibration: Calibration,
    point: OperatingPoint | None,
) -> ModelCard:
    preprocessing = learner.preprocessing
    report = json.loads(context.input("prepare", "data_report.json").read_text(encoding="utf-8"))
    return ModelCard(
        name=f"{recipe.model.backbone}-{context.run.id[:8]}",
        num_classes=len(data.classes),
        classes=data.classes,
        good_classes=data.good_classes,
        framing=asdict(data.pack.framing),
        members=(
            Member(
                kind="network",
                backbone=recipe.model.backbone,
                input_size=preprocessing.size or data.pack.framing.size,
                mean=_triple(preprocessing.mean255),
                std=_triple(preprocessing.std255),
                weight=1.0,
                views=(0,),
            ),
        ),
        precision=learner.device.precision,
        calibration={"scale": calibration.scale, "bias": calibration.bias},
        operating_point=point.to_dict() if point else None,
        provenance={
            "run_id": context.run.id,
            "commit": context.commit,
            "versions": {"python": platform.python_version(), **dict(pin.split("==") for pin in pip_requirements())},
            "manifest_digest": report["digest"],
            "fingerprints": {name: record.fingerprint for name, record in context.inputs.items()},
            "recipe": recipe.model_dump(mode="json"),
        },
    )


def _triple(values: torch.Tensor) -> tuple[float, float, float]:
    first, second, third = (round(float(value) / 255, 6) for value in values.flatten())
    return first, second, third


def _export(context: StageContext, learner: Learner, data: TrainingData, card: ModelCard) -> str:
    """Write the bundle and the MLflow model around it, and log the model; its MLflow id."""
    seen = data.manifest.loc[data.manifest["split"] != "test", "sha256"].tolist()
    bundle = save_bundle(context.work / "bundle", states=[learner.model.state_dict()], card=card, seen_images=seen)
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
    return context.tracker.log_model(context.run, target, name="model", params=params)
