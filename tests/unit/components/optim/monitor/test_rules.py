"""Each rule on windows and epochs made by hand: one case that it proves, and the near misses that it lets pass."""

import math

import pytest

from components.optim.monitor import rules
from components.optim.monitor.windows import WindowStats

CHANCE = 1.0


def window(*, probe, loss=None, cosine=0.0, grad_norm=1.0, start=0, update_ratio=0.001):
    """Ten windows, ten steps apart, each 1 further in distance; probe, loss: (first, last) of a straight line."""
    first, last = probe
    losses = probe if loss is None else loss
    return [
        WindowStats(
            step=start + 10 * (n + 1),
            loss=losses[0] + (losses[1] - losses[0]) * n / 9,
            probe_loss=first + (last - first) * n / 9,
            grad_norm=grad_norm,
            cosine=cosine,
            update_ratio=update_ratio,
            lr=0.05,
            highest_lr=0.1,
            distance=start / 10 + n + 1.0,
            in_grace_period=False,
        )
        for n in range(10)
    ]


# --- oscillating


def test_a_rising_loss_with_gradients_to_and_fro_that_have_grown_is_an_oscillation() -> None:
    evidence = rules.oscillating(window(probe=(0.5, 0.95), cosine=-0.2, grad_norm=3.0), baseline=2.0)
    assert evidence is not None
    assert evidence["probe_loss_per_100_steps"] == pytest.approx(0.5)  # 0.05 per window of 10 steps
    assert (evidence["cosine"], evidence["grad_norm"], evidence["grad_norm_baseline"]) == (pytest.approx(-0.2), 3, 2)


@pytest.mark.parametrize(
    ("changes", "baseline"),
    [
        ({"probe": (0.95, 0.5)}, 2.0),
        ({"probe": (0.5, 0.5)}, 2.0),
        ({"cosine": -0.05}, 2.0),
        ({"cosine": math.nan}, 2.0),
        ({}, 3.5),
        ({}, math.nan),
        ({"loss": (0.5, 0.4)}, 2.0),
    ],
    ids=["falling", "flat", "no reversal", "cosine unknown", "small gradients", "no baseline", "training loss falls"],
)
def test_it_takes_all_signs_together_to_be_an_oscillation(changes, baseline) -> None:
    values = {"probe": (0.5, 0.95), "cosine": -0.2, "grad_norm": 3.0} | changes
    assert rules.oscillating(window(**values), baseline=baseline) is None


def test_no_window_proves_nothing() -> None:
    assert rules.oscillating([], baseline=1.0) is None
    assert rules.collapsed([], first_norm=1.0, largest_update=1.0, chance=CHANCE) is None
    assert rules.too_slow([], first=None, largest_update=0.001, total_steps=100, chance=CHANCE) is None


# --- collapsed


def test_chance_level_without_gradients_after_large_steps_is_a_collapse() -> None:
    recent = window(probe=(1.0, 1.0), grad_norm=0.3)
    evidence = rules.collapsed(recent, first_norm=1.0, largest_update=0.05, chance=CHANCE)
    assert evidence == {
        "loss": pytest.approx(1.0),
        "chance_loss": 1.0,
        "grad_norm": 0.3,
        "first_grad_norm": 1.0,
        "largest_update_ratio": 0.05,
    }


@pytest.mark.parametrize(
    ("loss", "grad_norm", "largest"),
    [(0.9, 0.3, 0.05), (1.0, 0.5, 0.05), (1.0, 0.3, 0.005), (1.0, 0.3, math.nan)],
    ids=["something was learned", "gradients are there", "small steps", "steps unknown"],
)
def test_less_than_that_is_no_collapse(loss, grad_norm, largest) -> None:
    recent = window(probe=(loss, loss), grad_norm=grad_norm)
    assert rules.collapsed(recent, first_norm=1.0, largest_update=largest, chance=CHANCE) is None


# --- too slow


def slow(*, probe=(1.0, 0.955), start=200, total_steps=400, update_ratio=0.0008, first_probe=1.1, largest_update=0.002):
    recent = window(probe=probe, start=start, update_ratio=update_ratio)
    first = window(probe=(first_probe, first_probe))[0]
    return rules.too_slow(recent, first=first, largest_update=largest_update, total_steps=total_steps, chance=CHANCE)


