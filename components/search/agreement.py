"""Whether a score at a rung foretells the final one, and what became of the trials that reached each rung.

Early stopping trusts that trials which are ahead early are ahead late. That is measured on trials that were drawn at
random to be never stopped. Survivors alone would give a biased answer: all of them were among the best at each rung, so
that the range of their scores there is cut, which changes a rank correlation; and where a rung erred, by sending a good
trial away, there is no final score that would tell.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

#: With fewer trials a rank correlation says nothing.
MIN_TRIALS = 4
#: Below this, a rung sends good trials away too often.
LOW_RHO = 0.6


@dataclass(frozen=True, kw_only=True)
class RungAgreement:
    """Spearman's rho between the scores at a rung and the final ones.

    count: trials with both scores. rho, p_value: None below MIN_TRIALS, and where either score is the same throughout.
    """

    rung: int
    count: int
    rho: float | None
    p_value: float | None

    @property
    def low(self) -> bool:
        return self.rho is not None and self.rho < LOW_RHO

    def to_dict(self) -> dict[str, Any]:
        return {**asdict(self), "low": self.low}


@dataclass(frozen=True, kw_only=True)
class RungSurvival:
    """What became of the trials that reached a rung; `rung` 0 is the start, which every trial reached.

    went_on: reached the next rung. The others ended before it: stopped, diverged, failed, or completed, as trials do
    behind the last rung. The five add up to `reached`.
    """

    rung: int
    reached: int
    went_on: int
    stopped: int
    diverged: int
    failed: int
    completed: int

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def rung_agreement(
    scores: pd.DataFrame, rungs: Sequence[int], final_epoch: int, *, unstopped: Collection[int]
) -> list[RungAgreement]:
    """How far the ranks of the trials at each rung before the final epoch are their final ranks.

    scores: columns trial, epoch, score. unstopped: the trials that could not be stopped, whatever they scored; all of
    them where nothing stops trials.
    """
    ours = scores[scores["trial"].isin(list(unstopped))]
    by_epoch = ours.pivot(index="trial", columns="epoch", values="score")
    return [_agreement(by_epoch, rung, final_epoch) for rung in sorted(set(rungs)) if rung < final_epoch]


def agreement_warning(agreements: Sequence[RungAgreement]) -> str | None:
    """A sentence where a rung misjudges trials, with the remedy; None where none does, or nothing could be measured."""
    low = [agreement for agreement in agreements if agreement.low]
    if not low:
        return None
    worst = min(low, key=lambda agreement: agreement.rho or 0.0)
    trusted = [agreement.rung for agreement in agreements if not agreement.low and agreement.rho is not None]
    beyond = [rung for rung in trusted if rung > low[-1].rung]
    remedy = f"raise search.grace_epochs to {beyond[0]}" if beyond else "raise search.grace_epochs"
    return (
        f"The score after epoch {worst.rung} foretells the final one poorly: Spearman's rho is {worst.rho:.2f} over "
        f"{worst.count} trials that were never stopped, and below {LOW_RHO:g} good trials are stopped too often; "
        f"{remedy}, or set search.scheduler to none."
    )


def survival(trials: pd.DataFrame, rungs: Sequence[int]) -> list[RungSurvival]:
    """The start and each rung, lowest first, with what became of the trials between it and the next.

    trials: columns status and epochs (the last epoch with a score). A rung is reached by a score at it or later.
    """
    levels = [0, *sorted(set(rungs))]
    epochs, statuses = trials["epochs"].to_numpy(dtype=int), trials["status"].to_numpy(dtype=object)
    found = []
    for level, following in zip(levels, [*levels[1:], math.inf], strict=True):
        ended = statuses[(epochs >= level) & (epochs < following)]
        counts = {name: int((ended == name).sum()) for name in ("stopped", "diverged", "failed", "completed")}
        reached, went_on = int((epochs >= level).sum()), int((epochs >= following).sum())
        found.append(RungSurvival(rung=level, reached=reached, went_on=went_on, **counts))
    return found


def _agreement(by_epoch: pd.DataFrame, rung: int, final_epoch: int) -> RungAgreement:
    if rung not in by_epoch or final_epoch not in by_epoch:
        return RungAgreement(rung=rung, count=0, rho=None, p_value=None)
    pairs = by_epoch[[rung, final_epoch]].to_numpy(dtype=float)
    pairs = pairs[np.isfinite(pairs).all(axis=1)]
    if len(pairs) < MIN_TRIALS or (np.ptp(pairs, axis=0) == 0).any():
        return RungAgreement(rung=rung, count=len(pairs), rho=None, p_value=None)
    result = stats.spearmanr(pairs[:, 0], pairs[:, 1])
    return RungAgreement(rung=rung, count=len(pairs), rho=float(result.statistic), p_value=float(result.pvalue))
