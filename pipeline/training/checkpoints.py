"""The one store of a training's checkpoints: what a job hands out, as files in a folder, and as metrics of a run.

`state.pt` is what the training resumes from. It is written last, and names the epochs and weights that belong to it, so
that they cannot disagree. Every epoch has a file of its own, so that what is written per epoch does not grow with the
training; no file but `state.pt` is ever written over. `ended.pt` says that nothing is left to do.
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
WEIGHTS_FILE, LOGITS_FILE = "weights.safetensors", "val_logits.npy"
CPU = torch.device("cpu")


class TrainingStore:
    """One training's folder and where its metrics go.

    progress: what is saved. ended: how it ended, None while it goes on.
    """

    def __init__(self, folder: Path, writer: MetricWriter | None = None) -> None:
        """Open what is in the folder. What of it the run lacks is logged: an epoch is saved first."""
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
        """What the training resumes from, read anew; None before its first epoch."""
        path = self.folder / STATE_FILE
        if not path.is_file():
            return None
        history = [asdict(record) for record in self.progress.history]
        return load_checkpoint(path, device=CPU) | {"history": history}

    def save(self, event: Event) -> None:
        """Write it, then log it."""
        if isinstance(event, Ended):
            self._save_end(event)
            return
        progress = Progress.from_state(event.state)
        rows = {"record": asdict(event.epoch), "steps": _rows(event.steps)}
        save_checkpoint(self._epoch_file(progress.trained), rows)
        if event.scored is not None:
            save_scored(self.folder, event.scored, prefix=f"epoch-{progress.trained}-")
        save_checkpoint(self.folder / STATE_FILE, event.state)
        # Until here, all weights that the earlier state names were needed.
        needed = tuple(f"epoch-{number}-" for number in progress.weights.values())
        for file in self.folder.glob("epoch-*-*"):
            if not file.name.startswith(needed):
                file.unlink()
        self._add(event.epoch, event.steps)
        self._cut(event.state)
        log_epoch(self.writer, event.epoch, event.steps)

    def best(self) -> Scored:
        """What was kept: of the best epoch or the last one, as its spec asked for."""
        return load_scored(self.folder, prefix=f"epoch-{self.progress.weights[max(self.progress.weights)]}-")

    def discard(self) -> None:
        """Forget a training that came to nothing: it is made anew when it is asked for again."""
        for name in (ENDED_FILE, STATE_FILE):
            (self.folder / name).unlink(missing_ok=True)

    def steps(self) -> list[StepRecord]:
        """Of every epoch that counts, in order."""
        return [step for record in self.progress.history for step in self._steps[record.epoch]]

    def steps_table(self, group_names: Sequence[str]) -> pd.DataFrame:
        """One row per step: step, lr_<group> for each parameter group, loss, grad_norm."""
        columns = ["step", *(f"lr_{name}" for name in group_names), "loss", "grad_norm"]
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
        # Logged first: what is logged after the end would be lost to an interruption between the two.
        self._log_late(ended.steps)
        save_checkpoint(self.folder / ENDED_FILE, vars(ended) | {"steps": _rows(ended.steps)})
        self.ended = ended
        state = self.state()
        if state is not None:  # nothing resumes from it any more, and it is larger than all the rest
            small = {name: state[name] for name in ("weights", "trained", "epoch")}
            save_checkpoint(self.folder / STATE_FILE, small)

    def _epoch_file(self, number: int) -> Path:
        return self.folder / f"epoch-{number}.pt"

    def _log_late(self, steps: list[StepRecord]) -> None:
        """Log the steps after the last epoch; none twice, where the end was logged and then interrupted."""
        logged = self.writer.logged_steps("step/loss") if steps else set()
        log_steps(self.writer, [step for step in steps if step.step not in logged])


def copy_training(source: Path, folder: Path) -> None:
    """Copy a training that has ended to where another store opens it; the sign of its end comes last."""
    shutil.copytree(source, folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns(ENDED_FILE))
    shutil.copy2(source / ENDED_FILE, folder / ENDED_FILE)


def save_scored(folder: Path, scored: Scored, *, prefix: str = "") -> None:
    """Write weights and validation logits of an epoch."""
    weights = {name: tensor.contiguous() for name, tensor in scored.weights.items()}
    save_file(weights, folder / f"{prefix}{WEIGHTS_FILE}")
    np.save(folder / f"{prefix}{LOGITS_FILE}", scored.val_logits, allow_pickle=False)


def load_scored(folder: Path, *, prefix: str = "") -> Scored:
    """Read what `save_scored` wrote."""
    logits = np.load(folder / f"{prefix}{LOGITS_FILE}", allow_pickle=False)
    return Scored(weights=load_file(folder / f"{prefix}{WEIGHTS_FILE}"), val_logits=logits)


def log_epoch(writer: MetricWriter, record: EpochRecord, steps: list[StepRecord]) -> None:
    """Log the epoch's steps, then the epoch, which so says that its steps are there."""
    log_steps(writer, steps)
    writer.log_metrics(epoch_metrics(record), step=record.epoch)


def log_steps(writer: MetricWriter, steps: Sequence[StepRecord]) -> None:
    """Log rate, loss and gradient of every step, in a group of charts of their own."""
    names = ("lr", "lr_lowest", "loss", "grad_norm")
    writer.log_history([(step.step, {f"step/{name}": getattr(step, name) for name in names}) for step in steps])


def _rows(steps: Sequence[StepRecord]) -> torch.Tensor:
    """Steps as a checkpoint holds them, (N, 3 + groups) float64."""
    return torch.tensor([[s.step, *s.rates, s.loss, s.grad_norm] for s in steps], dtype=torch.float64)


def _steps_of_rows(rows: torch.Tensor) -> list[StepRecord]:
    return [
        StepRecord(int(step), max(rates), min(rates), tuple(rates), loss, grad_norm)
        for step, *rates, loss, grad_norm in rows.tolist()
    ]
