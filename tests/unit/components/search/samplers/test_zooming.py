"""Where the bandit goes next: each figure by hand from the formulas of the module."""

import math
from itertools import pairwise

import pytest

from components.search.samplers.zooming import Arm, next_position, noise, slope


def test_without_arms_the_middle_is_tried() -> None:
    assert next_position([], trials=8, decades=2.0) == 0.5


def test_noise_starts_from_the_prior_and_gives_way_to_repetitions() -> None:
    assert noise([Arm(0.5, (0.9,))]) == pytest.approx(0.02)
    # squares about the mean: 2 · 0.01² of one degree of freedom, beside two of the prior
    assert noise([Arm(0.5, (0.89, 0.91))]) == pytest.approx(math.sqrt((2 * 0.02**2 + 2 * 0.01**2) / 3))
    # pooled over arms, whatever lies between their means
    arms = [Arm(0.2, (0.5, 0.54)), Arm(0.8, (0.9, 0.94))]
    assert noise(arms) == pytest.approx(math.sqrt((2 * 0.02**2 + 4 * 0.02**2) / 4))


def test_noise_has_a_floor() -> None:
    assert noise([Arm(0.5, (0.9,) * 1000)]) == 0.002


def test_the_slope_is_one_and_a_half_times_the_steepest_seen() -> None:
    assert slope([Arm(0.5, (0.9,))], decades=2.0) == 0.5
    # 0.2 in half of two decades, and 0.1 in a quarter of them
    arms = [Arm(0.0, (0.7,)), Arm(0.5, (0.9,)), Arm(0.75, (0.8, 0.8)), Arm(0.6, (), pending=1)]
    assert slope(arms, decades=2.0) == pytest.approx(1.5 * 0.2)
    assert slope(arms, decades=4.0) == pytest.approx(1.5 * 0.1)


def test_between_neighbours_the_noise_is_not_taken_for_a_slope() -> None:
    # 0.02 apart in score: as if they lay a tenth of the line apart, not a thousandth
    assert slope([Arm(0.5, (0.9,)), Arm(0.501, (0.88,))], decades=2.0) == pytest.approx(1.5 * 0.02 / 0.2)


def test_the_slope_has_a_floor() -> None:
    assert slope([Arm(0.2, (0.9,)), Arm(0.8, (0.9,))], decades=2.0) == 0.05


def test_the_second_arm_is_as_far_as_it_may_be_from_the_first() -> None:
    # T = 8: no nearer to an end than 0.75 / 8
    assert next_position([Arm(0.7, (0.9,))], trials=8, decades=2.0) == pytest.approx(0.75 / 8)
    assert next_position([Arm(0.3, (0.9,))], trials=8, decades=2.0) == pytest.approx(1 - 0.75 / 8)


def test_a_new_arm_lies_where_the_cones_of_its_neighbours_meet() -> None:
    # n = 1 each, so equal radii; L = 1.5 · 0.4 / 1.6 decades = 0.375. Between the ends' cones of 0.5 and 0.9 the bound
    # is highest where 0.5 + 0.375 · 2 (u − 0.1) = 0.9 + 0.375 · 2 (0.9 − u): u = 0.5 + 0.4 / 1.5 = 0.7667.
    arms = [Arm(0.1, (0.5,)), Arm(0.9, (0.9,))]
    assert next_position(arms, trials=8, decades=2.0) == pytest.approx(0.5 + 0.4 / 1.5, abs=1e-3)


def test_where_all_is_covered_the_most_promising_arm_is_repeated() -> None:
    # r = 0.02 · √(2 ln 8) = 0.041 covers 0.041 / (0.05 · 0.5) = 1.6 times the line
    arms = [Arm(0.3, (0.90,)), Arm(0.7, (0.901,))]
    assert next_position(arms, trials=8, decades=0.5) == 0.7


def test_an_arm_that_was_repeated_often_is_worth_less_than_one_as_good_that_was_not() -> None:
    arms = [Arm(0.3, (0.90,)), Arm(0.7, (0.901,) * 4)]
    assert next_position(arms, trials=8, decades=0.5) == 0.3


def test_a_running_repetition_counts_as_done() -> None:
    arms = [Arm(0.3, (0.90,)), Arm(0.7, (0.901,), pending=3)]
    assert next_position(arms, trials=8, decades=0.5) == 0.3


def test_many_at_once_are_spread_before_any_has_ended() -> None:
    arms = [Arm(0.5, (), pending=1)]
    for _ in range(3):
        arms.append(Arm(next_position(arms, trials=8, decades=4.0), (), pending=1))
    positions = sorted(arm.position for arm in arms)
    assert min(b - a for a, b in pairwise(positions)) > 0.15


def test_even_one_trial_in_all_has_a_place() -> None:
    assert 0 <= next_position([Arm(0.5, (0.9,))], trials=1, decades=2.0) <= 1
