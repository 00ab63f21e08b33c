"""A training of the comparison of methods, and its result.

A training is a function of its recipe, its seed and its length: those with the same seed start from the same weights
and see the same batches, whatever their method. Each has a folder below the stage's work folder, so that an interrupted
comparison resumes within a training.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

from pipeline.sections.recipe import Recipe
from pipeline.training.checkpoints import TrainingStore
from pipeline.training.job import TrainingSpec
from pipeline.training.progress import history_rows

Phase = Literal["rate", "full"]
#: Values of an epoch that no table of the comparison has.
NOT_TABULATED = ("lr", "lr_lowest", "grad_norm", "images_per_second", "diverged")


@dataclass(frozen=True, kw_only=True)
class MethodTraining:
    """What to train: a method at a rate (`recipe.recipe.lr`, `factor` times the suggestion), from a seed.

    phase: a short one that tries a rate, or one at full length.
    """

    phase: Phase
    entry: str
    factor: float
    seed: int
    epochs: int
    recipe: Recipe

    @property
    def key(self) -> str:
        """The name of its folder; the work folder belongs to one configuration."""
        return f"{self.phase}-{self.entry}-x{self.factor!r}-seed{self.seed}"

    @property
    def spec(self) -> TrainingSpec:
        return TrainingSpec(recipe=self.recipe, seed=self.seed, epochs=self.epochs, keep=None, decision_metrics=True)


@dataclass(frozen=True, kw_only=True)
class MethodResult:
    """The result of a training.

    history: per complete epoch its number, step, train_loss, seconds and validation metrics, None for one without a
    value. rates: of every step, the rate of the fastest group. diverged: a loss or an output was not finite.
    """

    phase: Phase
    entry: str
    factor: float
    lr: float
    seed: int
    epochs: int
    diverged: bool
    history: list[dict[str, Any]]
    rates: list[float]

    @property
    def final(self) -> dict[str, float | None]:
        """Metrics of the last epoch; empty if it diverged."""
        return {} if self.diverged else self.history[-1]

    @property
    def seconds(self) -> float:
        """Of training, without evaluation and the start of a worker."""
        return float(sum(epoch["seconds"] for epoch in self.history))


def read_result(training: MethodTraining, store: TrainingStore) -> MethodResult:
    """The result of a complete training."""
    lr = training.recipe.recipe.lr
    assert not isinstance(lr, str)
    assert store.ended is not None
    history = [
        {name: value if math.isfinite(value) else None for name, value in row.items() if name not in NOT_TABULATED}
        for row in history_rows(store.progress.history)
    ]
    return MethodResult(
        phase=training.phase,
        entry=training.entry,
        factor=training.factor,
        lr=lr,
        seed=training.seed,
        epochs=training.epochs,
        diverged=store.ended.reason == "diverged",
        history=history,
        rates=[step.lr for step in [*store.steps(), *store.ended.steps]],
    )
