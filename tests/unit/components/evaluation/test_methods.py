"""Steps to a target by hand arithmetic; what a ranking of methods averages is tested where its tables are made."""

import math

import pytest

from components.evaluation.methods import first_reach


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
