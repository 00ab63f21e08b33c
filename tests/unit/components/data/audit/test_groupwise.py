"""Sampling, folds and intervals by group."""

import numpy as np
import pytest
from scipy import stats

from components.data.audit.groupwise import (
    groups_per_class,
    mean_interval,
    sample_groups,
    share_interval,
)


def parts(count, photographs):
    return np.repeat([f"p{number}" for number in range(count)], photographs)


def test_a_sample_holds_whole_groups_and_no_more_than_asked():
    groups = parts(100, 4)
    labels = np.repeat(["good", "crack"], 200)
    rows = sample_groups(labels, groups, max_images=101, seed=0)
    assert len(rows) == 100
    assert set(np.unique(groups[rows], return_counts=True)[1]) == {4}
    assert abs((labels[rows] == "good").sum() - 50) <= 4


def test_a_sample_keeps_five_groups_of_a_rare_class():
    labels = np.array(["good"] * 995 + ["crack"] * 5)
    rows = sample_groups(labels, parts(1000, 1), max_images=50, seed=0)
    assert (labels[rows] == "crack").sum() == 5
    assert len(rows) == 50


def test_a_group_larger_than_the_sample_is_passed_over():
    groups = np.array(["lot"] * 50 + ["a", "b", "c"])
    rows = sample_groups(np.array(["good"] * 53), groups, max_images=10, seed=0)
    assert groups[rows].tolist() == ["a", "b", "c"]


def test_the_seed_decides_the_sample_and_enough_room_takes_all():
    labels, groups = np.array(["good"] * 100), parts(100, 1)
    first = sample_groups(labels, groups, max_images=20, seed=1)
    np.testing.assert_array_equal(first, sample_groups(labels, groups, max_images=20, seed=1))
    assert set(first) != set(sample_groups(labels, groups, max_images=20, seed=2))
    np.testing.assert_array_equal(sample_groups(labels, groups, max_images=100, seed=1), np.arange(100))


def test_groups_are_counted_once_per_class():
    found = groups_per_class(np.array(["a", "a", "a", "b"]), np.array(["1", "1", "2", "1"]))
    assert found.to_dict() == {"a": 2, "b": 1}


def test_the_mean_of_single_images_has_students_interval():
    values = np.random.default_rng(0).normal(0.2, 1, 30)
    expected = stats.ttest_1samp(values, 0).confidence_interval(0.95)
    mean, low, high = mean_interval(values, np.arange(30), confidence=0.95)
    assert mean == pytest.approx(values.mean())
    assert (low, high) == pytest.approx((expected.low, expected.high))


def test_images_of_a_group_count_as_one_observation():
    values = np.random.default_rng(0).random(30)
    once = np.arange(30)
    assert mean_interval(np.repeat(values, 4), np.repeat(once, 4), confidence=0.95) == pytest.approx(
        mean_interval(values, once, confidence=0.95)
    )
    right, strata = (values > 0.4).astype(float), once % 2
    assert share_interval(
        np.repeat(right, 4), np.repeat(once, 4), np.repeat(strata, 4), confidence=0.95
    ) == pytest.approx(share_interval(right, once, strata, confidence=0.95))


def test_one_group_has_no_interval():
    mean, low, high = mean_interval(np.array([0.0, 1.0]), np.zeros(2, int), confidence=0.95)
    assert mean == 0.5
    assert np.isnan([low, high]).all()


def test_all_right_has_the_exact_binomial_limit():
    share, low, high = share_interval(np.ones(20), np.arange(20), np.zeros(20, int), confidence=0.95)
    exact = stats.binomtest(20, 20).proportion_ci(0.95, "exact")
    assert (share, high) == (1.0, 1.0)
    assert low == pytest.approx(exact.low)


def test_a_share_of_single_images_is_close_to_the_exact_limits():
    right = np.array([1.0] * 60 + [0.0] * 40)
    exact = stats.binomtest(60, 100).proportion_ci(0.95, "exact")
    _, low, high = share_interval(right, np.arange(100), np.zeros(100, int), confidence=0.95)
    assert (low, high) == pytest.approx((exact.low, exact.high), abs=0.002)


def test_strata_count_alike_whatever_their_size():
    right = np.array([1.0] * 90 + [0.0] * 10)
    strata = np.array([0] * 90 + [1] * 10)
    share, low, high = share_interval(right, np.arange(100), strata, confidence=0.95)
    assert share == 0.5
    assert low < 0.5 < high
