"""What a training has brought forth so far, and how a rollback undoes the end of it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import pandas as pd
import torch

from components.training.engine import EpochRecord, StepRecord


@dataclass
class Progress:
    """What a training has brought forth so far.

    weights: the file of an epoch's scored weights, for each epoch that is the best, or would be after a rollback.
    trained: epochs that were trained in all, also those that a rollback has undone.
    """

    history: list[EpochRecord] = field(default_factory=list)
    steps: list[StepRecord] = field(default_factory=list)
    weights: dict[int, str] = field(default_factory=dict)
    trained: int = 0

    def add_step(self, record: StepRecord) -> None:
        """A step seen again after a rollback replaces what followed it."""
        while self.steps and self.steps[-1].step >= record.step:
            self.steps.pop()
        self.steps.append(record)

    def add_epoch(self, record: EpochRecord) -> None:
        """An epoch seen again after a rollback replaces what followed it."""
        self.cut(record.epoch - 1)
        self.history.append(record)
        self.trained += 1

    def cut(self, epoch: int) -> None:
        """Forget what came after an epoch."""
        self.history = [record for record in self.history if record.epoch <= epoch]
        self.weights = {number: file for number, file in self.weights.items() if number <= epoch}

    @property
    def best_epoch(self) -> int:
        """The epoch of the best validation score; of equal ones the first."""
        return max(self.history, key=_rank).epoch

    @property
    def best(self) -> EpochRecord:
        return next(record for record in self.history if record.epoch == self.best_epoch)

    def has_learned(self) -> bool:
        """Whether there is an epoch to keep: one whose outputs on the validation split are finite."""
        return bool(self.history) and not math.isnan(self.best.metrics["val_score"])

    def without_gain(self) -> int:
        """Epochs since the best one."""
        return self.history[-1].epoch - self.best_epoch if self.history else 0

    def epochs_done(self) -> int:
        """The last epoch, 0 before the first."""
        return self.history[-1].epoch if self.history else 0

    def steps_done(self) -> int:
        """Steps up to the end of the last epoch."""
        return self.history[-1].step if self.history else 0

    def note(self) -> str:
        """The best so far in words; empty before the first epoch."""
        return f"best score {self.best.metrics['val_score']:.4f} (epoch {self.best_epoch})" if self.history else ""

    def steps_of(self, record: EpochRecord) -> list[StepRecord]:
        """The steps of one epoch."""
        before = max((other.step for other in self.history if other.epoch < record.epoch), default=0)
        return [step for step in self.steps if before < step.step <= record.step]

    def history_table(self) -> pd.DataFrame:
        """One row per epoch."""
        rows = [{**asdict(record), **record.metrics} for record in self.history]
        return pd.DataFrame(rows).drop(columns=["metrics"])

    def steps_table(self, group_names: tuple[str, ...]) -> pd.DataFrame:
        """One row per step: step, lr_<group> for each parameter group, loss, grad_norm."""
        columns = ["step", *(f"lr_{name}" for name in group_names), "loss", "grad_norm"]
        return pd.DataFrame(_rows(self.steps), columns=columns).astype({"step": int})

    def state_dict(self) -> dict[str, Any]:
        return {
            "history": [asdict(record) for record in self.history],
            "steps": rows_of_steps(self.steps),
            "weights": dict(self.weights),
            "trained": self.trained,
        }

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Progress:
        """What `state_dict` was taken from."""
        return cls(
            history=[EpochRecord(**record) for record in state["history"]],
            steps=steps_of_rows(state["steps"]),
            weights=dict(state["weights"]),
            trained=state["trained"],
        )


def rows_of_steps(steps: list[StepRecord]) -> torch.Tensor:
    """Steps as a checkpoint holds them, (N, 3 + groups) float64."""
    return torch.tensor(_rows(steps), dtype=torch.float64)


def steps_of_rows(rows: torch.Tensor) -> list[StepRecord]:
    """What `rows_of_steps` was given."""
    return [_step_record(row) for row in rows.tolist()]


def _rank(record: EpochRecord) -> tuple[float, int]:
    """Greater is better. A score that is NaN is below every other: no comparison with NaN would hold."""
    score = record.metrics["val_score"]
    return (-math.inf if math.isnan(score) else score, -record.epoch)


def _rows(steps: list[StepRecord]) -> list[list[float]]:
    return [[record.step, *record.rates, record.loss, record.grad_norm] for record in steps]


def _step_record(row: list[float]) -> StepRecord:
    step, *rates, loss, grad_norm = row
    return StepRecord(int(step), max(rates), min(rates), tuple(rates), loss, grad_norm)
