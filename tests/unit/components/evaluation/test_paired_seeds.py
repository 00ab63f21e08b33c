"""Means over seeds, paired differences and their bounds, against hand arithmetic and scipy's own t test."""

import math

import numpy as np
import pytest
from scipy import stats

from components.evaluation.paired_seeds import difference_by_seed, mean_interval


def test_no_seed_has_no_mean() -> None:
    none = mean_interval([], confidence=0.95)
    assert (none.count, none.mean, none.low, none.high) == (0, None, None, None)
    assert mean_interval([None, math.nan], confidence=0.95) == none


def test_one_seed_has_a_mean_and_no_interval() -> None:
    one = mean_interval([0.8, None], confidence=0.95)
    assert (one.count, one.mean, one.low, one.high) == (1, 0.8, None, None)


def test_the_interval_of_three_is_that_of_students_table() -> None:
    # sd of 0.8, 0.9, 1.0 is 0.1; t(0.975, 2) = 4.303; 4.303 · 0.1 / √3 = 0.2484
    three = mean_interval([0.8, 1.0, 0.9], confidence=0.95)
    assert three.mean == pytest.approx(0.9)
    assert three.low == pytest.approx(0.9 - 0.2484, abs=5e-5)
    assert three.high == pytest.approx(1.1484, abs=5e-5)  # not cut to the range of a share


def test_the_interval_is_that_of_a_one_sample_t_test() -> None:
    values = np.random.default_rng(0).normal(0.7, 0.05, 7)
    ours = mean_interval(values.tolist(), confidence=0.9)
    theirs = stats.ttest_1samp(values, 0).confidence_interval(0.9)
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high))


def test_seeds_that_agree_have_an_interval_of_no_width() -> None:
    same = mean_interval([0.5, 0.5, 0.5], confidence=0.95)
    assert (same.low, same.high) == (0.5, 0.5)


def test_what_a_seed_does_to_both_cancels_in_a_paired_difference() -> None:
    mine, best = {1: 0.60, 2: 0.80, 3: 0.90}, {1: 0.62, 2: 0.82, 3: 0.92}
    gap = difference_by_seed(mine, best, confidence=0.95)
    assert gap.mean == pytest.approx(-0.02)
    assert gap.high == pytest.approx(gap.mean, abs=1e-9)
    alone = mean_interval(list(mine.values()), confidence=0.95)
    assert alone.high - alone.mean > 0.3


def test_a_paired_difference_takes_the_seeds_that_both_know() -> None:
    gap = difference_by_seed({1: 0.5, 2: 0.9, 3: None}, {2: 0.6, 3: 0.7, 4: 0.1}, confidence=0.95)
    assert (gap.count, gap.mean, gap.low) == (1, pytest.approx(0.3), None)
    assert difference_by_seed({1: 0.5}, {2: 0.5}, confidence=0.95).mean is None
