"""The final training as a generator: epochs, the best of them kept, watched, and all that is to be saved handed out.

It knows no console, no tracker and no folder of its own. After each epoch it yields plain values to commit,
and whoever asks for the next epoch has committed them: so it runs in this process as well as on any worker, and an
interruption costs one epoch at most. The weights are those that were scored: the averages of a schedule-free optimizer,
or of the recipe's own averaging, where there are any.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from components.training.engine import EpochRecord, Learner, StepRecord
from components.training.watch import MonitoredTraining
from pipeline.compute.spreading import Place
from pipeline.config import TrainConfig
from pipeline.sections.learning_rate import MonitorConfig
from pipeline.sections.recipe import Recipe
from pipeline.training.build import (
    TrainingData,
    held_out_batch,
    loader_workers,
    loss_of_constant,
    new_learner,
    run_epochs,
    steps_per_epoch,
)
from pipeline.training.progress import Progress
from pipeline.training.retuning import Changes, stretch_at, stretches, take_up, within

State = dict[str, Any]
#: Against a training that diverges.
REMEDY = "lower recipe.lr, lengthen recipe.warmup_epochs, or set recipe.clip_grad_norm"


@dataclass(frozen=True, kw_only=True)
class FinalTraining:
    """What is trained, in plain values that reach any worker.

    changes: (epoch, overrides) in order: from the end of that epoch on, the recipe goes on with other settings.
    """

    recipe: Recipe
    seed: int
    train: TrainConfig
    monitor: MonitorConfig
    changes: Changes


@dataclass(frozen=True, kw_only=True)
class Saved:
    """What to commit after an epoch, also after one that the monitor has undone at once.

    state: what the training goes on from: learner, monitor and progress, which names the files of weights to keep. In
    process its tensors are the learner's own, so that it has to be written before the next epoch is asked for.
    weights: what goes into the file that the progress names for this epoch, `weights` and `val_logits` (N, K); None
    where it is not one to keep. steps: those of the epoch.
    """

    state: State
    weights: dict[str, Any] | None
    epoch: EpochRecord
    steps: list[StepRecord]


@dataclass(frozen=True, kw_only=True)
class Ended:
    """How a training ended, yielded last.

    failure: in words for the user, why it counts for nothing; None where there is an epoch to keep. diverged: the epoch
    in which loss or gradient ceased to be finite, None where that did not end it. ledger, advice: the monitor's. steps:
    those after the last whole epoch.
    """

    failure: str | None
    diverged: int | None
    ledger: list[dict[str, Any]]
    advice: list[str]
    steps: list[StepRecord]


def train_by_epochs(
    training: FinalTraining,
    place: Place,
    *,
    earlier: State | None,
    on_step: Callable[[StepRecord], None] = lambda record: None,
) -> Iterator[Saved | Ended]:
    """Epochs up to the last, until patience is out, or until the monitor stops it; from an earlier state on.

    A training that diverges is no exception: its end says so.
    """
    data = place.open()
    learner = new_learner(
        training.recipe, data, total_epochs=training.train.epochs, seed=training.seed, compute=place.compute
    )
    monitor = new_monitor(training, data, learner)
    progress = _gone_on_with(earlier, learner, monitor)
    scored: dict[str, Any] = {}

    def keep(model: nn.Module, logits: np.ndarray) -> None:
        scored["weights"] = {name: tensor.detach().to("cpu", copy=True) for name, tensor in model.state_dict().items()}
        scored["val_logits"] = torch.from_numpy(logits)

    def count(records: Sequence[StepRecord]) -> None:
        for record in records:
            progress.add_step(record)
            on_step(record)

    course = stretches(training.recipe, training.changes, epochs=training.train.epochs)
    diverged: EpochRecord | None = None
    while diverged is None and not _is_over(training, learner, progress, monitor):
        stretch = stretch_at(course, learner.epoch)
        if len(course) > 1:
            take_up(learner, stretch.recipe, data)
        run = functools.partial(
            run_epochs,
            learner,
            stretch.recipe,
            data,
            until=stretch.until,
            workers=loader_workers(place.compute),
            on_steps=count,
            on_scored=keep,
        )
        with contextlib.closing(within(stretch, run, monitor)) as epochs:
            for record in epochs:
                if record.diverged:
                    diverged = record
                    break
                progress.add_epoch(record)
                undoable = training.monitor.action == "rollback"
                yield _saved(record, learner, progress, monitor, dict(scored), undoable=undoable)
                if _is_over(training, learner, progress, monitor) or learner.epoch < stretch.start:
                    break
    yield _ended(training, progress, monitor, diverged)


def new_monitor(training: FinalTraining, data: TrainingData, learner: Learner) -> MonitoredTraining | None:
    """The monitor that the configuration asks for. Its probe is drawn by the training's seed."""
    settings = training.monitor
    if settings.action == "none":
        return None
    return MonitoredTraining(
        held_out_batch(data, size=settings.probe_images, seed=learner.seed),
        action=settings.action,
        max_rollbacks=settings.max_rollbacks,
        probe_every=settings.probe_every,
        total_steps=steps_per_epoch(training.recipe, data) * training.train.epochs,
        chance_loss=loss_of_constant(training.recipe, data),
    )


