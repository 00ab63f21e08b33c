"""The final training: epochs, the best of them kept, watched, and saved so that an interruption costs one at most.

After each epoch `last.pt` is written last. It names the file that holds the best epoch's weights, so that the two
cannot disagree; a file of weights is never written over. The weights are those that were scored: the averages of a
schedule-free optimizer, or of the recipe's own averaging, where there are any.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import numpy as np
import torch
from torch import nn

from components.errors import InputError
from components.training.checkpoint import load_checkpoint, save_checkpoint
from components.training.engine import EpochRecord, Learner, StepRecord
from components.training.watch import MonitoredTraining
from pipeline.config import TrainConfig
from pipeline.progress import Progress
from pipeline.sections.rates import MonitorConfig
from pipeline.sections.recipe import Recipe
from pipeline.stage import StageContext
from pipeline.training import (
    TrainingData,
    held_out_batch,
    loader_workers,
    loss_of_constant,
    run_epochs,
    steps_per_epoch,
)

Weights = dict[str, torch.Tensor]


def train_to_the_end(
    context: StageContext,
    learner: Learner,
    recipe: Recipe,
    data: TrainingData,
    *,
    train: TrainConfig,
    settings: MonitorConfig,
) -> tuple[Progress, MonitoredTraining | None]:
    """Epochs up to the last, until patience is out, or until the monitor stops it; from the last checkpoint on.

    Returns what came of it, and the monitor. Raises `InputError` when it diverged and nothing was to be done about it,
    or before there was an epoch to keep.
    """
    monitor = new_monitor(recipe, data, settings, learner=learner, epochs=train.epochs)
    progress = _resumed(context, learner, monitor)
    total = steps_per_epoch(recipe, data) * train.epochs
    scored: Weights = {}

    def keep(model: nn.Module, logits: np.ndarray) -> None:
        scored.update((name, tensor.detach().to("cpu", copy=True)) for name, tensor in model.state_dict().items())

    with context.console.bar("training", total, done=learner.step) as advance:
        shown = learner.step

        def count(record: StepRecord) -> None:
            nonlocal shown
            progress.add_step(record)
            advance(record.step - shown, note=f"epoch {learner.epoch + 1}/{train.epochs}  {_note(progress)}")
            shown = record.step

        epochs = run_epochs(
            learner,
            recipe,
            data,
            until=train.epochs,
            workers=loader_workers(context.compute),
            on_step=count,
            on_scored=keep,
            watcher=monitor,
        )
        while not _is_over(progress, monitor, train) and (record := next(epochs, None)) is not None:
            if record.diverged:
                _give_up_or_keep(progress, monitor, settings, record)
                context.console.warn(f"training diverged in epoch {record.epoch}; the best epoch before it is kept")
                break
            progress.add_epoch(record)
            save(context, learner, progress, scored, monitor, undoable=settings.action == "rollback")
            log_epoch(context, progress, record)
    if not progress.history:
        raise InputError(
            f"recipe.lr={_lr(recipe)}: the monitor stopped the training in its first epoch; {_remedy(monitor)}"
        )
    _log_steps(context, [step for step in progress.steps if step.step > progress.history[-1].step])
    return progress, monitor


def new_monitor(
    recipe: Recipe, data: TrainingData, settings: MonitorConfig, *, learner: Learner, epochs: int
) -> MonitoredTraining | None:
    """The monitor that the configuration asks for. Its probe is drawn by the training's seed."""
    if settings.action == "none":
        return None
    return MonitoredTraining(
        held_out_batch(data, size=settings.probe_images, seed=learner.seed),
        action=settings.action,
        max_rollbacks=settings.max_rollbacks,
        probe_every=settings.probe_every,
        total_steps=steps_per_epoch(recipe, data) * epochs,
        chance_loss=loss_of_constant(recipe, data),
    )


