"""The state of a search: the next trial, the records of all trials, and when the search ends.

It combines the sampler, the journal and the limits. Ray Tune, or a simulation, takes trials from it and reports their
results to it.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from components.search.analysis import MIN_TRIALS
from components.search.journal import Journal
from components.search.samplers.base import Sampler
from components.search.trial import Status, Suggestion, TrialRecord

#: Ended trials from which on failures are judged.
FEWEST_ENDED = 4


@dataclass(frozen=True, kw_only=True)
class Limits:
    """When a search ends early. None: no limit. failure_limit: share of the ended trials that may fail."""

    num_trials: int
    seconds: float | None
    gpu_seconds: float | None
    failure_limit: float


class SearchState:
    """A search in progress, new or resumed.

    defaults: the suggestion of trial 0. enough: from the trials so far a message why no further one is worth its time;
    empty if one is. concurrent: trials at a time; None: no limit. gpus_per_trial: for the budget of GPU time. clock:
    monotonic seconds.
    """

    def __init__(
        self,
        journal: Journal,
        sampler: Sampler,
        limits: Limits,
        *,
        defaults: Suggestion,
        concurrent: int | None,
        gpus_per_trial: float,
        unstopped_fraction: float,
        seed: int,
        clock: Callable[[], float],
        enough: Callable[[Sequence[TrialRecord]], str] = lambda records: "",
    ) -> None:
        self._journal, self._sampler, self._limits, self._defaults = journal, sampler, limits, defaults
        self._concurrent, self._gpus, self._clock, self._enough = concurrent, gpus_per_trial, clock, enough
        self._unstopped = unstopped_numbers(limits.num_trials, unstopped_fraction, seed=seed)
        self._earlier = journal.elapsed
        self._started = clock()
        for record in journal.records:
            # The last epoch is saved, but the driver was killed before it recorded the end.
            if not record.ended and record.checkpoint_epoch >= record.suggestion.epochs:
                values = {"status": "completed", "message": "", "seconds": record.seconds}
                journal.append("ended", record.number, values, elapsed=journal.elapsed)
        self._unfinished = [record.number for record in journal.records if not record.ended]
        self._running: set[int] = set()
        self._waiting: set[int] = set()
        self._seconds = sum(record.seconds for record in journal.records)
        self._ended_here = 0
        self._failures: list[str] = []  # the messages of those that failed

    @property
    def records(self) -> list[TrialRecord]:
        """All trials so far, in the order of their numbers."""
        return self._journal.records

    @property
    def elapsed(self) -> float:
        """Seconds that the search has run, without interruptions."""
        return self._earlier + self._clock() - self._started

    @property
    def session(self) -> int:
        """How often the search was started or resumed, this time included."""
        return self._journal.sessions

    @property
    def running(self) -> frozenset[int]:
        return frozenset(self._running)

    @property
    def waiting(self) -> frozenset[int]:
        """Trials at a rung that wait for others (see `hold`)."""
        return frozenset(self._waiting)

    def next_trial(self) -> TrialRecord | Literal["wait", "done"]:
        """The next trial to run: first interrupted ones and those that have waited, then the sampler's suggestions."""
        if self.spent_budget() or self.common_failure():
            return "done"
        if self._concurrent is not None and len(self._running) >= self._concurrent:
            return "wait"
        if self._unfinished:
            number = self._unfinished.pop(0)
        else:
            number = len(self.records)
            suggestion = self._suggestion(number)
            if isinstance(suggestion, str):
                # Tune does not ask again after "done", and a running trial may be held and released.
                return "wait" if self._running or self._waiting else suggestion
            values = {"suggestion": suggestion.to_dict(), "unstopped": number in self._unstopped}
            self._journal.append("began", number, values, elapsed=self.elapsed)
        self._running.add(number)
        return self.records[number]

    def _suggestion(self, number: int) -> Suggestion | Literal["wait", "done"]:
        if number >= self._limits.num_trials or self.enough():
            return "done"
        return self._defaults if number == 0 else self._sampler.suggest(number, self.records)

    def hold(self, number: int) -> None:
        """Let a trial wait: it runs again after `release`, or ends."""
        self._running.discard(number)
        if number in self._unfinished:
            self._unfinished.remove(number)
        self._waiting.add(number)

    def release(self, number: int) -> None:
        """Let a trial that has waited go on, from its checkpoint."""
        self._waiting.discard(number)
        self._unfinished.append(number)

    def scored(
        self,
        number: int,
        epoch: int,
        score: float,
        *,
        seconds: float,
        metrics: Mapping[str, float] | None = None,
    ) -> None:
        """Record the score after an epoch. seconds: of all epochs of the trial so far."""
        self._seconds += seconds - self.records[number].seconds
        values = {"epoch": epoch, "score": score, "seconds": seconds, "metrics": dict(metrics or {})}
        self._journal.append("scored", number, values, elapsed=self.elapsed)

    def saved(self, number: int, epoch: int, checkpoint: str) -> None:
        """Record the checkpoint of an epoch."""
        self._journal.append("saved", number, {"epoch": epoch, "checkpoint": checkpoint}, elapsed=self.elapsed)

    def pruned(self, number: int) -> None:
        """Record that a trial's checkpoint was removed."""
        self._journal.append("pruned", number, {}, elapsed=self.elapsed)

    def ended(self, number: int, status: Status, *, message: str = "", seconds: float | None = None) -> None:
        """Record how a trial ended."""
        record = self.records[number]
        total = record.seconds if seconds is None else seconds
        self._seconds += total - record.seconds
        self._running.discard(number)
        self._waiting.discard(number)
        self._ended_here += 1
        if status == "failed":
            self._failures.append(message)
        values = {"status": status, "message": message, "seconds": total}
        self._journal.append("ended", number, values, elapsed=self.elapsed)

    def spent_budget(self) -> str:
        """A message which budget is spent; empty for none."""
        limits = self._limits
        if limits.seconds is not None and self.elapsed >= limits.seconds:
            return f"the time budget of {limits.seconds / 60:g} minutes is spent"
        if limits.gpu_seconds is not None and self._seconds * self._gpus >= limits.gpu_seconds:
            return f"the budget of {limits.gpu_seconds / 3600:g} GPU hours is spent"
        return ""

    def enough(self) -> str:
        """A message why no further trial is worth its time; empty if one is."""
        return self._enough(self.records)

    def common_failure(self) -> str:
        """The most common message, if too many trials of this session have failed; else empty."""
        ended, failed = self._ended_here, len(self._failures)
        if ended < FEWEST_ENDED or failed <= self._limits.failure_limit * ended:
            return ""
        message, count = Counter(self._failures).most_common(1)[0]
        return f"{failed} of {ended} trials failed, {count} of them with: {message}"


def unstopped_numbers(num_trials: int, fraction: float, *, seed: int) -> frozenset[int]:
    """The trials that are never stopped: the defaults and a random share of the others.

    Of each 1/fraction consecutive trials one is drawn, so that a search that ends early has the same share. None is
    drawn where they would be too few to measure anything on.
    """
    if (num_trials - 1) * fraction < MIN_TRIALS - 1e-9:
        return frozenset({0})
    drawn = {0}
    generator = np.random.default_rng([seed, num_trials])
    edges = 1 + np.arange(0, int((num_trials - 1) * fraction + 1e-9) + 1) / fraction
    for low, high in itertools.pairwise(edges):
        members = np.arange(int(np.ceil(low - 1e-9)), int(np.ceil(high - 1e-9)))
        if members.size:
            drawn.add(int(generator.choice(members)))
    return frozenset(drawn)
