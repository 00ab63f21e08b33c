"""The epochs of a training, the best of them, and how a rollback removes the last ones."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from components.training.engine import EpochRecord


@dataclass
class Progress:
    """The epochs of a training so far.

    weights: epoch → number of the file with its scored weights, for each epoch that is the best, or would be after a
    rollback. trained: number of all trained epochs, including those that a rollback has removed.
    """

    history: list[EpochRecord] = field(default_factory=list)
    weights: dict[int, int] = field(default_factory=dict)
    trained: int = 0

    def cut(self, epoch: int) -> Progress:
        """Remove what came after an epoch."""
        self.history = [record for record in self.history if record.epoch <= epoch]
        self.weights = {number: file for number, file in self.weights.items() if number <= epoch}
        return self

    @property
    def best(self) -> EpochRecord:
        """The epoch of the best validation score; of equal ones the first; the last one where none was scored."""
        scored = [record for record in self.history if "val_score" in record.metrics]
        return max(scored, key=lambda record: (record.metrics["val_score"], -record.epoch), default=self.history[-1])

    @property
    def kept_epoch(self) -> int | None:
        """The epoch whose weights are kept; None before the first."""
        return max(self.weights, default=None)

    def epochs_without_gain(self) -> int:
        """Epochs since the best one."""
        return self.history[-1].epoch - self.best.epoch if self.history else 0

    def epochs_done(self) -> int:
        """The last epoch, 0 before the first."""
        return self.history[-1].epoch if self.history else 0

    def steps_done(self) -> int:
        """Steps up to the end of the last epoch."""
        return self.history[-1].step if self.history else 0

    def note(self) -> str:
        """The best epoch so far, for display; empty where none was scored."""
        if not self.history or "val_score" not in self.best.metrics:
            return ""
        return f"best score {self.best.metrics['val_score']:.4f} (epoch {self.best.epoch})"

    def state_dict(self) -> dict[str, Any]:
        """The state without the history, for which the store has a file per epoch."""
        return {"weights": dict(self.weights), "trained": self.trained}

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Progress:
        """Restore a state; without a history in it, the history is empty."""
        history = [EpochRecord(**record) for record in state.get("history", [])]
        return cls(history=history, weights=dict(state["weights"]), trained=state["trained"])


def history_rows(history: list[EpochRecord]) -> list[dict[str, Any]]:
    """A row per epoch with its numbers and metrics."""
    return [{key: value for key, value in (asdict(r) | r.metrics).items() if key != "metrics"} for r in history]
