"""A training of the comparison of methods, and its result.

A training is a function of its recipe, its seed and its length: those with the same seed start from the same weights
and see the same batches, whatever their method. Each has a folder below the stage's work folder, so that an interrupted
comparison resumes within a training.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pipeline.sections.recipe import Recipe
from pipeline.training.checkpoints import ENDED_FILE, TrainingStore
from pipeline.training.data import TrainingData
from pipeline.training.job import TrainingSpec
from pipeline.training.pace import Pace
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
    def lr(self) -> float:
        assert not isinstance(self.recipe.recipe.lr, str)
        return self.recipe.recipe.lr

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

    training: MethodTraining
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
    assert store.ended is not None
    history = [
        {name: value if math.isfinite(value) else None for name, value in row.items() if name not in NOT_TABULATED}
        for row in history_rows(store.progress.history)
    ]
    return MethodResult(
        training=training,
        diverged=store.ended.reason == "diverged",
        history=history,
        rates=[step.lr for step in [*store.steps(), *store.ended.steps]],
    )


def missing(trainings: Sequence[MethodTraining], work: Path) -> list[MethodTraining]:
    """The trainings without a result. A full one may have any factor, since the factor is not known yet."""

    def is_missing(training: MethodTraining) -> bool:
        full = training.phase == "full"
        folder = f"full-{training.entry}-x*-seed{training.seed}" if full else training.key
        return not any(work.glob(f"{folder}/{ENDED_FILE}"))

    return [training for training in trainings if is_missing(training)]


def seconds_of(trainings: Sequence[MethodTraining], data: TrainingData, pace: Pace, *, at_a_time: int) -> float:
    """How long the trainings take, if they do not slow each other down."""
    epochs = sum(training.epochs for training in trainings)
    return (epochs * pace.epoch(data) + len(trainings) * pace.start) / max(1, min(at_a_time, len(trainings)))
