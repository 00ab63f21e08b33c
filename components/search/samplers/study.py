"""A search's history as an Optuna study in memory, for the samplers that Optuna has.

The state of a trial keeps scores of different lengths apart. One that ran to its full length is COMPLETE. One that
was stopped is PRUNED, with its scores by epoch: Optuna puts it behind every complete one, and behind those that came
further. One that diverged is PRUNED without a score, which is the last place of all. One that failed is left out: a
failure says nothing about the place where it happened.
"""

from __future__ import annotations

from collections.abc import Sequence

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution
from optuna.samplers import BaseSampler
from optuna.trial import FrozenTrial, TrialState, create_trial

from components.search.space import Choice, Dimension, Space, is_active
from components.search.trial import TrialRecord


def new_study(sampler: BaseSampler | None) -> optuna.Study:
    """An empty study in memory that maximises."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)  # Optuna announces every study and trial
    return optuna.create_study(direction="maximize", sampler=sampler)


def ask(
    space: Space, history: Sequence[TrialRecord], sampler: BaseSampler, *, max_epochs: int
) -> dict[str, float | int]:
    """The point that an Optuna sampler suggests after a history.

    A dimension is a parameter of its name: a float in [0, 1], or the index of a choice. max_epochs: the length of a
    trial whose last score counts as final.
    """
    study = new_study(sampler)
    frozen = (_frozen(space, record, max_epochs=max_epochs) for record in history if record.suggestion.point)
    study.add_trials([trial for trial in frozen if trial is not None])
    trial = study.ask()
    point: dict[str, float | int] = {}
    for dimension in space.ordered():
        if not is_active(dimension, {**space.defaults, **space.overrides(point)}):
            continue
        name = dimension.sets
        if isinstance(dimension, Choice):
            point[name] = int(trial.suggest_categorical(name, range(len(dimension.values))))
        else:
            point[name] = float(trial.suggest_float(name, 0.0, 1.0))
    return point


def is_informative(record: TrialRecord) -> bool:
    """Whether a trial of the space has ended with something to learn from."""
    known = record.score is not None or record.status == "diverged"
    return bool(record.ended and record.suggestion.point and known)


def distribution(dimension: Dimension) -> BaseDistribution:
    """A dimension as a parameter of Optuna's."""
    if isinstance(dimension, Choice):
        return CategoricalDistribution(range(len(dimension.values)))
    return FloatDistribution(0.0, 1.0)


def _frozen(space: Space, record: TrialRecord, *, max_epochs: int) -> FrozenTrial | None:
    """None for a trial that says nothing."""
    if record.ended and not is_informative(record):
        return None
    diverged = record.status == "diverged"
    full = record.status == "completed" and record.suggestion.epochs >= max_epochs
    state = TrialState.COMPLETE if full else TrialState.PRUNED if record.ended else TrialState.RUNNING
    dimensions = [dimension for dimension in space.ordered() if dimension.sets in record.suggestion.point]
    return create_trial(
        state=state,
        value=record.score if full else None,
        params={dimension.sets: record.suggestion.point[dimension.sets] for dimension in dimensions},
        distributions={dimension.sets: distribution(dimension) for dimension in dimensions},
        intermediate_values=dict(record.scores) if state == TrialState.PRUNED and not diverged else {},
    )
