"""Early stopping: which trials continue at a rung. The schedulers are Ray's, used outside of Ray Tune.

ASHA (Li et al., arXiv 1810.05934), its brackets with later first rungs (asynchronous Hyperband, the same paper), and
the median rule (Golovin et al. 2017). The first trials may be judged together (`cohort`). Trials are identified by
number, so that a resumed search can replay earlier scores, and a simulation can use the same rule.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from ray.tune.schedulers import AsyncHyperBandScheduler, MedianStoppingRule, TrialScheduler

from components.search.cohort import Cohort
from components.search.trial import TrialRecord

EPOCH, SCORE = "epoch", "score"
#: The score of a diverged or failed trial: schedulers would not stop a NaN.
WORST_SCORE = 0.0
#: The median rule stops nothing before so many other trials have a score at the epoch.
MEDIAN_FROM = 3


@dataclass(frozen=True)
class Rungs:
    """Epochs at which trials are compared: `grace`, then each `factor` times the one before, and the last epoch."""

    grace: int
    factor: int
    last: int

    @property
    def epochs(self) -> tuple[int, ...]:
        found, epoch = [], self.grace
        while epoch < self.last:
            found.append(epoch)
            epoch *= self.factor
        return (*found, self.last)


@dataclass(frozen=True)
class _TrialId:
    """The part of a trial that Ray's schedulers read."""

    trial_id: str


class StoppingRule:
    """Decides after each epoch whether a trial continues. Each trial gets one of `members`, drawn with `weights`.

    cohort: trials that wait for each other at the first rung; None: no trial waits.
    """

    def __init__(
        self, members: Sequence[TrialScheduler], weights: Sequence[float], *, seed: int, cohort: Cohort | None = None
    ) -> None:
        self._members, self._seed, self._cohort = members, seed, cohort
        self._shares = np.asarray(weights, dtype=float) / sum(weights)
        self._begun: dict[int, TrialScheduler] = {}
        self._decided: dict[int, tuple[int, bool]] = {}  # the last epoch of each trial, and whether it continued

    def continues(self, number: int, epoch: int, score: float, *, unstopped: bool) -> bool:
        """Record a score and decide. An `unstopped` trial always continues; the others are compared with it.

        When an epoch is repeated after a worker was lost, the first decision holds. A trial that does not continue may
        wait for others: see `verdict`.
        """
        last, continued = self._decided.get(number, (0, True))
        if epoch > last:
            continued = self._judge(number, epoch, score, unstopped=unstopped)
            if self._cohort is not None and number in self._cohort and epoch == self._cohort.rung:
                self._cohort.arrive(number, score)
                continued = unstopped or self._cohort.verdict(number) is True
            self._decided[number] = epoch, continued
        return continued or epoch < last

    def verdict(self, record: TrialRecord) -> bool | None:
        """Of a trial whose last epoch did not let it continue: whether it goes on all the same from its checkpoint;
        None while it waits for others.
        """
        cohort = self._cohort
        if cohort is None or record.number not in cohort or record.epochs != cohort.rung:
            return False
        return record.unstopped or cohort.verdict(record.number)

    def _judge(self, number: int, epoch: int, score: float, *, unstopped: bool) -> bool:
        member, trial, result = self._member(number), _TrialId(str(number)), {EPOCH: epoch, SCORE: score}
        if unstopped and isinstance(member, MedianStoppingRule):
            # The rule ignores scores of a trial that it has stopped; this call records a score without a decision.
            member.on_trial_complete(None, trial, result)  # type: ignore[arg-type]
            return True
        decision = member.on_trial_result(None, trial, result)  # type: ignore[arg-type]
        return unstopped or decision != TrialScheduler.STOP

    def ended(self, number: int, epoch: int, score: float) -> None:
        """Record the last score of a trial that has ended; a score that was recorded before counts once."""
        member, (last, _) = self._member(number), self._decided.get(number, (0, True))
        del self._begun[number]
        if epoch > last:
            if self._cohort is not None and number in self._cohort:
                self._cohort.arrive(number, score)
            member.on_trial_complete(None, _TrialId(str(number)), {EPOCH: epoch, SCORE: score})  # type: ignore[arg-type]

    def replay(self, records: Sequence[TrialRecord]) -> None:
        """Record the scores of earlier sessions, without the epochs that an unfinished trial will repeat."""
        for record in records:
            last = record.epochs if record.ended else record.checkpoint_epoch
            for epoch, score in sorted(record.scores.items()):
                if epoch > last:
                    break
                if epoch == record.suggestion.epochs:
                    self.ended(record.number, epoch, score)
                else:
                    self.continues(record.number, epoch, score, unstopped=True)
            if record.status in ("diverged", "failed"):
                self.ended(record.number, record.epochs + 1, WORST_SCORE)

    def _member(self, number: int) -> TrialScheduler:
        if number not in self._begun:
            drawn = np.random.default_rng([self._seed, number]).choice(len(self._members), p=self._shares)
            self._begun[number] = self._members[drawn]
            self._begun[number].on_trial_add(None, _TrialId(str(number)))  # type: ignore[arg-type]
        return self._begun[number]


def build_rule(name: str, rungs: Rungs, *, seed: int, together: int = 0) -> StoppingRule | None:
    """`asha`, `hyperband`, `median`; None for `none`, under which nothing is stopped.

    together: asha: so many first trials are judged together at the first rung.
    """
    if name == "asha":
        halved = together > 1 and rungs.grace < rungs.last
        cohort = Cohort(together, rung=rungs.grace, factor=rungs.factor) if halved else None
        return StoppingRule([_asha(rungs, rungs.grace)], [1.0], seed=seed, cohort=cohort)
    if name == "hyperband":
        firsts = rungs.epochs[:-1] or rungs.epochs
        # The number of trials in a bracket is Hyperband's n = ⌈(s_max + 1) ηˢ / (s + 1)⌉.
        weights = [rungs.factor**s / (s + 1) for s in reversed(range(len(firsts)))]
        return StoppingRule([_asha(rungs, first) for first in firsts], weights, seed=seed)
    if name == "median":
        rule = MedianStoppingRule(
            time_attr=EPOCH,
            metric=SCORE,
            mode="max",
            grace_period=rungs.grace,
            min_samples_required=MEDIAN_FROM,
            min_time_slice=math.inf,  # type: ignore[arg-type]  # never pause a trial until others reach its epoch
        )
        return StoppingRule([rule], [1.0], seed=seed)
    return None


def _asha(rungs: Rungs, first: int) -> AsyncHyperBandScheduler:
    settings: dict[str, Any] = {"time_attr": EPOCH, "metric": SCORE, "mode": "max"}
    return AsyncHyperBandScheduler(max_t=rungs.last, grace_period=first, reduction_factor=rungs.factor, **settings)
