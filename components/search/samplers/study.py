"""The history of a search as an Optuna study in memory, for Optuna's samplers.

The state of a trial separates scores of different lengths. A trial of full length is COMPLETE. A stopped trial is
PRUNED, with its scores by epoch: Optuna ranks it behind all complete ones, and behind those that reached a later epoch.
A diverged trial is PRUNED without a score, which ranks last. A failed trial is left out: a failure tells nothing about
its point.
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
    """The point that an Optuna sampler suggests after a history. max_epochs: length of a complete trial.

    Each dimension is a parameter with its name: a float in [0, 1], or the index of a choice.
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
    """Whether a trial of the space has ended with a score or diverged."""
    known = record.score is not None or record.status == "diverged"
    return bool(record.ended and record.suggestion.point and known)


def distribution(dimension: Dimension) -> BaseDistribution:
    if isinstance(dimension, Choice):
        return CategoricalDistribution(range(len(dimension.values)))
    return FloatDistribution(0.0, 1.0)


def _frozen(space: Space, record: TrialRecord, *, max_epochs: int) -> FrozenTrial | None:
    """None for a trial without information."""
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
