"""Which epochs a training has done, which of them is the best, and how a rollback undoes the last ones."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from components.training.engine import EpochRecord


@dataclass
class Progress:
    """The epochs of a training so far.

    weights: epoch → number of the file with its scored weights, for each epoch that is the best, or would be after a
    rollback. trained: epochs that were trained in all, also those that a rollback has undone.
    """

    history: list[EpochRecord] = field(default_factory=list)
    weights: dict[int, int] = field(default_factory=dict)
    trained: int = 0

    def cut(self, epoch: int) -> Progress:
        """Forget what came after an epoch."""
        self.history = [record for record in self.history if record.epoch <= epoch]
        self.weights = {number: file for number, file in self.weights.items() if number <= epoch}
        return self

    @property
    def best(self) -> EpochRecord:
        """The epoch of the best validation score; of equal ones the first."""
        return max(self.history, key=lambda record: (record.metrics["val_score"], -record.epoch))

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
        """The best so far in words; empty before the first epoch."""
        return f"best score {self.best.metrics['val_score']:.4f} (epoch {self.best.epoch})" if self.history else ""

    def state_dict(self) -> dict[str, Any]:
        """Without the history, which only grows: the store keeps a file for each epoch."""
        return {"weights": dict(self.weights), "trained": self.trained}

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Progress:
        """What `state_dict` was taken from; the history is empty where the state has none."""
        history = [EpochRecord(**record) for record in state.get("history", [])]
        return cls(history=history, weights=dict(state["weights"]), trained=state["trained"])


def history_rows(history: list[EpochRecord]) -> list[dict[str, Any]]:
    """A row per epoch, its metrics beside its own numbers."""
    return [{key: value for key, value in (asdict(r) | r.metrics).items() if key != "metrics"} for r in history]
