"""train: the best recipe at full length, then calibration and the operating point, then the model that leaves.

The calibration split is used here once, after the weights are final; neither the search nor early stopping saw it.
"""

from __future__ import annotations

import json
import math
import platform
import shutil
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from components.errors import InputError
from components.evaluation.calibration import Calibration, apply_calibration, defect_scores, fit_calibration
from components.evaluation.operating_point import OperatingPoint, choose_operating_point
from components.report.figures import learning_curves
from components.serving.bundle import ModelCard, save_bundle
from components.serving.export import ARTIFACT, MODEL_CONFIG, PYFUNC_FILE, pip_requirements, signature_fields
from components.tracking import save_pyfunc
from components.training.checkpoint import load_checkpoint, save_checkpoint
from components.training.engine import EpochRecord, Learner
from pipeline.config import ModelConfig, OperatingPointConfig, Recipe, RecipeConfig, TrainConfig
from pipeline.loading import override
from pipeline.machine import cpu_threads
from pipeline.sources import log_lineage
from pipeline.stage import StageContext
from pipeline.training import (
    TrainingData,
    loader_workers,
    new_learner,
    open_data,
    predict_split,
    run_epochs,
    softmax,
    steps_per_epoch,
    use_threads,
)


def run(
    context: StageContext,
    *,
    seed: int,
    model: ModelConfig,
    recipe: RecipeConfig,
    train: TrainConfig,
    operating_point: OperatingPointConfig,
) -> dict[str, Any]:
    """Train, calibrate, choose the threshold, write the model and what led to it."""
    data = open_data(context.inputs["prepare"].directory)
    log_lineage(context.run, context.inputs["prepare"].directory, used_for="training")
    best = json.loads(context.input("search", "best.json").read_text(encoding="utf-8"))
    chosen = override(Recipe(model=model, recipe=recipe), best["overrides"])
    use_threads(cpu_threads(context.compute))
    learner = new_learner(chosen, data, total_epochs=train.epochs, seed=seed, compute=context.compute)
    with context.run.system_metrics():
        history = _train(context, learner, chosen, data, train)
    best_epoch = _best_epoch(history)
    learner.scored.load_state_dict(_load(_weights_file(context, best_epoch), learner)["weights"])
    table = _history_table(history)
    table.to_parquet(context.directory / "history.parquet", index=False)
    figure = learning_curves(table, best_epoch=best_epoch)
    context.run.log_figure(figure, "figures/learning_curves.png")
    calibration, point = _calibrate(context, learner, data, operating_point)
    card = _model_card(context, learner, chosen, data, calibration, point)
    model_id = _export(context, learner, data, card)
    outcome = {"model_id": model_id, "best_epoch": best_epoch, "recipe": chosen.model_dump(mode="json")}
    (context.directory / "training.json").write_text(json.dumps(outcome, indent=2), encoding="utf-8")
    if point is not None:
        context.console.say(f"  {point.statement}")
    kept = next(record for record in history if record.epoch == best_epoch)
    return {
        "epochs": len(history),
        "best_epoch": best_epoch,
        "kept_val_score": kept.metrics["val_score"],
        "kept_val_loss": kept.metrics["val_loss"],
        "threshold": point.threshold if point else None,
        "budget_certified": point.certified if point else None,
        "median_images_per_second": float(np.median([record.images_per_second for record in history])),
    }


def _train(
    context: StageContext, learner: Learner, recipe: Recipe, data: TrainingData, train: TrainConfig
) -> list[EpochRecord]:
    """Epochs up to the last, or until patience is out; goes on from the last checkpoint where there is one."""
    last = context.work / "last.pt"
    history: list[EpochRecord] = []
    if last.is_file():
        state = _load(last, learner)
        learner.load_state_dict(state["learner"])
        history = [EpochRecord(**record) for record in state["history"]]
        context.console.say(f"  going on after epoch {learner.epoch}")
        _log_missing(context, history)
    steps = steps_per_epoch(recipe, data) * train.epochs
    with context.console.bar("training", steps, done=learner.step) as advance:
        epochs = run_epochs(
            learner,
            recipe,
            data,
            until=train.epochs,
            workers=loader_workers(context.compute),
            on_step=lambda record: advance(1, note=f"epoch {learner.epoch + 1}/{train.epochs}  {_note(history)}"),
        )
        while not _out_of_patience(history, train.patience) and (record := next(epochs, None)) is not None:
            if record.diverged:
                raise InputError(
                    f"recipe.lr={record.lr:.2e}: training diverged in epoch {record.epoch}; "
                    "lower recipe.lr, lengthen recipe.warmup_epochs, or set recipe.clip_grad_norm"
                )
            history.append(record)
            _save(context, learner, history)
            _log_epoch(context, record)
    return history


