"""The median-of-5 rule."""

import math

import pytest

from components.optim.range_test.divergence import DivergenceMonitor, divergence_onset

FLOOR = 1.4


@pytest.mark.parametrize("loss", [math.nan, math.inf, -math.inf])
def test_a_loss_that_is_not_finite_diverges_at_once(loss):
    assert DivergenceMonitor(floor=FLOOR).update(loss)
    assert divergence_onset([0.7, loss], floor=FLOOR) == 1


def test_single_bad_batches_do_not_diverge():
    assert divergence_onset([0.7, 0.7, 50.0, 0.7, 0.7, 50.0, 0.7, 60.0, 0.7], floor=FLOOR) is None


def test_three_high_losses_of_five_do_and_the_onset_is_the_first_of_them():
    losses = [0.7] * 6 + [5.0, 6.0, 7.0, 8.0]
    # the rule fires at position 8, when 5, 6 and 7 are three of the last five; its centre is 6
    assert divergence_onset(losses, floor=FLOOR) == 6


def test_a_rebound_from_almost_nothing_is_no_divergence():
    assert divergence_onset([0.01] * 6 + [0.5] * 6, floor=FLOOR) is None


def test_four_times_the_best_is_needed_above_the_floor():
    assert divergence_onset([1.0] * 6 + [3.9] * 6, floor=FLOOR) is None
    assert divergence_onset([1.0] * 6 + [4.1] * 6, floor=FLOOR) == 6
