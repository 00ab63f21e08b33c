"""One training of the comparison of methods: what is trained, and what the comparison reads of it.

A training is a function of its recipe, its seed and its length: those of one seed start from the same weights and see
the same batches, whatever their method. What is saved of it has a folder of its own below the stage's work folder, so
that an interrupted comparison resumes within the trainings that it was at.
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
#: Of an epoch, what no table of the comparison has.
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
        """Names its folder; the work folder belongs to one configuration, which says all the rest."""
        return f"{self.phase}-{self.entry}-x{self.factor!r}-seed{self.seed}"

    @property
    def spec(self) -> TrainingSpec:
        return TrainingSpec(recipe=self.recipe, seed=self.seed, epochs=self.epochs, keep=None, decision_metrics=True)


@dataclass(frozen=True, kw_only=True)
class MethodResult:
    """What a training gave.

    history: per whole epoch its number, step, train_loss, seconds and the metrics of the validation split, None where
    one has no value. rates: of every step, the rate of the fastest group. A training whose loss or whose outputs
    ceased to be finite is `diverged`.
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
        """Metrics at the end, of the last epoch and no better one; empty where it diverged."""
        return {} if self.diverged else self.history[-1]

    @property
    def seconds(self) -> float:
        """Of training, without evaluation and the start of a worker."""
        return float(sum(epoch["seconds"] for epoch in self.history))


def read_result(training: MethodTraining, store: TrainingStore) -> MethodResult:
    """What is saved of a training that has ended, as the comparison reads it."""
    lr = training.recipe.recipe.lr
    assert not isinstance(lr, str)
    assert store.ended is not None
    history = [
        {name: _known(value) for name, value in row.items() if name not in NOT_TABULATED}
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


def _known(value: float) -> float | None:
    return value if math.isfinite(value) else None
