"""A training whose settings change at certain epochs: one stretch after another, each with a recipe of its own.

Population-based training ends in such a course (Jaderberg et al., arXiv 1711.09846). What may change on the way is what
a learner can go on with: rate, weight decay, loss, and how the images are augmented.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from components.training.engine import EpochRecord, Learner, Request, StepRecord, Watcher
from pipeline.overriding import override
from pipeline.sections.recipe import Recipe
from pipeline.training.build import TrainingData, new_loss

#: (epoch, overrides): what holds from the end of that epoch on, beside what held before.
Changes = tuple[tuple[int, Mapping[str, Any]], ...]


@dataclass(frozen=True)
class Stretch:
    """The epochs after `start`, up to `until`, under one recipe."""

    start: int
    until: int
    recipe: Recipe


def stretches(recipe: Recipe, changes: Changes, *, epochs: int) -> tuple[Stretch, ...]:
    """The whole course. changes: in order, each within the epochs."""
    recipes = [recipe]
    for _, overrides in changes:
        recipes.append(override(recipes[-1], overrides))
    edges = [0, *(epoch for epoch, _ in changes), epochs]
    return tuple(Stretch(*each) for each in zip(edges, edges[1:], recipes, strict=False))


def stretch_at(course: Sequence[Stretch], epoch: int) -> Stretch:
    """The stretch that the epoch after this one belongs to."""
    return next(stretch for stretch in reversed(course) if stretch.start <= epoch)


def scaled(schedule: Sequence[Mapping[str, Any]], *, epochs: int) -> tuple[dict[str, Any], Changes]:
    """The course of a search, laid out over another number of epochs: settings at the start, and changes.

    schedule: records with `epoch`, out of `epochs`, and `overrides`, in order. Changes that fall on one epoch are made
    together, and those that fall on the last are left out.
    """
    at: dict[int, dict[str, Any]] = {}
    for entry in schedule:
        place = round(entry["epoch"] * epochs / entry["epochs"])
        at.setdefault(place, {}).update(entry["overrides"])
    start = at.pop(0, {})
    return start, tuple((place, at[place]) for place in sorted(at) if place < epochs)


def take_up(learner: Learner, recipe: Recipe, data: TrainingData) -> None:
    """Have a learner go on with another recipe; its batches follow the recipe that `run_epochs` is given."""
    settings = recipe.recipe
    assert not isinstance(settings.lr, str)
    learner.loss = new_loss(recipe, data).to(learner.device.target)
    learner.stepper.retune(lr=settings.lr, weight_decay=settings.weight_decay)


def within(
    stretch: Stretch, run: Callable[..., Iterator[EpochRecord]], watcher: Watcher | None
) -> Generator[EpochRecord, None, None]:
    """The epochs of one stretch, `run(watcher=…)`, up to a rollback to before its start."""
    bounded = _Bounded(watcher, stretch.start) if watcher is not None else None
    with contextlib.suppress(_WentBack):
        yield from run(watcher=bounded)


class _WentBack(Exception):  # noqa: N818 - no error: it unwinds the loop of a stretch that is left
    """A rollback in the midst of an epoch, to before the stretch."""


class _Bounded:
    """Passes on what a watcher says. After an epoch the caller sees by itself where the learner is."""

    def __init__(self, watcher: Watcher, start: int) -> None:
        self._watcher, self._start = watcher, start

    def before_step(self, learner: Learner) -> None:
        self._watcher.before_step(learner)

    def measure(self, learner: Learner) -> Sequence[torch.Tensor]:
        return self._watcher.measure(learner)

    def after_step(self, learner: Learner, record: StepRecord, measured: Sequence[float]) -> Request:
        request = self._watcher.after_step(learner, record, measured)
        if request == "rolled_back" and learner.epoch < self._start:
            raise _WentBack
        return request

    def after_epoch(self, learner: Learner, record: EpochRecord) -> Request:
        return self._watcher.after_epoch(learner, record)