def _save(context: StageContext, learner: Learner, history: list[EpochRecord]) -> None:
    """Commit an epoch: `last.pt` is written last, and its history says which epoch's weights are the best.

    Until it stands, the file of the best weights that the earlier `last.pt` means is kept.
    """
    best = _weights_file(context, _best_epoch(history))
    if _best_epoch(history) == learner.epoch:
        save_checkpoint(best, {"weights": learner.scored.state_dict()})
    state = {"learner": learner.state_dict(), "history": [asdict(record) for record in history]}
    save_checkpoint(context.work / "last.pt", state)
    for file in context.work.glob("best-*.pt"):
        if file != best:
            file.unlink()


def _weights_file(context: StageContext, epoch: int) -> Path:
    return context.work / f"best-{epoch}.pt"


def _note(history: list[EpochRecord]) -> str:
    if not history:
        return ""
    best = max(history, key=_rank)
    return f"best score {best.metrics['val_score']:.4f} (epoch {best.epoch})"


def _log_missing(context: StageContext, history: list[EpochRecord]) -> None:
    """Log the epochs that the run lacks: an epoch is saved before it is logged."""
    logged = {metric.step for metric in context.run.client.get_metric_history(context.run.id, "train_loss")}
    for record in history:
        if record.epoch not in logged:
            _log_epoch(context, record)


def _log_epoch(context: StageContext, record: EpochRecord) -> None:
    values = asdict(record)
    metrics = values.pop("metrics")
    numbers = {key: value for key, value in (values | metrics).items() if key not in ("epoch", "diverged")}
    context.run.log_metrics(numbers, step=record.epoch)


def _best_epoch(history: list[EpochRecord]) -> int:
    """The epoch of the best validation score; of equal ones the first."""
    return max(history, key=_rank).epoch


def _rank(record: EpochRecord) -> tuple[float, int]:
    """Greater is better. A score that is NaN is below every other: no comparison with NaN would hold."""
    score = record.metrics["val_score"]
    return (-math.inf if math.isnan(score) else score, -record.epoch)


def _out_of_patience(history: list[EpochRecord], patience: int) -> bool:
    return bool(history) and history[-1].epoch - _best_epoch(history) >= patience


def _history_table(history: list[EpochRecord]) -> pd.DataFrame:
    rows = [{**asdict(record), **record.metrics} for record in history]
    return pd.DataFrame(rows).drop(columns=["metrics"])


def _load(path: Path, learner: Learner) -> dict[str, Any]:
    return load_checkpoint(path, device=learner.device.target)


def _calibrate(
    context: StageContext, learner: Learner, data: TrainingData, settings: OperatingPointConfig
) -> tuple[Calibration, OperatingPoint | None]:
    """Scale and bias, then the threshold, on the calibration split; its predictions are kept as a file."""
    rows = data.manifest[data.manifest["split"] == "calibration"]
    images = data.split("calibration")
    logits = predict_split(learner.scored, images, learner)
    if not np.isfinite(logits).all():
        raise RuntimeError("the trained model gives outputs that are not finite on the calibration split")
    probabilities = softmax(logits)
    table = rows[["image_id", "path", "label", "is_defect", "group"]].reset_index(drop=True)
    for position, name in enumerate(data.classes):
        table[f"p_{name}"] = probabilities[:, position]
    calibration, point = Calibration(1.0, 0.0), None
    if data.good_classes:
        raw = defect_scores(probabilities, data.classes, data.good_classes)
        is_defect = rows["is_defect"].to_numpy(dtype=bool)
        calibration = fit_calibration(raw, is_defect)
        scores = apply_calibration(raw, calibration)
        table["defect_score"] = scores
        # The line decides on images, and an image by its worst tile.
        files = rows.assign(score=scores, is_defect=is_defect).groupby("path", sort=False)
        point = choose_operating_point(
            files["score"].max().to_numpy(),
            files["is_defect"].any().to_numpy(),
            escape_budget=settings.escape_budget,
            confidence=settings.confidence,
            groups=files["group"].first().to_numpy(),
        )
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
        backbone=recipe.model.backbone,
        num_classes=len(data.classes),
        classes=data.classes,
        good_classes=data.good_classes,
        framing=asdict(data.framing),
        mean=_triple(preprocessing.mean255),
        std=_triple(preprocessing.std255),
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
    bundle = save_bundle(
        context.work / "bundle", state_dict=_plain(learner.scored.state_dict()), card=card, seen_images=seen
    )
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
    params = {"backbone": card.backbone, "image_size": card.framing["size"], "classes": ",".join(card.classes)}
    return context.tracker.log_model(context.run, target, name="model", params=params)


def _plain(state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: tensor.detach().cpu() for name, tensor in state.items()}
