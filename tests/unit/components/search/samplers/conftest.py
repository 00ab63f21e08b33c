"""A search without trainings: a function of the point stands for the score."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import SimpleNamespace
from typing import Any

import pytest

from components.search.samplers import build_sampler
from components.search.samplers.base import SamplerSettings
from components.search.space import Choice, Dimension, Interval, RateInterval, Space
from components.search.trial import Status, Suggestion, TrialRecord

DEFAULTS: Mapping[str, Any] = {
    "model.backbone": "net",
    "recipe.optimizer": "adamw",
    "recipe.batch_size": 32,
    "recipe.lr": 1e-4,
    "recipe.weight_decay": 1e-3,
    "recipe.layer_decay": 1.0,
}
BOUNDS = {("net", "adamw"): (1e-5, 1e-3), ("net", "sgd"): (1e-3, 1e-1)}
RATE = RateInterval("recipe.lr", BOUNDS, batch_size=32)
DECAY = Interval("recipe.weight_decay", 1e-5, 1e-1, log=True)
OPTIMIZER = Choice("recipe.optimizer", ("adamw", "sgd"))

Objective = Callable[[Suggestion], float | None]


def space_of(*dimensions: Dimension, **defaults: Any) -> Space:
    return Space(dimensions, {**DEFAULTS, **defaults})


def settings_of(space: Space, num_trials: int = 16, **changes: Any) -> SamplerSettings:
    settings = {"max_epochs": 9, "grace_epochs": 1, "folds": 0, "startup_trials": None, "seed": 0, **changes}
    return SamplerSettings(space=space, num_trials=num_trials, **settings)


def record_of(
    number: int,
    point: Mapping[str, float | int],
    score: float | None = None,
    status: Status = "completed",
    **changes: Any,
) -> TrialRecord:
    """A trial that ended after its epochs, or after `at` epochs, with one score."""
    at = changes.pop("at", None)
    suggestion = Suggestion(point=point, overrides={}, **{"epochs": 9, **changes})
    scores = {} if score is None else {at or suggestion.epochs: score}
    return TrialRecord(number=number, suggestion=suggestion, unstopped=False, status=status, scores=scores)


def ended(number: int, suggestion: Suggestion, objective: Objective) -> TrialRecord:
    """A trial that ran to its end; where the objective has no score, one that diverged."""
    score = objective(suggestion)
    return TrialRecord(
        number=number,
        suggestion=suggestion,
        unstopped=False,
        status="diverged" if score is None else "completed",
        scores={} if score is None else {suggestion.epochs: score},
    )


def search_of(
    name: str, settings: SamplerSettings, objective: Objective, *, rebuilt: bool = False
) -> list[TrialRecord]:
    """A whole search, one trial after the other. rebuilt: each trial is suggested by a new sampler."""
    sampler = build_sampler(name, settings)
    defaults = Suggestion(point=settings.space.point({}) or {}, overrides={}, epochs=settings.max_epochs)
    history = [ended(0, defaults, objective)]
    while len(history) < settings.num_trials:
        sampler = build_sampler(name, settings) if rebuilt else sampler
        suggestion = sampler.suggest(len(history), history)
        if suggestion == "done":
            break
        assert isinstance(suggestion, Suggestion), suggestion
        history.append(ended(len(history), suggestion, objective))
    return history


@pytest.fixture
def lab() -> SimpleNamespace:
    return SimpleNamespace(
        space=space_of,
        settings=settings_of,
        record=record_of,
        search=search_of,
        rate=RATE,
        decay=DECAY,
        optimizer=OPTIMIZER,
    )
