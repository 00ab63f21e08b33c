"""What further trials may add to the best one: the expected improvement (Močkus 1975), without a model of the space.

Scores of trials at the same epoch are taken for draws from one normal distribution. Bad recipes widen it, so that the
improvement is overestimated and a search rather goes on.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.stats import norm

from components.search.trial import TrialRecord

#: With fewer scores their spread says nothing.
FEWEST_SCORES = 5


def expected_improvement(scores: Sequence[float], *, trials: int) -> float:
    """By how much the best of so many more trials is expected to be above the best so far; scores in [0, 1], two at
    least.
    """
    best, mean, sd = max(scores), float(np.mean(scores)), float(np.std(scores, ddof=1))
    if sd == 0:
        return 0.0
    above = np.linspace((best - mean) / sd, (best - mean) / sd + 8, 2001)
    return min(sd * float(np.trapezoid(1 - norm.cdf(above) ** trials, above)), 1 - best)


def too_little_to_gain(records: Sequence[TrialRecord], *, epoch: int, first: int, num_trials: int, least: float) -> str:
    """A message why the remaining trials are not worth their time; empty if they are, or nothing can be said yet.

    epoch: at which trials are compared. first: so many trials are tried in any case. least: what the remaining ones
    together have to be expected to add.
    """
    remaining = num_trials - len(records)
    if remaining <= 0 or len(records) < first or not all(r.ended or r.epochs >= epoch for r in records[:first]):
        return ""
    scores = [record.scores[epoch] for record in records if epoch in record.scores]
    if len(scores) < FEWEST_SCORES:
        return ""
    gain = expected_improvement(scores, trials=remaining)
    if gain >= least:
        return ""
    return (
        f"the remaining {remaining} trials are expected to raise the best score after epoch {epoch} by {gain:.4f}, "
        f"too little to show above the noise between seeds (at least {least:g})"
    )
