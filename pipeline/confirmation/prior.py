"""What is known of the winner's gain at full length before it is measured, from trainings that were recorded.

`python benchmarks/confirmation.py --fit` gives the constants, fitted on the sets that benchmarks/data holds; the same
benchmark judges the rule on each set with the constants fitted on the others. All in units of the objective; the
trainings were scored by AUROC and average precision only, and their classifiers started from random weights.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from components.evaluation.expected_difference import Normal

#: Of a gain in a search of few epochs, this share is left at full length; winners fall behind that by the constant.
GAIN_SHARE, SELECTION = 0.13, 0.026
#: Up to this gain in the search the defaults are expected to be better at full length.
LEAST_GAIN = SELECTION / GAIN_SHARE
#: Standard deviation of the gain at full length around that expectation.
GAIN_SD = 0.04
#: Standard deviation between seeds of the difference of two recipes (fitted), and the degrees of freedom that it counts
#: for beside those of the measured differences (chosen).
SEED_SD, SEED_FREEDOM = 0.03, 4.0
#: Correlation of the scores of two recipes on the same images, over resamples of these.
CORRELATION = 0.57


def search_gain(best: Mapping[str, Any]) -> float | None:
    """The winner's score less that of the defaults in the search; None if the defaults have no score there.

    best: the content of best.json.
    """
    means = best.get("fold_means")
    if means is not None and means["defaults"] is not None:
        return float(means["winner"] - means["defaults"])
    gain = best.get("gain")
    return None if gain is None else float(gain)


def possible_gain(expected: Normal) -> float:
    """What a winner may gain: in one case of forty it is more."""
    return expected.mean + 2 * expected.sd


def expected_gain(gain: float | None) -> Normal:
    """The winner's gain over the defaults at full length, given that in the search; around 0 without one."""
    return Normal(0.0 if gain is None else GAIN_SHARE * gain - SELECTION, GAIN_SD)
