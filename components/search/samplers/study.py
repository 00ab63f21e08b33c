"""A search's history as an Optuna study in memory, for samplers that Optuna has or that are written for it.

What a trial is told as keeps scores of different lengths apart. One that ran to its full length is COMPLETE. One that
was stopped is PRUNED, with its scores by epoch: Optuna puts it behind every complete one, and behind those that came
further. One that diverged is PRUNED without a score, which is the last place of all, and marked. A failure says nothing
about the place where it happened: FAIL, which samplers pass over.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import optuna
from optuna.samplers import BaseSampler, RandomSampler
from optuna.trial import Trial, TrialState

from components.search.space import Choice, Dimension, Space, holds
from components.search.trial import Point, Suggestion, TrialRecord

#: User attribute of a trial that diverged.
DIVERGED = "diverged"


class HistoryStudy:
    """Follows a history as it grows; begins anew where it is another than before.

    A dimension is a parameter of its name: a float in [0, 1], or the index of a choice. max_epochs: the length of a
    trial whose last score counts as final.
    """

    def __init__(self, space: Space, *, max_epochs: int) -> None:
        self._space, self._max_epochs = space, max_epochs
        self._begin()

    def _begin(self) -> None:
        optuna.logging.set_verbosity(optuna.logging.WARNING)  # Optuna announces every study and trial
        self._study = optuna.create_study(direction="maximize", sampler=RandomSampler(seed=0))
        self._trials: dict[int, Trial | None] = {}
        self._told: set[int] = set()
        self._learnt = 0
        self._signatures: list[_Signature] = []

    def follow(self, history: Sequence[TrialRecord]) -> int:
        """Tell the study what it does not know yet; returns how many trials have ended with something to learn."""
        signatures = [_signature(record) for record in history]
        if not self._continues(signatures):
            self._begin()
        for record in history:
            if record.number not in self._trials:
                self._trials[record.number] = self._enter(record.suggestion.point)
            trial = self._trials[record.number]
            if record.ended and trial is not None and record.number not in self._told:
                self._learnt += self._tell(trial, record)
            if record.ended:
                self._told.add(record.number)
        self._signatures = signatures
        return self._learnt

    def ask(self, sampler: BaseSampler) -> dict[str, float | int]:
        """The point that an Optuna sampler suggests next. The study forgets that it was asked."""
        self._study.sampler = sampler
        trial = self._study.ask()
        point: dict[str, float | int] = {}
        for dimension in self._space.ordered():
            if holds(dimension, {**self._space.defaults, **self._space.overrides(point)}):
                point[dimension.sets] = _suggested(trial, dimension)
        self._study.tell(trial, state=TrialState.FAIL)
        return point

    def _continues(self, signatures: list[_Signature]) -> bool:
        """Whether a history has the one before at its beginning, trials apart that were running in it."""
        if len(signatures) < len(self._signatures):
            return False
        return all(
            now[:2] == before[:2] and (before[2] is None or now[2] == before[2])
            for now, before in zip(signatures, self._signatures, strict=False)
        )

    def _enter(self, point: Point) -> Trial | None:
        """A running trial at a point; None for the defaults where they lie outside the space."""
        if not point:
            return None
        self._study.enqueue_trial(dict(point))
        trial = self._study.ask()
        for dimension in self._space.ordered():
            if dimension.sets in point:
                _suggested(trial, dimension)
        return trial

    def _tell(self, trial: Trial, record: TrialRecord) -> bool:
        """Whether the study learns something from it."""
        if record.status == "failed" or (record.score is None and record.status != "diverged"):
            self._study.tell(trial, state=TrialState.FAIL)
            return False
        if record.status == "diverged":
            trial.set_user_attr(DIVERGED, True)
            self._study.tell(trial, state=TrialState.PRUNED)
        elif record.status == "completed" and record.suggestion.epochs >= self._max_epochs:
            self._study.tell(trial, record.score)
        else:
            for epoch, score in record.scores.items():
                trial.report(score, epoch)
            self._study.tell(trial, state=TrialState.PRUNED)
        return True


#: Number, what was tried, and how it ended: None while it runs.
_Signature = tuple[int, Suggestion, tuple[str, int, float] | None]


def _signature(record: TrialRecord) -> _Signature:
    score = math.inf if record.score is None else record.score
    end = (record.status, record.epochs, score) if record.ended else None
    return record.number, record.suggestion, end


def _suggested(trial: Trial, dimension: Dimension) -> float | int:
    if isinstance(dimension, Choice):
        return int(trial.suggest_categorical(dimension.sets, range(len(dimension.values))))
    return float(trial.suggest_float(dimension.sets, 0.0, 1.0))
