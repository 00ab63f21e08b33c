"""Searches in levels: the results of one plan of trials determine the next plan."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Literal

from components.search.samplers.base import SamplerSettings
from components.search.samplers.points import PointKey, point_key
from components.search.trial import Suggestion, TrialRecord

#: What makes two suggestions the same trial: point, epochs, seed, fold.
Identity = tuple[PointKey, int, int, int | None]
Plan = Mapping[Identity, Suggestion]
TrialsByIdentity = Mapping[Identity, TrialRecord]


class LevelSampler(ABC):
    """Suggests the trials of one plan after the other."""

    def __init__(self, settings: SamplerSettings) -> None:
        self._settings, self._space = settings, settings.space

    def suggest(self, number: int, history: Sequence[TrialRecord]) -> Suggestion | Literal["wait", "done"]:
        if number >= self._settings.num_trials:
            return "done"
        trials = trials_by_identity(history)
        return next_suggestion(self._plans(trials), trials)

    @abstractmethod
    def _plans(self, trials: TrialsByIdentity) -> Iterator[Plan]:
        """Each plan is computed when all trials of the plan before it have ended."""


def trials_by_identity(history: Sequence[TrialRecord]) -> dict[Identity, TrialRecord]:
    return {_identity(record.suggestion): record for record in history}


def plan_untried(suggestions: Iterable[Suggestion], *, planned: Plan, most: int) -> dict[Identity, Suggestion]:
    """The first `most` of the suggestions that are not in `planned`, each once."""
    plan: dict[Identity, Suggestion] = {}
    for suggestion in suggestions:
        if len(plan) >= most:
            break
        key = _identity(suggestion)
        if key not in planned:
            plan.setdefault(key, suggestion)
    return plan


def next_suggestion(plans: Iterable[Plan], trials: TrialsByIdentity) -> Suggestion | Literal["wait", "done"]:
    """The first planned trial that does not exist yet; "wait" while trials of the current plan are running.

    plans: each is computed when all trials of the plan before it have ended. A trial in two plans is run once.
    """
    for plan in plans:
        for key, suggestion in plan.items():
            if key not in trials:
                return suggestion
        if not all(trials[key].ended for key in plan):
            return "wait"
    return "done"


def ranked(planned: Iterable[Identity], trials: TrialsByIdentity) -> list[TrialRecord]:
    """The planned trials that are complete, the best first; the earlier one of equals."""
    records = [trials[key] for key in planned if key in trials]
    scored = [(r.score, r) for r in records if r.status == "completed" and r.score is not None]
    return [record for _, record in sorted(scored, key=lambda pair: (-pair[0], pair[1].number))]


def _identity(suggestion: Suggestion) -> Identity:
    return point_key(suggestion.point), suggestion.epochs, suggestion.seed, suggestion.fold
