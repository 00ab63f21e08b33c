"""Shrinking a measured difference, and foreseeing what a measurement could show: by hand arithmetic."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.evaluation.expected_difference import (
    Normal,
    detectable_difference,
    difference_variance,
    moderated_variance,
    score_variance,
    shrink,
)

numbers = st.floats(-1, 1)
spreads = st.floats(1e-3, 1)


def test_a_measurement_as_uncertain_as_the_prior_meets_it_in_the_middle() -> None:
    found = shrink(0.10, 0.03, Normal(-0.02, 0.03))
    assert found.mean == pytest.approx(0.04)
    assert found.sd == pytest.approx(0.03 / math.sqrt(2))


@given(numbers, numbers, spreads)
def test_a_certain_measurement_takes_its_own_sign(difference, mean, sd) -> None:
    found = shrink(difference, 0.0, Normal(mean, sd))
    assert found == Normal(pytest.approx(difference), 0.0)
    assert found.above_zero() == 0.5 * (1 + np.sign(difference))


@given(numbers, numbers, spreads)
def test_a_measurement_that_says_nothing_leaves_the_prior(difference, mean, sd) -> None:
    prior = Normal(mean, sd)
    assert shrink(difference, math.inf, prior) == prior
    nearly = shrink(difference, 1e6, prior)
    assert (nearly.mean, nearly.sd) == (pytest.approx(mean, abs=1e-6), pytest.approx(sd))


@given(numbers, spreads, numbers, spreads)
def test_what_is_expected_lies_between_measurement_and_prior_and_is_surer_than_both(difference, se, mean, sd) -> None:
    found = shrink(difference, se, Normal(mean, sd))
    assert min(difference, mean) - 1e-12 <= found.mean <= max(difference, mean) + 1e-12
    assert found.sd <= min(se, sd)


def test_bounds_are_one_sided_and_agree_with_the_probability() -> None:
    low, high = Normal(0.05, 0.05 / 1.2816).bounds(0.9)
    assert low == pytest.approx(0, abs=1e-5)
    assert high == pytest.approx(0.1, abs=1e-5)
    assert Normal(0.05, 0.05 / 1.2816).above_zero() == pytest.approx(0.9, abs=1e-4)


def test_a_variance_of_few_values_is_moderated_by_what_was_seen_elsewhere() -> None:
    assert moderated_variance(4.0, 2, expected=1.0, expected_freedom=4.0) == pytest.approx((8 + 4) / 6)
    assert moderated_variance(math.nan, 0, expected=1.0, expected_freedom=4.0) == 1.0


def test_the_variance_of_auroc_is_that_of_hanley_and_mcneil() -> None:
    """Their formula at 0.8 with 20 and 30: Q1 = 2/3, Q2 = 1.28/1.8."""
    by_hand = (0.16 + 19 * (0.8 / 1.2 - 0.64) + 29 * (1.28 / 1.8 - 0.64)) / 600
    assert score_variance("auroc", 0.8, (20, 30)) == pytest.approx(by_hand)
    assert score_variance("auroc", 0.3, (20, 30)) == score_variance("auroc", 0.5, (20, 30))


def test_the_variances_of_rates_are_binomial() -> None:
    assert score_variance("average_precision", 0.8, (20, 30)) == pytest.approx(0.16 / 20)
    assert score_variance("overkill_at_budget", 0.8, (20, 30)) == pytest.approx(0.16 * (1 / 20 + 1 / 30))
    assert score_variance("balanced_accuracy", 0.8, (20, 30, 40)) == pytest.approx(
        0.16 * (1 / 20 + 1 / 30 + 1 / 40) / 9
    )


@pytest.mark.parametrize("objective", ["auroc", "average_precision", "balanced_accuracy", "cost"])
def test_a_perfect_score_is_not_certain_and_more_images_make_it_surer(objective) -> None:
    assert score_variance(objective, 1.0, (10, 10)) > score_variance(objective, 1.0, (100, 100)) > 0


def test_the_more_alike_the_recipes_err_the_smaller_a_difference_is_detectable() -> None:
    apart = difference_variance(0.0004, correlation=0.0, seed_variance=0.0, replicates=1)
    alike = difference_variance(0.0004, correlation=0.75, seed_variance=0.0, replicates=1)
    assert (apart, alike) == (pytest.approx(0.0008), pytest.approx(0.0002))
    seeds = difference_variance(0.0, correlation=0.0, seed_variance=0.0008, replicates=2)
    assert seeds == pytest.approx(0.0004)
    assert detectable_difference(0.02, confidence=0.9) == pytest.approx(1.2816 * 0.02, abs=1e-5)
