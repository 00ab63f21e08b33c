"""Bounds: against hand arithmetic, the binomial distribution itself, and the published rules of thumb."""

import json
import math

import numpy as np
import pytest
from scipy import stats

from components.evaluation.intervals import (
    bootstrap_values,
    defects_needed,
    effective_observations,
    exact_rate,
    grouped_rate,
    lower_bound,
    percentile_interval,
    upper_bound,
)


def test_no_escape_in_n_gives_the_zero_response_bound() -> None:
    assert upper_bound(0, 59, confidence=0.95) == pytest.approx(1 - 0.05 ** (1 / 59))


def test_bounds_solve_the_binomial_tail_equations() -> None:
    upper = upper_bound(3, 40, confidence=0.95)
    lower = lower_bound(3, 40, confidence=0.95)
    assert stats.binom.cdf(3, 40, upper) == pytest.approx(0.05)
    assert stats.binom.sf(2, 40, lower) == pytest.approx(0.05)


def test_bounds_stay_at_the_ends_where_nothing_or_everything_was_hit() -> None:
    assert lower_bound(0, 10, confidence=0.95) == 0.0
    assert upper_bound(10, 10, confidence=0.95) == 1.0
    assert upper_bound(0, 0, confidence=0.95) == 1.0


def test_a_rate_agrees_with_the_exact_interval_of_scipy() -> None:
    rate = exact_rate(7, 120, confidence=0.9, unit="image")
    reference = stats.binomtest(7, 120).proportion_ci(confidence_level=0.9, method="exact")
    assert (rate.low, rate.high) == pytest.approx((reference.low, reference.high))
    assert rate.value == pytest.approx(7 / 120)


def test_a_rate_of_nothing_has_no_value_and_writes_as_json() -> None:
    rate = exact_rate(0, 0, confidence=0.95, unit="image")
    assert (rate.value, rate.low, rate.high) == (None, None, None)
    assert json.loads(json.dumps(rate.to_dict(), allow_nan=False))["denominator"] == 0


@pytest.mark.parametrize(("budget", "expected"), [(0.05, 59), (0.01, 299)])
def test_defects_needed_gives_the_tabled_sample_sizes(budget: float, expected: int) -> None:
    assert defects_needed(budget, confidence=0.95) == expected


@pytest.mark.parametrize(("budget", "confidence"), [(0.02, 0.9), (0.5, 0.75), (0.1, 0.99), (0.999, 0.5)])
def test_defects_needed_is_the_smallest_such_number(budget: float, confidence: float) -> None:
    needed = defects_needed(budget, confidence=confidence)
    assert upper_bound(0, needed, confidence=confidence) <= budget < upper_bound(0, needed - 1, confidence=confidence)


def test_no_sample_proves_a_rate_of_zero() -> None:
    with pytest.raises(ValueError, match="budget=0"):
        defects_needed(0.0, confidence=0.95)


def test_images_of_their_own_count_in_full() -> None:
    hits = np.array([True, False, False, True, False])
    grouped = grouped_rate(hits, np.arange(5), confidence=0.95, unit="image")
    assert grouped == exact_rate(2, 5, confidence=0.95, unit="image")


def test_images_that_all_agree_within_their_part_count_once_per_part() -> None:
    hits = np.repeat([True, False, False, False], 3)
    assert effective_observations(hits, np.repeat(np.arange(4), 3), confidence=0.95) == pytest.approx(4)


def test_without_a_hit_the_bound_rests_on_the_number_of_parts() -> None:
    rate = grouped_rate(np.zeros(60, dtype=bool), np.repeat(np.arange(20), 3), confidence=0.9, unit="image")
    assert rate.denominator == 60
    assert rate.high == pytest.approx(1 - 0.05 ** (1 / 20))


def test_parts_that_spread_their_hits_evenly_lose_little() -> None:
    hits = np.random.default_rng(0).random(600) < 0.3
    effective = effective_observations(hits, np.repeat(np.arange(300), 2), confidence=0.95)
    assert 450 < effective <= 600


def test_the_bootstrap_of_a_mean_has_its_standard_error() -> None:
    values = np.random.default_rng(1).normal(size=400)
    resampled = bootstrap_values(lambda index: values[index].mean(), np.arange(400), samples=2000, seed=0)
    interval = percentile_interval(resampled[:, 0], confidence=0.95)
    assert interval.low is not None
    assert interval.high is not None
    assert (interval.high - interval.low) / (2 * 1.96) == pytest.approx(values.std() / 20, rel=0.08)


def test_the_bootstrap_draws_whole_groups() -> None:
    groups = np.array(["a", "b", "a", "c", "b", "a"])

    def torn(index: np.ndarray) -> float:
        counts = np.bincount(index, minlength=6)
        return float(len({counts[0], counts[2], counts[5]}) > 1 or counts[1] != counts[4])

    assert not bootstrap_values(torn, groups, samples=200, seed=3).any()


def test_the_same_seed_draws_the_same_resamples() -> None:
    first, second = (bootstrap_values(lambda i: i.mean(), np.arange(30), samples=20, seed=5) for _ in range(2))
    assert np.array_equal(first, second)


def test_resamples_without_a_value_are_dropped_and_counted() -> None:
    interval = percentile_interval(np.array([1.0, 2.0, 3.0, math.nan]), confidence=0.5)
    assert interval.dropped == 1
    assert interval.low == pytest.approx(1.5)


def test_a_bootstrap_that_cannot_vary_claims_no_certainty() -> None:
    assert percentile_interval(np.ones(100), confidence=0.95).low is None
    assert percentile_interval(np.full(100, math.nan), confidence=0.95).high is None
    assert percentile_interval(np.empty(0), confidence=0.95).low is None
