"""The difference of two recipes in expectation: as measured, shrunk towards what is known of such differences.

Whether a measurement is worth making is judged before it: by the difference that it could detect.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from scipy import stats


@dataclass(frozen=True)
class Normal:
    """A normal distribution; sd ≥ 0."""

    mean: float
    sd: float

    def above_zero(self) -> float:
        """The probability of a value above 0; a half for a certain 0."""
        if self.sd == 0:
            return 0.5 * (1 + (self.mean > 0) - (self.mean < 0))
        return float(stats.norm.cdf(self.mean / self.sd))

    def bounds(self, confidence: float) -> tuple[float, float]:
        """The lower and the upper bound, each one-sided at the confidence."""
        half = float(stats.norm.ppf(confidence)) * self.sd
        return self.mean - half, self.mean + half


def shrink(difference: float, se: float, prior: Normal) -> Normal:
    """The posterior of a difference that was measured with a normal error, by Bayes' rule for normal distributions.

    mean = (τ² d + se² μ) / (τ² + se²), variance = τ² se² / (τ² + se²), for the prior N(μ, τ²) (Efron & Morris 1975,
    JASA 70:311). se: standard error, ≥ 0, inf for a measurement that says nothing. prior: its sd is above 0.
    """
    if math.isinf(se):
        return prior
    weight = prior.sd**2 / (prior.sd**2 + se**2)
    return Normal(weight * difference + (1 - weight) * prior.mean, math.sqrt(weight) * se)


def moderated_variance(variance: float, freedom: int, *, expected: float, expected_freedom: float) -> float:
    """A variance from few values, moderated by the one that was seen elsewhere.

    The mean of both, weighted by their degrees of freedom (Smyth 2004, Stat. Appl. Genet. Mol. Biol. 3:3, eq. 2).
    variance: of `freedom` + 1 values; not read where freedom is 0.
    """
    own = variance * freedom if freedom else 0.0
    return (own + expected * expected_freedom) / (freedom + expected_freedom)


def score_variance(objective: str, score: float, counts: Sequence[int]) -> float:
    """The sampling variance of an objective on so many independent images, roughly, without any predictions.

    auroc: Hanley & McNeil 1982 (Radiology 143:29, with exponential scores). average_precision: binomial in the
    defectives (Boyd, Eng & Page 2013, ECML, LNCS 8190:451). balanced_accuracy: binomial in each class, all at the same
    rate. Others depend on a threshold that the defectives set and a rate of the good: binomial in both, added.

    score: in [0, 1]; one at the edge is taken for one of half an image within it. counts: images of each kind, at least
    1: (defective, good), or for balanced_accuracy those of each class.
    """
    edge = 0.5 / min(counts)
    score = min(max(score, edge), 1 - edge)
    binomial = score * (1 - score)
    if objective == "balanced_accuracy":
        return binomial * sum(1 / count for count in counts) / len(counts) ** 2
    defective, good = counts
    if objective == "average_precision":
        return binomial / defective
    if objective != "auroc":
        return binomial * (1 / defective + 1 / good)
    score = max(score, 0.5)
    both_above, both_below = score / (2 - score) - score**2, 2 * score**2 / (1 + score) - score**2
    pairs = score * (1 - score) + (defective - 1) * both_above + (good - 1) * both_below
    return pairs / (defective * good)


def difference_variance(sampling: float, *, correlation: float, seed_variance: float, replicates: int) -> float:
    """The variance of a mean difference of two recipes on the same images.

    2 (1 − ρ) · sampling variance of one recipe's score + seed variance / replicates (Hanley & McNeil 1983, Radiology
    148:839, for the first). seed_variance: of one replicate's difference.
    """
    return 2 * (1 - correlation) * sampling + seed_variance / replicates


def detectable_difference(se: float, *, confidence: float) -> float:
    """The smallest measured difference whose one-sided bound at the confidence excludes 0: z · se."""
    return float(stats.norm.ppf(confidence)) * se
