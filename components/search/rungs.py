"""Early stopping: which trials go on at a rung. Ray's schedulers decide, asked without Ray Tune around them.

ASHA (Li et al., arXiv 1810.05934), its brackets with later first rungs (asynchronous Hyperband, the same paper), and
the median rule (Golovin et al. 2017). Trials are known by their numbers, so that a search that goes on can tell the
rule what it had seen before, and a simulation can use the same rule.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from ray.tune.schedulers import AsyncHyperBandScheduler, MedianStoppingRule, TrialScheduler

from components.search.trial import TrialRecord

EPOCH, SCORE = "epoch", "score"
#: What a diverged or failed trial is held to have scored: schedulers would let a NaN go on.
WORST_SCORE = 0.0
#: The median rule says nothing before so many other trials have a score at the epoch.
MEDIAN_FROM = 3


@dataclass(frozen=True)
class Rungs:
    """Epochs at which trials are compared: `grace`, then each `factor` times the one before, and the last epoch."""

    grace: int
    factor: int
    last: int

    @property
    def epochs(self) -> tuple[int, ...]:
        """All of them, the last epoch included."""
        found, epoch = [], self.grace
        while epoch < self.last:
            found.append(epoch)
            epoch *= self.factor
        return (*found, self.last)


@dataclass(frozen=True)
class _Known:
    """As much of a trial as Ray's schedulers ask for."""

    trial_id: str


class StoppingRule:
    """Decides after each epoch whether a trial goes on.

    members: schedulers between which trials are dealt out, one of them drawn for each number with `weights`.
    """

    def __init__(self, members: Sequence[TrialScheduler], weights: Sequence[float], *, seed: int) -> None:
        self._members, self._seed = members, seed
        self._shares = np.asarray(weights, dtype=float) / sum(weights)
        self._begun: dict[int, TrialScheduler] = {}
        self._told: dict[int, tuple[int, bool]] = {}  # the last epoch of each trial, and whether it went on

    def goes_on(self, number: int, epoch: int, score: float, *, unstopped: bool) -> bool:
        """Take in a score and decide. What is `unstopped` counts for the others and goes on whatever it scored.

        An epoch that is told again, since a worker was lost, was decided on before.
        """
        last, went_on = self._told.get(number, (0, True))
        if epoch > last:
            went_on = self._judge(number, epoch, score, unstopped=unstopped)
            self._told[number] = epoch, went_on
        return went_on or epoch < last

    def _judge(self, number: int, epoch: int, score: float, *, unstopped: bool) -> bool:
        member, trial, result = self._member(number), _Known(str(number)), {EPOCH: epoch, SCORE: score}
        if unstopped and isinstance(member, MedianStoppingRule):
            # It takes no further score of a trial that it has told to stop; this way it takes one without judging.
            member.on_trial_complete(None, trial, result)  # type: ignore[arg-type]
            return True
        decision = member.on_trial_result(None, trial, result)  # type: ignore[arg-type]
        return unstopped or decision != TrialScheduler.STOP

    def ended(self, number: int, epoch: int, score: float) -> None:
        """Take in the last score of a trial that goes on no more; one that is known already counts once."""
        member, (last, _) = self._member(number), self._told.get(number, (0, True))
        del self._begun[number]
        if epoch > last:
            member.on_trial_complete(None, _Known(str(number)), {EPOCH: epoch, SCORE: score})  # type: ignore[arg-type]

    def replay(self, records: Sequence[TrialRecord]) -> None:
        """Take in what earlier sessions of a search saw, but for what a trial that goes on will tell again."""
        for record in records:
            stands = record.epochs if record.ended else record.checkpoint_epoch
            for epoch, score in sorted(record.scores.items()):
                if epoch > stands:
                    break
                if epoch == record.suggestion.epochs:
                    self.ended(record.number, epoch, score)
                else:
                    self.goes_on(record.number, epoch, score, unstopped=True)
            if record.status in ("diverged", "failed"):
                self.ended(record.number, record.epochs + 1, WORST_SCORE)

    def _member(self, number: int) -> TrialScheduler:
        if number not in self._begun:
            drawn = np.random.default_rng([self._seed, number]).choice(len(self._members), p=self._shares)
            self._begun[number] = self._members[drawn]
            self._begun[number].on_trial_add(None, _Known(str(number)))  # type: ignore[arg-type]
        return self._begun[number]


def build_rule(name: str, rungs: Rungs, *, seed: int) -> StoppingRule | None:
    """`asha`, `hyperband`, `median`; None for `none`, under which nothing is stopped."""
    if name == "asha":
        return StoppingRule([_asha(rungs, rungs.grace)], [1.0], seed=seed)
    if name == "hyperband":
        firsts = rungs.epochs[:-1] or rungs.epochs
        # As many trials in each bracket as its rungs can sort: Hyperband's n = ⌈(s_max + 1) ηˢ / (s + 1)⌉.
        weights = [rungs.factor**s / (s + 1) for s in reversed(range(len(firsts)))]
        return StoppingRule([_asha(rungs, first) for first in firsts], weights, seed=seed)
    if name == "median":
        rule = MedianStoppingRule(
            time_attr=EPOCH,
            metric=SCORE,
            mode="max",
            grace_period=rungs.grace,
            min_samples_required=MEDIAN_FROM,
            min_time_slice=math.inf,  # type: ignore[arg-type]  # never pauses a trial for others to come that far
        )
        return StoppingRule([rule], [1.0], seed=seed)
    return None


def _asha(rungs: Rungs, first: int) -> AsyncHyperBandScheduler:
    settings: dict[str, Any] = {"time_attr": EPOCH, "metric": SCORE, "mode": "max"}
    return AsyncHyperBandScheduler(max_t=rungs.last, grace_period=first, reduction_factor=rungs.factor, **settings)