def save(
    context: StageContext,
    learner: Learner,
    progress: Progress,
    scored: Weights,
    monitor: MonitoredTraining | None,
    *,
    undoable: bool,
) -> None:
    """Commit the last epoch, or the one that the monitor went back to after it.

    Until `last.pt` stands, all files of weights that the earlier one names are kept.
    undoable: a rollback may undo the best epoch, so that the weights of those that led before it are kept as well.
    """
    epoch = progress.history[-1].epoch
    if progress.best_epoch == epoch:
        if not undoable:
            progress.weights.clear()
        progress.weights[epoch] = f"weights-{progress.trained}.pt"
        save_checkpoint(context.work / progress.weights[epoch], {"weights": scored})
    progress.cut(learner.epoch)
    state = {"learner": learner.state_dict(), "monitor": monitor.state_dict() if monitor else None}
    save_checkpoint(context.work / "last.pt", state | progress.state_dict())
    for file in context.work.glob("weights-*.pt"):
        if file.name not in progress.weights.values():
            file.unlink()


def best_weights(context: StageContext, progress: Progress, learner: Learner) -> Weights:
    """The scored weights of the best epoch."""
    return _load(context, progress.weights[progress.best_epoch], learner)["weights"]


def log_epoch(context: StageContext, progress: Progress, record: EpochRecord) -> None:
    """Log the epoch's steps, then the epoch, which so says that its steps are there."""
    _log_steps(context, progress.steps_of(record))
    values = asdict(record)
    metrics = values.pop("metrics")
    numbers = {key: value for key, value in (values | metrics).items() if key not in ("epoch", "diverged")}
    context.run.log_metrics(numbers, step=record.epoch)


def _log_steps(context: StageContext, steps: list[StepRecord]) -> None:
    context.run.log_history(
        [
            (
                record.step,
                {
                    "step_lr": record.lr,
                    "step_lr_lowest": record.lr_lowest,
                    "step_loss": record.loss,
                    "step_grad_norm": record.grad_norm,
                },
            )
            for record in steps
        ]
    )


def _resumed(context: StageContext, learner: Learner, monitor: MonitoredTraining | None) -> Progress:
    """What an interrupted training left, loaded into the learner and the monitor; nothing where there was none."""
    if not (context.work / "last.pt").is_file():
        return Progress()
    state = _load(context, "last.pt", learner)
    learner.load_state_dict(state["learner"])
    if monitor is not None:
        monitor.load_state_dict(state["monitor"])
    progress = Progress.from_state(state)
    context.console.say(f"  going on after epoch {learner.epoch}")
    log_missing(context, progress)
    return progress


def log_missing(context: StageContext, progress: Progress) -> None:
    """Log the epochs that the run lacks: an epoch is saved before it is logged."""
    logged = {metric.step for metric in context.run.client.get_metric_history(context.run.id, "train_loss")}
    for record in progress.history:
        if record.epoch not in logged:
            log_epoch(context, progress, record)


def _is_over(progress: Progress, monitor: MonitoredTraining | None, train: TrainConfig) -> bool:
    """Out of patience, or stopped by the monitor at the end of an epoch, be it before an interruption."""
    stopped = monitor is not None and any(entry["action"] == "stop" for entry in monitor.ledger)
    return stopped or progress.without_gain() >= train.patience


def _give_up_or_keep(
    progress: Progress, monitor: MonitoredTraining | None, settings: MonitorConfig, record: EpochRecord
) -> None:
    """Raise, unless the monitor is there to end a training that diverged, and there is an epoch to keep."""
    if settings.action in ("stop", "rollback") and progress.history:
        return
    raise InputError(f"recipe.lr={record.lr:.2e}: training diverged in epoch {record.epoch}; {_remedy(monitor)}")


def _remedy(monitor: MonitoredTraining | None) -> str:
    remedy = "lower recipe.lr, lengthen recipe.warmup_epochs, or set recipe.clip_grad_norm"
    advice = monitor.advice() if monitor is not None else []
    return " ".join([remedy + ("." if advice else ""), *advice])


def _lr(recipe: Recipe) -> str:
    return f"{recipe.recipe.lr:.2e}" if not isinstance(recipe.recipe.lr, str) else recipe.recipe.lr


def _note(progress: Progress) -> str:
    if not progress.history:
        return ""
    return f"best score {progress.best.metrics['val_score']:.4f} (epoch {progress.best_epoch})"


def _load(context: StageContext, name: str, learner: Learner) -> dict[str, Any]:
    return load_checkpoint(context.work / name, device=learner.device.target)
