"""The checkpoints of a training: the events of its job as files in a folder, and as metrics of a run.

A training resumes from `state.pt`. It is written last, and names the epochs and weights that belong to it, so that they
are consistent. Every epoch has a file of its own, so that the cost of an epoch does not grow; only `state.pt` is
overwritten. `ended.pt` marks a complete training.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from safetensors.torch import load_file, save_file

from components.metric_writer import MetricWriter
from components.training.checkpoint import load_checkpoint, save_checkpoint
from components.training.engine import EpochRecord, StepRecord
from pipeline.training.job import Ended, Event, Scored, State, epoch_metrics
from pipeline.training.progress import Progress

STATE_FILE, ENDED_FILE = "state.pt", "ended.pt"
WEIGHTS_FILE, LOGITS_FILE, VIEWS_FILE = "weights.safetensors", "val_logits.npy", "val_views.npy"
CPU = torch.device("cpu")


class TrainingStore:
    """The folder of one training and the writer of its metrics.

    progress: the saved epochs. ended: how the training ended; None before.
    """

    def __init__(self, folder: Path, writer: MetricWriter | None = None) -> None:
        """Read the folder, and log what the run lacks: an epoch is saved before it is logged."""
        self.folder, self.writer = folder, writer if writer is not None else MetricWriter()
        self.progress = Progress()
        self.ended: Ended | None = None
        self._steps: dict[int, list[StepRecord]] = {}
        folder.mkdir(parents=True, exist_ok=True)
        if (folder / STATE_FILE).is_file():
            self._open(load_checkpoint(folder / STATE_FILE, device=CPU))
        if (folder / ENDED_FILE).is_file():
            values = load_checkpoint(folder / ENDED_FILE, device=CPU)
            self.ended = Ended(**{**values, "steps": _steps_of_rows(values["steps"])})
            self._log_late(self.ended.steps)

    def state(self) -> State | None:
        """Read the state to resume from; None before the first epoch."""
        path = self.folder / STATE_FILE
        if not path.is_file():
            return None
        history = [asdict(record) for record in self.progress.history]
        return load_checkpoint(path, device=CPU) | {"history": history}

    def save(self, event: Event) -> None:
        """Write the files of an event, then log it."""
        if isinstance(event, Ended):
            self._save_end(event)
            return
        progress = Progress.from_state(event.state)
        rows = {"record": asdict(event.epoch), "steps": _rows(event.steps)}
        save_checkpoint(self._epoch_file(progress.trained), rows)
        if event.scored is not None:
            save_scored(self.folder, event.scored, prefix=f"epoch-{progress.trained}-")
        save_checkpoint(self.folder / STATE_FILE, event.state)
        # Only now the weights of the earlier state are not needed any more.
        needed = tuple(f"epoch-{number}-" for number in progress.weights.values())
        for file in self.folder.glob("epoch-*-*"):
            if not file.name.startswith(needed):
                file.unlink()
        self._add(event.epoch, event.steps)
        self._cut(event.state)
        log_epoch(self.writer, event.epoch, event.steps)

    def best(self) -> Scored:
        """The kept weights and logits, of the best or the last epoch, as the spec says."""
        return load_scored(self.folder, prefix=f"epoch-{self.progress.weights[max(self.progress.weights)]}-")

    def discard(self) -> None:
        """Remove a failed training, so that the next attempt starts from the beginning."""
        for name in (ENDED_FILE, STATE_FILE):
            (self.folder / name).unlink(missing_ok=True)

    def steps(self) -> list[StepRecord]:
        """The steps of all epochs, in order, without those that a rollback has undone."""
        return [step for record in self.progress.history for step in self._steps[record.epoch]]

    def steps_table(self) -> pd.DataFrame:
        """One row per step of a complete training: step, lr_<group> for each parameter group, loss, grad_norm."""
        assert self.ended is not None
        columns = ["step", *(f"lr_{name}" for name in self.ended.groups), "loss", "grad_norm"]
        return pd.DataFrame(_rows(self.steps()).tolist(), columns=columns).astype({"step": int})

    def _open(self, state: State) -> None:
        for number in range(1, state["trained"] + 1):
            values = load_checkpoint(self._epoch_file(number), device=CPU)
            self._add(EpochRecord(**values["record"]), _steps_of_rows(values["steps"]))
        self._cut(state)
        logged = self.writer.logged_steps("train_loss")
        for record in self.progress.history:
            if record.epoch not in logged:
                log_epoch(self.writer, record, self._steps[record.epoch])

    def _add(self, record: EpochRecord, steps: list[StepRecord]) -> None:
        self.progress.cut(record.epoch - 1).history.append(record)
        self._steps[record.epoch] = steps

    def _cut(self, state: State) -> None:
        self.progress.weights, self.progress.trained = dict(state["weights"]), state["trained"]
        self.progress.cut(state["epoch"])

    def _save_end(self, ended: Ended) -> None:
        # Logged first: an interruption between the two would lose what is logged after the end.
        self._log_late(ended.steps)
        save_checkpoint(self.folder / ENDED_FILE, vars(ended) | {"steps": _rows(ended.steps)})
        self.ended = ended
        if self.progress.trained:  # drop the learner's state, the largest part, which is not needed any more
            last = ended.epoch - 1 if ended.reason == "diverged" else ended.epoch
            small = self.progress.state_dict() | {"epoch": last}
            save_checkpoint(self.folder / STATE_FILE, small)
            self._cut(small)

    def _epoch_file(self, number: int) -> Path:
        return self.folder / f"epoch-{number}.pt"

    def _log_late(self, steps: list[StepRecord]) -> None:
        """Log the steps after the last epoch that are not logged yet."""
        logged = self.writer.logged_steps("step/loss") if steps else set()
        log_steps(self.writer, [step for step in steps if step.step not in logged])


def copy_training(source: Path, folder: Path) -> None:
    """Copy a complete training to a folder for another store; the file that marks its end last."""
    shutil.copytree(source, folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns(ENDED_FILE))
    shutil.copy2(source / ENDED_FILE, folder / ENDED_FILE)


def save_scored(folder: Path, scored: Scored, *, prefix: str = "") -> None:
    weights = {name: tensor.contiguous() for name, tensor in scored.weights.items()}
    save_file(weights, folder / f"{prefix}{WEIGHTS_FILE}")
    np.save(folder / f"{prefix}{LOGITS_FILE}", scored.val_logits, allow_pickle=False)
    if scored.views is not None:
        np.save(folder / f"{prefix}{VIEWS_FILE}", scored.views, allow_pickle=False)


def load_scored(folder: Path, *, prefix: str = "") -> Scored:
    logits = np.load(folder / f"{prefix}{LOGITS_FILE}", allow_pickle=False)
    path = folder / f"{prefix}{VIEWS_FILE}"
    views = np.load(path, allow_pickle=False) if path.is_file() else None
    return Scored(weights=load_file(folder / f"{prefix}{WEIGHTS_FILE}"), val_logits=logits, views=views)


def log_epoch(writer: MetricWriter, record: EpochRecord, steps: list[StepRecord]) -> None:
    """Log the epoch's steps, then the epoch: a logged epoch has all its steps."""
    log_steps(writer, steps)
    writer.log_metrics(epoch_metrics(record), step=record.epoch)


def log_steps(writer: MetricWriter, steps: Sequence[StepRecord]) -> None:
    """Log rate, loss and gradient norm of every step, in a group of charts of their own."""
    names = ("lr", "lr_lowest", "loss", "grad_norm")
    writer.log_history([(step.step, {f"step/{name}": getattr(step, name) for name in names}) for step in steps])


def _rows(steps: Sequence[StepRecord]) -> torch.Tensor:
    """Steps as a checkpoint stores them, (N, 3 + groups) float64."""
    return torch.tensor([[s.step, *s.rates, s.loss, s.grad_norm] for s in steps], dtype=torch.float64)


def _steps_of_rows(rows: torch.Tensor) -> list[StepRecord]:
    return [
        StepRecord(int(step), max(rates), min(rates), tuple(rates), loss, grad_norm)
        for step, *rates, loss, grad_norm in rows.tolist()
    ]