def test_a_steady_slope_that_ends_far_off_is_too_slow() -> None:
    evidence = slow()
    assert evidence is not None
    assert evidence["probe_loss"] == pytest.approx(0.96)  # median of the last three: 0.965, 0.96, 0.955
    assert evidence["probe_loss_at_the_end"] == pytest.approx(0.96 - 0.05)  # 0.005 per 10 steps, 100 to go
    assert evidence["update_ratio"] == pytest.approx(0.0016)  # at the highest rate, twice the present one


@pytest.mark.parametrize(
    "changes",
    [
        {"probe": (0.955, 1.0)},
        {"probe": (1.0, 1.0)},
        {"probe": (0.9, 0.6)},
        {"update_ratio": 0.0012},
        {"largest_update": 0.01},
        {"total_steps": 2000},
        {"first_probe": 9.0},
    ],
    ids=["rising", "flat", "gets there", "no small steps", "once a large step", "too early", "levelling off"],
)
def test_what_rises_or_stands_or_gets_there_or_levels_off_is_not_too_slow(changes) -> None:
    assert slow(**changes) is None


# --- plateau

FALLING = [1.0 - 0.05 * n for n in range(12)]


def test_a_validation_loss_that_stands_still_at_a_high_rate_is_a_plateau() -> None:
    val = [*FALLING[:6], 0.7, 0.71, 0.7, 0.71, 0.7, 0.71]
    evidence = rules.plateau([*FALLING[:6], *[0.6] * 6], val, [0.1] * 12)
    assert evidence is not None
    assert (evidence["epochs"], evidence["val_loss"], evidence["train_loss"]) == (6, pytest.approx(0.705), 0.6)


@pytest.mark.parametrize(
    ("train", "val", "rates"),
    [
        (FALLING, FALLING, [0.1] * 12),
        (FALLING, [0.7] * 12, [0.1] * 12),
        ([0.6] * 12, [0.7] * 12, [*[0.1] * 11, 0.04]),
        ([0.6] * 5, [0.7] * 5, [0.1] * 5),
        ([0.6] * 12, [*[0.7] * 11, math.nan], [0.1] * 12),
    ],
    ids=["falling", "training loss falls", "the rate is low by now", "too few epochs", "not a number"],
)
def test_what_falls_or_ends_or_has_just_begun_is_no_plateau(train, val, rates) -> None:
    assert rules.plateau(train, val, rates) is None


def test_in_a_long_training_a_plateau_takes_a_quarter_of_the_epochs() -> None:
    val = [2.0 - 0.05 * n for n in range(34)] + [0.3] * 6
    assert rules.plateau(val, val, [0.1] * 40) is None
    val = [2.0 - 0.05 * n for n in range(30)] + [0.5] * 10
    assert rules.plateau(val, val, [0.1] * 40)["epochs"] == 10


# --- overfitting


def test_a_validation_loss_above_its_best_with_a_falling_training_loss_is_overfitting() -> None:
    val = [1.0, 0.8, 0.6, 0.5, 0.5, 0.5, 0.6, 0.7, 0.8, 0.9, 0.9, 0.9]
    evidence = rules.overfitting(FALLING, val)
    assert evidence is not None
    assert (evidence["best_epoch"], evidence["best_val_loss"]) == (5, pytest.approx(0.5))  # the middle of 4, 5, 6
    assert evidence["val_loss"] == pytest.approx(0.9)
    assert evidence["train_loss_then"] == pytest.approx(0.8)
    assert evidence["train_loss"] == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("train", "val"),
    [
        (FALLING, FALLING),
        ([0.8] * 12, [0.5] * 6 + [0.9] * 6),
        (FALLING, [0.5] * 6 + [0.51] * 6),
        (FALLING, [*FALLING[:9], 0.9, 0.9, 0.9]),
        (FALLING, [*[0.5] * 6, 0.9, 0.9, 0.9, 0.51, 0.51, 0.51]),
        (FALLING, [*[0.5] * 6, *[0.9] * 5, math.inf]),
        (FALLING[:5], [0.5, 0.6, 0.7, 0.8, 0.9]),
    ],
    ids=["falling", "no fall of training", "hardly risen", "just now", "back again", "not a number", "too few epochs"],
)
def test_less_than_that_is_no_overfitting(train, val) -> None:
    assert rules.overfitting(train, val) is None