def _gone_on_with(earlier: State | None, learner: Learner, monitor: MonitoredTraining | None) -> Progress:
    """Load what an interrupted training left, where there is any."""
    if earlier is None:
        return Progress()
    learner.load_state_dict(earlier["learner"])
    if monitor is not None:
        monitor.load_state_dict(earlier["monitor"])
    return Progress.from_state(earlier)


def _saved(
    record: EpochRecord,
    learner: Learner,
    progress: Progress,
    monitor: MonitoredTraining | None,
    scored: dict[str, Any],
    *,
    undoable: bool,
) -> Saved:
    """What is to be committed after an epoch, or after the one that the monitor went back to at its end.

    undoable: a rollback may undo the best epoch, so that the weights of those that led before it are kept as well.
    """
    steps = progress.steps_of(record)
    if progress.best_epoch == record.epoch:
        if not undoable:
            progress.weights.clear()
        progress.weights[record.epoch] = f"weights-{progress.trained}.pt"
    progress.cut(learner.epoch)
    state = {"learner": learner.state_dict(), "monitor": monitor.state_dict() if monitor else None}
    return Saved(
        state=state | progress.state_dict(),
        weights=scored if record.epoch in progress.weights else None,
        epoch=record,
        steps=steps,
    )


def _is_over(training: FinalTraining, learner: Learner, progress: Progress, monitor: MonitoredTraining | None) -> bool:
    """At the last epoch, out of patience, or stopped by the monitor, be it before an interruption."""
    stopped = monitor is not None and any(entry["action"] == "stop" for entry in monitor.ledger)
    return stopped or learner.epoch >= training.train.epochs or progress.without_gain() >= training.train.patience


def _ended(
    training: FinalTraining, progress: Progress, monitor: MonitoredTraining | None, diverged: EpochRecord | None
) -> Ended:
    whole = progress.history[-1].step if progress.history else 0
    return Ended(
        failure=_failure(training, progress, monitor, diverged),
        diverged=diverged.epoch if diverged else None,
        ledger=list(monitor.ledger) if monitor else [],
        advice=monitor.advice() if monitor else [],
        steps=[step for step in progress.steps if step.step > whole],
    )


def _failure(
    training: FinalTraining, progress: Progress, monitor: MonitoredTraining | None, diverged: EpochRecord | None
) -> str | None:
    """None, unless there is no epoch to keep, or it diverged and the monitor was not there to end it."""
    if diverged is not None and (training.monitor.action not in ("stop", "rollback") or not progress.has_learned()):
        return f"recipe.lr={diverged.lr:.2e}: training diverged in epoch {diverged.epoch}; {_remedy(monitor)}"
    if progress.has_learned():
        return None
    lr = training.recipe.recipe.lr
    shown = lr if isinstance(lr, str) else f"{lr:.2e}"
    how = "training diverged, so that the outputs of every epoch are not finite"
    if not progress.history:
        how = "the monitor stopped the training in its first epoch"
    return f"recipe.lr={shown}: {how}; {_remedy(monitor)}"


def _remedy(monitor: MonitoredTraining | None) -> str:
    advice = monitor.advice() if monitor is not None else []
    return " ".join([REMEDY + ("." if advice else ""), *advice])
