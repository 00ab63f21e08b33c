"""The arithmetic of the Lipschitz bandit: which place of a line is tried next, given what was scored at others.

The places are the arms of a bandit whose reward changes no faster than a slope L: the zooming algorithm (Kleinberg,
Slivkins, Upfal, arXiv 1312.1277), which Priyanka, Kalyani and Chatterjee (2409.09783) applied to learning rates. Its
textbook radii suit thousands of trials; here they scale with the noise from seed to seed:

    r(x) = s sqrt(2 ln T / n(x)),    UB(u) = min over arms x of (mean(x) + r(x) + L |u - x|).

A new arm goes where UB is highest among the places that no arm's radius covers (L |u - x| > r(x)), if that is more than
any arm may itself be worth; else the most promising arm, by mean + 2 r, is tried once more.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

#: s before anything was repeated. It weighs as much as PRIOR_REPEATS repetitions; never below the floor.
PRIOR_NOISE, PRIOR_REPEATS, NOISE_FLOOR = 0.02, 2, 0.002
#: L per decade as long as there is one arm; then so many times the largest slope seen, and no less than the least.
FIRST_SLOPE, SLOPE_FACTOR, LEAST_SLOPE = 0.5, 1.5, 0.05
#: Arms nearer to each other than this part of the line are taken to be that far apart: between neighbours the noise
#: looks like a slope, and at 60 trials that cost a third of the regret.
NEIGHBOURS = 0.1
#: No new arm nearer to an end than this part of an even share, 1 / T: half of what it tells would lie outside.
MARGIN = 0.75
#: Places among which the highest bound is looked for.
PLACES = 1001


@dataclass(frozen=True)
class Arm:
    """A place that was tried. position: in [0, 1]. values: what its trials scored. pending: trials that are running."""

    position: float
    values: tuple[float, ...]
    pending: int = 0


def next_position(arms: Sequence[Arm], *, trials: int, decades: float) -> float:
    """Where the next trial goes, in [0, 1]: at an arm's own position it is repeated.

    trials: how many there will be in all. decades: what [0, 1] stands for. A running trial counts as if it had come out
    as its arm's mean, or where the arm has none as the mean of all.
    """
    if not arms:
        return 0.5
    known = [value for arm in arms for value in arm.values]
    position = np.array([arm.position for arm in arms])
    count = np.array([len(arm.values) + arm.pending for arm in arms])
    mean = np.array([np.mean(arm.values or known or [0.0]) for arm in arms])
    radius = noise(arms) * np.sqrt(2 * math.log(max(trials, 2)) / count)
    margin = min(MARGIN / trials, 0.5)
    places = np.linspace(margin, 1 - margin, PLACES)
    fall = slope(arms, decades=decades) * decades * np.abs(places[:, None] - position)
    bound = np.min(mean + radius + fall, axis=1)
    bound[np.any(fall <= radius, axis=1)] = -np.inf
    highest = int(np.argmax(bound))
    if bound[highest] > np.max(mean + radius):
        return float(places[highest])
    return float(position[np.argmax(mean + 2 * radius)])


def noise(arms: Sequence[Arm]) -> float:
    """Standard deviation from seed to seed: pooled over the arms that were repeated, and the prior."""
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
    apart = np.maximum(np.abs(position[:, None] - position), NEIGHBOURS) * decades
    steepest = float(np.max(np.abs(mean[:, None] - mean) / apart))
    return max(SLOPE_FACTOR * steepest, LEAST_SLOPE)
