"""Any number of workers in simulated time, which run what our own state, sampler and stopping rule tell them.

A queue of events: the next epoch that ends anywhere is handed to the rule and to the state, in the order in which
`components/search/tuner.py` does it; a worker whose trial has ended asks the state for another. Nothing is known of a
trial before its epoch has ended, so that decisions are as uninformed as they are with so many real workers.
"""

from __future__ import annotations

import functools
import heapq
import time
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from search_landscapes import Problem, Training

from components.search.improvement import too_little_to_gain
from components.search.journal import Journal
from components.search.rungs import WORST_SCORE, Rungs, StoppingRule, build_rule
from components.search.samplers import build_sampler, winner
from components.search.samplers.base import SamplerSettings
from components.search.state import Limits, SearchState
from components.search.trial import TrialRecord

#: At each rung one trial in so many goes on.
FACTOR = 3


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A search to be simulated. grace: the first rung. seed: of the sampler, the rule and the trainings' luck.

    portfolio: hybrid: whether it begins with it, halved at once. least: the search ends where less than that is to
    be gained; 0: never.
    """

    sampler: str
    scheduler: str
    trials: int
    workers: int
    grace: int
    unstopped_fraction: float
    seed: int
    portfolio: bool = True
    least: float = 0.0


@dataclass(frozen=True)
class Search:
    """What came of it.

    chosen: number of the trial that the search would take. chosen_at: the same on the way, by the epochs that had been
    trained. epochs: trained over all trials. simulated_seconds: from the first start to the last end, an epoch taking
    about one. decisions: suggestions, and epochs after which the rule was asked. deciding_seconds: real ones, in the
    sampler, the rule, the state and its journal.
    """

    records: list[TrialRecord]
    chosen: int
    chosen_at: dict[int, int]
    epochs: int
    simulated_seconds: float
    decisions: int
    deciding_seconds: float

    def regret(self, problem: Problem, *, after: int | None = None) -> float:
        """How much the chosen trial's point is expected to score below the best one.

        after: epochs that had been trained, one of the looks; at the end where the search ended before. None: at the
        end.
        """
        chosen = self.chosen if after is None else self.chosen_at.get(after, self.chosen)
        return problem.best - problem.truth(self.records[chosen].suggestion.point)


class Clock:
    """Simulated seconds."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def simulate(
    problem: Problem, plan: Plan, *, journal: Path | None = None, looks: Collection[int] = frozenset()
) -> Search:
    """Run a search to its end. journal: a file for it; None keeps it in memory. looks: see `Search.chosen_at`."""
    clock = Clock()
    first = problem.portfolio()[: plan.trials - 1] if plan.portfolio and plan.sampler == "hybrid" else ()
    settings = SamplerSettings(
        space=problem.space,
        num_trials=plan.trials,
        max_epochs=problem.epochs,
        grace_epochs=plan.grace,
        folds=0,
        startup_trials=None,
        seed=plan.seed,
        portfolio=first,
    )
    limits = Limits(num_trials=plan.trials, seconds=None, gpu_seconds=None, failure_limit=1.0)
    state = SearchState(
        Journal(journal),
        build_sampler(plan.sampler, settings),
        limits,
        defaults=problem.defaults(),
        concurrent=None,
        gpus_per_trial=0.0,
        unstopped_fraction=plan.unstopped_fraction,
        seed=plan.seed,
        clock=clock,
        enough=functools.partial(
            too_little_to_gain, epoch=plan.grace, first=1 + len(first), num_trials=plan.trials, least=plan.least
        )
        if plan.least
        else lambda records: "",
    )
    rungs = Rungs(plan.grace, FACTOR, problem.epochs)
    rule = build_rule(plan.scheduler, rungs, seed=plan.seed, together=1 + len(first))
    return _Workshop(problem, plan, state, rule, clock).run(looks)


class _Workshop:
    """The workers, and the epochs that they are at."""

    def __init__(
        self, problem: Problem, plan: Plan, state: SearchState, rule: StoppingRule | None, clock: Clock
    ) -> None:
        self._problem, self._plan, self._state, self._rule, self._clock = problem, plan, state, rule, clock
        self._queue: list[tuple[float, int, int]] = []  # when an epoch ends, of which trial, which epoch
        self._trainings: dict[int, Training] = {}
        self._idle = plan.workers
        self._epochs = self._decisions = 0
        self._deciding = 0.0

    def run(self, looks: Collection[int]) -> Search:
        chosen_at = {}
        self._set_to_work()
        while self._queue:
            self._clock.now, number, epoch = heapq.heappop(self._queue)
            self._epoch_ended(number, epoch)
            if self._epochs in looks:
                chosen_at[self._epochs] = self._chosen()
            if self._idle:
                self._set_to_work()
        return Search(
            self._state.records,
            self._chosen(),
            chosen_at,
            self._epochs,
            self._clock.now,
            self._decisions,
            self._deciding,
        )

    def _chosen(self) -> int:
        """What the search takes; the defaults as long as no trial has come through."""
        chosen = winner(self._plan.sampler, self._state.records)
        return 0 if chosen is None else chosen

    def _set_to_work(self) -> None:
        while self._idle:
            started = time.perf_counter()
            trial = self._state.next_trial()
            self._deciding += time.perf_counter() - started
            if isinstance(trial, str):
                return
            self._decisions += 1
            self._begin(trial)

    def _begin(self, trial: TrialRecord) -> None:
        # The luck is the number's, so that searches of one seed that differ in their rule alone are paired.
        luck = self._plan.seed * 1_000_003 + trial.number
        training = self._problem.train(trial.suggestion.point, seed=luck)
        self._trainings[trial.number] = training
        self._idle -= 1
        heapq.heappush(self._queue, (self._clock.now + training.seconds, trial.number, trial.epochs + 1))

    def _epoch_ended(self, number: int, epoch: int) -> None:
        training = self._trainings[number]
        score = training.scores[epoch - 1]
        self._epochs += 1
        started = time.perf_counter()
        if self._goes_on(number, epoch, score, seconds=epoch * training.seconds):
            heapq.heappush(self._queue, (self._clock.now + training.seconds, number, epoch + 1))
        else:
            del self._trainings[number]
            self._idle += 1
        self._deciding += time.perf_counter() - started

    def _goes_on(self, number: int, epoch: int, score: float | None, *, seconds: float) -> bool:
        """Tell the state and the rule what an epoch came to, and whether the trial is to go on."""
        state, rule = self._state, self._rule
        record = state.records[number]
        if score is None:
            state.ended(number, "diverged", seconds=seconds)
            if rule is not None:
                rule.ended(number, epoch, WORST_SCORE)
                self._settle(rule)
            return False
        done = epoch >= record.suggestion.epochs
        on = True
        if rule is not None and not done:
            self._decisions += 1
            on = rule.continues(number, epoch, score, unstopped=record.unstopped)
        state.scored(number, epoch, score, seconds=seconds)
        if done and rule is not None:
            rule.ended(number, epoch, score)
        if done:
            state.ended(number, "completed")
        elif not on:
            state.hold(number)
        if rule is not None:
            self._settle(rule)
        return on and not done

    def _settle(self, rule: StoppingRule) -> None:
        """Of the trials that were stopped, end those for good that do not wait, and let go on those that may."""
        for number in sorted(self._state.waiting):
            verdict = rule.verdict(self._state.records[number])
            if verdict:
                self._state.release(number)
            elif verdict is False:
                self._state.ended(number, "stopped")
