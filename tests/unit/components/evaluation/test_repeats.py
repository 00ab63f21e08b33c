"""Means over seeds, paired differences and steps to a target, against hand arithmetic and scipy's own t test."""

import math

import numpy as np
import pytest
from scipy import stats

from components.evaluation.repeats import first_reach, mean_interval, paired_gap, reach


def test_no_repetition_has_no_mean() -> None:
    none = mean_interval([], confidence=0.95)
    assert (none.count, none.mean, none.sd, none.low, none.high, none.half_width) == (0, None, None, None, None, None)
    assert mean_interval([None, math.nan], confidence=0.95) == none


def test_one_repetition_has_a_mean_and_no_interval() -> None:
    one = mean_interval([0.8, None], confidence=0.95)
    assert (one.count, one.mean, one.low, one.high, one.half_width) == (1, 0.8, None, None, None)


def test_the_interval_of_three_is_that_of_students_table() -> None:
    # sd of 0.8, 0.9, 1.0 is 0.1; t(0.975, 2) = 4.303; 4.303 · 0.1 / √3 = 0.2484
    three = mean_interval([0.8, 1.0, 0.9], confidence=0.95)
    assert three.mean == pytest.approx(0.9)
    assert three.sd == pytest.approx(0.1)
    assert three.half_width == pytest.approx(0.2484, abs=5e-5)
    assert three.high == pytest.approx(1.1484, abs=5e-5)  # not cut to the range of a share


def test_the_interval_is_that_of_a_one_sample_t_test() -> None:
    values = np.random.default_rng(0).normal(0.7, 0.05, 7)
    ours = mean_interval(values.tolist(), confidence=0.9)
    theirs = stats.ttest_1samp(values, 0).confidence_interval(0.9)
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high))


def test_repetitions_that_agree_have_an_interval_of_no_width() -> None:
    same = mean_interval([0.5, 0.5, 0.5], confidence=0.95)
    assert (same.low, same.high) == (0.5, 0.5)


def test_what_a_seed_does_to_both_cancels_in_a_paired_difference() -> None:
    mine, best = {1: 0.60, 2: 0.80, 3: 0.90}, {1: 0.62, 2: 0.82, 3: 0.92}
    gap = paired_gap(mine, best, confidence=0.95)
    assert gap.mean == pytest.approx(-0.02)
    assert gap.half_width == pytest.approx(0, abs=1e-9)
    alone = mean_interval(list(mine.values()), confidence=0.95)
    assert alone.half_width > 0.3


def test_a_paired_difference_takes_the_seeds_that_both_know() -> None:
    gap = paired_gap({1: 0.5, 2: 0.9, 3: None}, {2: 0.6, 3: 0.7, 4: 0.1}, confidence=0.95)
    assert (gap.count, gap.mean, gap.low) == (1, pytest.approx(0.3), None)
    assert paired_gap({1: 0.5}, {2: 0.5}, confidence=0.95).mean is None


def test_the_target_is_reached_on_the_straight_line_between_two_evaluations() -> None:
    # From 0.8 at step 10 to 0.4 at step 20: 0.7 is a quarter of the way.
    assert first_reach([10, 20, 30], [0.8, 0.4, 0.1], 0.7) == pytest.approx(12.5)
    assert first_reach([10, 20, 30], [0.8, 0.4, 0.1], 0.4) == pytest.approx(20)


def test_a_target_that_the_first_evaluation_has_reached_counts_there() -> None:
    assert first_reach([10, 20], [0.3, 0.1], 0.5) == 10


def test_a_target_that_is_never_reached_has_no_cost() -> None:
    assert first_reach([10, 20], [0.8, 0.6], 0.5) is None
    assert first_reach([], [], 0.5) is None
    assert first_reach([10, 20], [math.nan, None], 0.5) is None


def test_the_first_time_counts_though_the_loss_rises_again() -> None:
    assert first_reach([1, 2, 3, 4], [1.0, 0.5, 0.9, 0.2], 0.5) == pytest.approx(2)
    # A dip that was passed over for want of a number: on the line from 1 to 3.
    assert first_reach([1, 2, 3], [1.0, math.nan, 0.5], 0.75) == pytest.approx(2)


def test_reach_counts_the_repetitions_that_came_there_and_averages_their_cost() -> None:
    some = reach([10.0, None, 30.0])
    assert (some.reached, some.count, some.mean, some.share) == (2, 3, 20.0, pytest.approx(2 / 3))
    assert reach([None]).to_dict() == {"reached": 0, "count": 1, "mean": None, "share": 0.0}
    assert reach([]).share is None
