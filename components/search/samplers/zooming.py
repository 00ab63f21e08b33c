"""The formulas of the Lipschitz bandit: the next position on a line, given the scores at other positions.

Positions are the arms of a bandit whose reward changes no faster than a slope L: the zooming algorithm (Kleinberg,
Slivkins, Upfal, arXiv 1312.1277), which Priyanka, Kalyani and Chatterjee (2409.09783) applied to learning rates. Its
textbook radii suit thousands of trials; here they scale with the noise from seed to seed:

    r(x) = s sqrt(2 ln T / n(x)),    UB(u) = min over arms x of (mean(x) + r(x) + L |u - x|).

A new arm is placed where UB is highest among the positions that no arm's radius covers (L |u - x| > r(x)), if that
exceeds the bound of every arm; else the most promising arm, by mean + 2 r, is repeated.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

#: Prior of s, with the weight of PRIOR_REPEATS repetitions; s is at least the floor.
PRIOR_NOISE, PRIOR_REPEATS, NOISE_FLOOR = 0.02, 2, 0.002
#: L per decade with a single arm; later a multiple of the largest slope between arms, and its minimum.
FIRST_SLOPE, SLOPE_FACTOR, LEAST_SLOPE = 0.5, 1.5, 0.05
#: Smallest distance of two arms for the slope, as a share of the line: between close arms noise looks like a slope,
#: which raised the regret by a third at 60 trials.
MIN_DISTANCE = 0.1
#: Smallest distance of a new arm from an end, in multiples of 1 / T: the ends tell less than the inside.
MARGIN = 0.75
#: Positions among which the highest bound is searched.
CANDIDATES = 1001


@dataclass(frozen=True)
class Arm:
    """A tried position in [0, 1]. values: the scores of its trials. pending: its running trials."""

    position: float
    values: tuple[float, ...]
    pending: int = 0


def next_position(arms: Sequence[Arm], *, trials: int, decades: float) -> float:
    """The position of the next trial in [0, 1]; that of an arm means a repetition.

    trials: their total number. decades: the width of [0, 1]. A running trial counts as the mean of its arm, or, if the
    arm has no score, as the mean of all scores.
    """
    if not arms:
        return 0.5
    known = [value for arm in arms for value in arm.values]
    position = np.array([arm.position for arm in arms])
    count = np.array([len(arm.values) + arm.pending for arm in arms])
    mean = np.array([np.mean(arm.values or known or [0.0]) for arm in arms])
    radius = noise(arms) * np.sqrt(2 * math.log(max(trials, 2)) / count)
    margin = min(MARGIN / trials, 0.5)
    candidates = np.linspace(margin, 1 - margin, CANDIDATES)
    fall = slope(arms, decades=decades) * decades * np.abs(candidates[:, None] - position)
    bound = np.min(mean + radius + fall, axis=1)
    bound[np.any(fall <= radius, axis=1)] = -np.inf
    highest = int(np.argmax(bound))
    if bound[highest] > np.max(mean + radius):
        return float(candidates[highest])
    return float(position[np.argmax(mean + 2 * radius)])


def noise(arms: Sequence[Arm]) -> float:
    """Standard deviation between seeds, pooled over the repeated arms and the prior."""
    squares = sum(float(np.sum((np.array(arm.values) - np.mean(arm.values)) ** 2)) for arm in arms if arm.values)
    freedom = sum(len(arm.values) - 1 for arm in arms if arm.values)
    pooled = math.sqrt((PRIOR_REPEATS * PRIOR_NOISE**2 + squares) / (PRIOR_REPEATS + freedom))
    return max(pooled, NOISE_FLOOR)


def slope(arms: Sequence[Arm], *, decades: float) -> float:
    """L: how much the score may change per decade."""
    known = [arm for arm in arms if arm.values]
    if len(known) < 2:
        return FIRST_SLOPE
    position = np.array([arm.position for arm in known])
    mean = np.array([np.mean(arm.values) for arm in known])
    apart = np.maximum(np.abs(position[:, None] - position), MIN_DISTANCE) * decades
    steepest = float(np.max(np.abs(mean[:, None] - mean) / apart))
    return max(SLOPE_FACTOR * steepest, LEAST_SLOPE)
