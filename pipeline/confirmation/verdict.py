"""Decides between the winner of a search and the defaults: the recipe of the higher expected quality is kept.

The measured difference varies with the seeds and with the choice of validation images. It is shrunk towards what is
known of such differences (`prior`), by as much as it is uncertain. How sure the decision is, is said beside it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from components.evaluation.expected_difference import Normal, moderated_variance, shrink
from pipeline.confirmation.prior import LEAST_GAIN, SEED_FREEDOM, SEED_SD
from pipeline.overriding import override
from pipeline.sections.recipe import Recipe

WINNER, DEFAULTS = "winner", "defaults"

#: What a recipe changes in the configured one, by dotted path.
Overrides = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Measured:
    """Differences winner − defaults, one per replicate, and the variance of their mean over the choice of images.

    differences: at least one, each finite. sampling: None where it has none. independent: whether each replicate was
    scored on images of its own; then the differences vary by the choice of images, too.
    """

    differences: Sequence[float]
    sampling: float | None
    independent: bool

    @property
    def mean(self) -> float:
        return float(np.mean(self.differences))

    def seed_variance(self) -> float:
        """Of the mean difference: what the seeds are responsible for, moderated by what other trainings showed."""
        count = len(self.differences)
        own = float(np.var(self.differences, ddof=1)) if count > 1 else 0.0
        if self.independent and self.sampling is not None:
            own = max(own - count * self.sampling, 0.0)
        moderated = moderated_variance(own, count - 1, expected=SEED_SD**2, expected_freedom=SEED_FREEDOM)
        return moderated / count


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """The decision. Values that were not measured are None.

    difference: the measured mean of winner − defaults. se_seeds, se_sampling: the two parts of its standard error.
    expected: the difference after shrinking. low, high: its bounds, each one-sided at the confidence. probability: that
    the winner is better. certain: whether 0 is outside the bounds.
    """

    chosen: str
    statement: str
    difference: float | None = None
    se_seeds: float | None = None
    se_sampling: float | None = None
    expected: float | None = None
    low: float | None = None
    high: float | None = None
    probability: float | None = None
    certain: bool | None = None


def candidates(best: Mapping[str, Any], recipe: Recipe) -> dict[str, Overrides]:
    """The defaults, and the winner if it is another recipe. best: of the search."""
    winner, defaults = dict(best["overrides"]), dict(best["defaults"])
    if not best["trial"] or override(recipe, winner) == override(recipe, defaults):
        return {DEFAULTS: defaults}
    return {WINNER: winner, DEFAULTS: defaults}


def judge(measured: Measured, prior: Normal, *, confidence: float, objective: str, over: str) -> Verdict:
    """Keep the recipe of the higher expected quality, given the measured differences.

    prior: the difference as it was expected before. over: what the differences were measured on, in words.
    """
    if measured.sampling is None or not math.isfinite(measured.mean):
        reason = f"Measured {over}, {objective} has no value or no uncertainty, so that the search's scores decide."
        return _verdict(prior, confidence, objective, reason)
    seeds = measured.seed_variance()
    se = math.sqrt(seeds + measured.sampling)
    measurement = (
        f"Measured {over}: {measured.mean:+.4f} with a standard error of {se:.4f}, shrunk towards the difference that "
        f"was expected before ({prior.mean:+.4f} ± {prior.sd:.4f})."
    )
    verdict = _verdict(shrink(measured.mean, se, prior), confidence, objective, measurement)
    return replace(
        verdict, difference=measured.mean, se_seeds=math.sqrt(seeds), se_sampling=math.sqrt(measured.sampling)
    )


def by_search(prior: Normal, gain: float | None, *, confidence: float, objective: str, reason: str) -> Verdict:
    """The decision without a confirmation, by the search's own scores. reason: why there is none.

    gain: the winner's in the search; None if the defaults have no score there, and then the winner is kept.
    """
    if gain is None:
        return Verdict(
            chosen=WINNER, statement=f"The winner is kept: in the search the defaults have no score. {reason}"
        )
    source = (
        f"It gained {gain:.4f} in the search. Without a confirmation a winner is kept only above a gain of "
        f"{LEAST_GAIN:.2f}: at full length little of it is left. {reason}"
    )
    return _verdict(prior, confidence, objective, source)


def nothing_to_confirm() -> Verdict:
    """The decision where the defaults are the only recipe."""
    return Verdict(chosen=DEFAULTS, statement="The search found nothing better: nothing to confirm.")


def diverged(winner: Sequence[str], defaults: Sequence[str], *, others: Sequence[float]) -> Verdict:
    """The decision if a training diverged. winner, defaults: the replicates in which the recipe diverged.

    others: winner − defaults of each other replicate.
    """
    if winner:
        also = f" So did the defaults, with {', '.join(defaults)}." if defaults else ""
        return Verdict(
            chosen=DEFAULTS,
            statement=f"The defaults are kept: the winner diverged at full length with {', '.join(winner)}.{also}",
        )
    if sum(others) < 0:
        return Verdict(
            chosen=DEFAULTS,
            statement=f"The defaults are kept: they diverged at full length with {', '.join(defaults)}, and the winner "
            "with none, but in the other trainings it is behind.",
        )
    also = ", and in the other trainings it is not behind" if others else ""
    return Verdict(
        chosen=WINNER,
        statement=f"The winner is kept: the defaults diverged at full length with {', '.join(defaults)}, the winner "
        f"with none{also}.",
    )


def _verdict(difference: Normal, confidence: float, objective: str, source: str) -> Verdict:
    """The recipe of the higher expectation. difference: winner − defaults. source: where it is from, in words."""
    chosen = WINNER if difference.mean > 0 else DEFAULTS
    low, high = difference.bounds(confidence)
    probability = difference.above_zero()
    certain = low > 0 or high < 0
    kept = "The winner is kept" if chosen == WINNER else "The defaults are kept"
    gap = f"{abs(difference.mean):.4f} {'above' if difference.mean > 0 else 'below'} that of the defaults"
    return Verdict(
        chosen=chosen,
        statement=f"{kept}: the winner's expected {objective} is {gap}, and it is better with a probability of "
        f"{100 * probability:.0f} %, which is {'certain' if certain else 'not certain'} at {100 * confidence:g} % "
        f"confidence. {source}",
        expected=difference.mean,
        low=low,
        high=high,
        probability=probability,
        certain=certain,
    )
