"""The learning rate of each method of the comparison.

At the rate of another method a method may be worse for that reason alone. So each tries a few multiples of the range
test's suggestion for its optimizer, in shorter trainings, with a seed that no later training uses.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from components.optim.optimizers import batch_factor
from components.optim.range_test.bounds import LrBounds
from pipeline.comparison.trainings import MethodResult, MethodTraining
from pipeline.loading import entry_recipes
from pipeline.overriding import override
from pipeline.sections.learning_rate import CompareConfig
from pipeline.sections.recipe import Recipe


@dataclass(frozen=True, kw_only=True)
class Method:
    """An entry of the comparison.

    recipe: its rate is the suggestion. sets: its keys. abstained: the range test abstained, so the suggestion is the
    optimizer's default.
    """

    name: str
    sets: dict[str, Any]
    recipe: Recipe
    suggested: float
    abstained: bool

    def at(self, factor: float) -> Recipe:
        """The recipe at a multiple of the suggestion."""
        return override(self.recipe, {"recipe.lr": self.suggested * factor})


@dataclass(frozen=True, kw_only=True)
class RateChoice:
    """The chosen multiple of the suggestion; None if all tried ones diverged.

    edge: `lowest` or `highest` if it is at an end of the tried ones, so that the best may be beyond; else "". scores:
    of every tried factor, None if it diverged.
    """

    factor: float | None
    edge: str
    scores: dict[float, float | None]

    @property
    def words(self) -> str:
        """Text for a table: `3× (highest tried)`."""
        if self.factor is None:
            return "none: all diverged"
        return f"{self.factor:.2g}×" + (f" ({self.edge} tried)" if self.edge else "")


def methods_of(base: Recipe, settings: CompareConfig, bounds: Mapping[str, LrBounds]) -> tuple[Method, ...]:
    """Every entry with its recipe and the suggestion for its optimizer, scaled to its batch size."""
    recipes = entry_recipes(base, settings.entries)
    methods = []
    for entry in settings.entries:
        recipe = recipes[entry.name]
        optimizer = recipe.recipe.optimizer
        factor = batch_factor(optimizer, batch_size=recipe.recipe.images_per_step, measured=base.recipe.images_per_step)
        suggested = bounds[optimizer].suggested * factor
        methods.append(
            Method(
                name=entry.name,
                sets=dict(entry.sets),
                recipe=override(recipe, {"recipe.lr": suggested}),
                suggested=suggested,
                abstained=bounds[optimizer].abstained,
            )
        )
    return tuple(methods)


def rate_trials(methods: Sequence[Method], settings: CompareConfig, *, seed: int) -> list[MethodTraining]:
    """A short training of each method at each multiple; none for a single multiple."""
    if len(settings.rate_factors) == 1:
        return []
    epochs = max(1, round(settings.rate_epochs * settings.epochs))
    return [
        MethodTraining(phase="rate", entry=m.name, factor=factor, seed=seed, epochs=epochs, recipe=m.at(factor))
        for m in methods
        for factor in settings.rate_factors
    ]


def full_trainings(
    methods: Sequence[Method], choices: Mapping[str, RateChoice], settings: CompareConfig, *, seed: int
) -> list[MethodTraining]:
    """The trainings that are compared, of every method with a rate, with seeds that chose none, seed by seed."""
    return [
        MethodTraining(phase="full", entry=m.name, factor=factor, seed=seed + number, epochs=settings.epochs,
                 recipe=m.at(factor))
        for number in range(1, settings.num_seeds + 1)
        for m in methods
        if (factor := choices[m.name].factor) is not None
    ]  # fmt: skip


def choose_rate(trials: Sequence[MethodResult], factors: Sequence[float]) -> RateChoice:
    """The multiple with the best final objective; of equal ones that with the lower validation loss."""
    if len(factors) == 1:
        return RateChoice(factor=factors[0], edge="", scores={})
    scores = {trial.training.factor: trial.final.get("val_score") for trial in trials}
    usable = [trial for trial in trials if trial.final.get("val_score") is not None]
    if not usable:
        return RateChoice(factor=None, edge="", scores=scores)

    def rank(trial: MethodResult) -> tuple[float, float]:
        loss = trial.final["val_loss"]
        return trial.final["val_score"] or 0.0, -math.inf if loss is None else -loss

    best = max(usable, key=rank).training.factor
    edge = "lowest" if best == min(factors) else "highest" if best == max(factors) else ""
    return RateChoice(factor=best, edge=edge, scores=scores)
