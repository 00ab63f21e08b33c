"""Losses step by step: what is a bad batch, what a divergence, and what is neither."""

import math

import pytest

from components.optim.monitor.spikes import CALM, LossWatch

LEVEL = [0.5, 0.6] * 15  # recent mean 0.55, largest 0.6


def events(losses, *, floor=0.7, in_grace_period=(), norms=None):
    """(kind, step) of all events; steps from 1. in_grace_period: steps in one."""
    watch, found = LossWatch(floor=floor), []
    for step, loss in enumerate(losses, start=1):
        norm = 1.0 if norms is None else norms.get(step, 1.0)
        event = watch.update(step, loss, norm, in_grace_period=step in in_grace_period)
        if event is not None:
            found.append((event.kind, event.step))
    return found


def test_one_high_loss_is_a_spike_at_its_step_once_the_next_is_normal() -> None:
    watch = LossWatch(floor=0.7)
    for step, loss in enumerate(LEVEL, start=1):
        assert watch.update(step, loss, 1.0, in_grace_period=False) is None
    assert watch.update(31, 3.0, 1.0, in_grace_period=False) is None  # might be a divergence still
    event = watch.update(32, 0.5, 1.0, in_grace_period=False)
    assert event is not None
    assert (event.kind, event.step) == ("spike", 31)
    assert event.evidence == {
        "loss": 3.0,
        "recent_mean_loss": pytest.approx(0.55),
        "recent_largest_loss": 0.6,
        "steps": 1,
    }


@pytest.mark.parametrize(("high", "kind"), [(4, "spike"), (5, "diverged")])
def test_five_high_losses_in_a_row_are_a_divergence_and_four_are_not(high, kind) -> None:
    assert events([*LEVEL, *[3.0] * high, 0.5]) == [(kind, 31)]


def test_a_divergence_is_told_once_and_its_end_is_no_spike() -> None:
    assert events([*LEVEL, *[3.0] * 20, 0.5, 0.5, 3.0, 0.5]) == [("diverged", 31)]


def test_a_second_divergence_is_told_after_a_calm_while() -> None:
    losses = [*LEVEL, *[3.0] * 5, *[0.5] * CALM, *[3.0] * 5]
    assert events(losses) == [("diverged", 31), ("diverged", 36 + CALM)]


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_loss_that_is_not_finite_is_a_divergence_at_once_even_at_rest(value) -> None:
    assert events([0.7, value], in_grace_period={1, 2}) == [("diverged", 2)]


def test_a_gradient_that_is_not_finite_is_a_divergence_too() -> None:
    assert events([0.7, 0.7], norms={2: math.inf}) == [("diverged", 2)]


def test_twice_the_recent_mean_is_not_high_and_below_the_floor_nothing_is() -> None:
    assert events([*LEVEL, *[1.1] * 9]) == []
    assert events([*[0.01, 0.02] * 15, *[0.69] * 9, 0.01]) == []


def test_a_loss_that_recent_ones_came_near_is_no_spike() -> None:
    assert events([*[0.5] * 29, 1.0, 1.9, 0.5]) == []
    assert events([*[0.5] * 29, 1.0, 2.1, 0.5]) == [("spike", 31)]


def test_the_ups_and_downs_of_a_beginning_are_no_spikes() -> None:
    assert events([1.0, 1.0, 1.0, 5.0, 1.0]) == []


def test_the_third_spike_within_a_hundred_steps_is_an_oscillation_since_the_first() -> None:
    again = [3.0, *[0.5] * 29]
    assert events([*LEVEL, *again, *again, *again]) == [("spike", 31), ("spike", 61), ("oscillating", 31)]


def test_spikes_far_apart_stay_spikes() -> None:
    again = [3.0, *[0.5] * 99]
    assert events([*LEVEL, *again, *again, *again]) == [("spike", 31), ("spike", 131), ("spike", 231)]


def test_at_rest_high_losses_are_neither_but_count_once_the_rest_is_over() -> None:
    assert events([*LEVEL, *[3.0] * 8, 0.5], in_grace_period=range(31, 40)) == []
    assert events([*LEVEL, *[3.0] * 8], in_grace_period=range(31, 38)) == [("diverged", 31)]


def test_a_restored_watch_goes_on_as_the_saved_one() -> None:
    losses = [*LEVEL, 3.0, 3.0, 3.0, 0.5, 0.5, *[3.0] * 5]
    for cut in range(len(losses)):
        watch = LossWatch(floor=0.7)
        found = []
        for step, loss in enumerate(losses, start=1):
            if step == cut + 1:
                state = watch.state_dict()
                watch = LossWatch(floor=0.7)
                watch.load_state_dict(state)
            event = watch.update(step, loss, 1.0, in_grace_period=False)
            found += [] if event is None else [(event.kind, event.step)]
        assert found == [("spike", 31), ("diverged", 36)]
