"""Keeps a training: commits what it hands out to a folder, and logs it to its MLflow run.

After each epoch `last.pt` is written last. It names the file that holds the best epoch's weights, so that the two
cannot disagree; a file of weights is never written over. `ended.pt` says that nothing is left to do.
"""

from __future__ import annotations

import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from components.tracking import Run
from components.training.checkpoint import load_checkpoint, save_checkpoint
from components.training.engine import EpochRecord, StepRecord
from pipeline.training.job import Ended, Saved, State
from pipeline.training.progress import Progress, rows_of_steps, steps_of_rows

LAST, ENDED = "last.pt", "ended.pt"
CPU = torch.device("cpu")


class TrainingKeeper:
    """One training's folder and run.

    folder: its own. progress: what is committed. ended: how it ended, None while it goes on.
    """

    def __init__(self, folder: Path, run: Run) -> None:
        """Take up what stands in the folder. What of it the run lacks is logged: an epoch is saved first."""
        self.progress = Progress()
        self.ended: Ended | None = None
        self.folder, self._run = folder, run
        folder.mkdir(parents=True, exist_ok=True)
        state = self.state()
        if state is not None:
            self.progress = Progress.from_state(state)
            self._log_missing()
        if (folder / ENDED).is_file():
            self.ended = _ended_of(load_checkpoint(folder / ENDED, device=CPU))
            self._log_late(self.ended.steps)

    def state(self) -> State | None:
        """What the training goes on from, read anew; None before its first epoch."""
        path = self.folder / LAST
        return load_checkpoint(path, device=CPU) if path.is_file() else None

    def commit(self, item: Saved | Ended) -> None:
        """Make it stand, then log it."""
        if isinstance(item, Ended):
            # Logged first: what is logged after the end would be lost to an interruption between the two.
            self._log_late(item.steps)
            save_checkpoint(self.folder / ENDED, _state_of(item))
            self.ended = item
            return
        progress = Progress.from_state(item.state)
        if item.weights is not None:
            save_checkpoint(self.folder / progress.weights[item.epoch.epoch], item.weights)
        save_checkpoint(self.folder / LAST, item.state)
        # Until here, all files of weights that the earlier `last.pt` names were needed.
        for file in self.folder.glob("weights-*.pt"):
            if file.name not in progress.weights.values():
                file.unlink()
        self.progress = progress
        log_epoch(self._run, item.epoch, item.steps)

    def best(self) -> dict[str, Any]:
        """Of the best epoch: `weights`, and `val_logits` (N, K), on the CPU."""
        return load_checkpoint(self.folder / self.progress.weights[self.progress.best_epoch], device=CPU)

    def reopen(self) -> None:
        """Take the end back: a training that came to nothing is gone on with when it is asked for again."""
        (self.folder / ENDED).unlink(missing_ok=True)
        self.ended = None

    def _log_missing(self) -> None:
        logged = self._logged_steps("train_loss")
        for record in self.progress.history:
            if record.epoch not in logged:
                log_epoch(self._run, record, self.progress.steps_of(record))

    def _log_late(self, steps: list[StepRecord]) -> None:
        """Log the steps after the last epoch; none twice, where the end was logged and then interrupted."""
        logged = self._logged_steps("step_loss") if steps else set()
        log_steps(self._run, [step for step in steps if step.step not in logged])

    def _logged_steps(self, metric: str) -> set[int]:
        return {entry.step for entry in self._run.client.get_metric_history(self._run.id, metric)}


def copy_training(source: Path, folder: Path) -> None:
    """Copy what stands of a training to where another keeper takes it up; the sign of its end comes last."""
    folder.mkdir(parents=True, exist_ok=True)
    for file in sorted(source.glob("*.pt"), key=lambda file: (file.name == ENDED, file.name == LAST, file.name)):
        shutil.copy2(file, folder / file.name)


def log_epoch(run: Run, record: EpochRecord, steps: list[StepRecord]) -> None:
    """Log the epoch's steps, then the epoch, which so says that its steps are there."""
    log_steps(run, steps)
    values = asdict(record)
    metrics = values.pop("metrics")
    numbers = {key: value for key, value in (values | metrics).items() if key not in ("epoch", "diverged")}
    run.log_metrics(numbers, step=record.epoch)


def log_steps(run: Run, steps: list[StepRecord]) -> None:
    """Log rate, loss and gradient of every step."""
    run.log_history(
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


def _state_of(ended: Ended) -> dict[str, Any]:
    return {
        "failure": ended.failure,
        "diverged": ended.diverged,
        "ledger": ended.ledger,
        "advice": ended.advice,
        "steps": rows_of_steps(ended.steps),
    }


def _ended_of(state: dict[str, Any]) -> Ended:
    return Ended(**{**state, "steps": steps_of_rows(state["steps"])})
