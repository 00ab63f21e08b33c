"""Schedules against hand arithmetic and, where torch has the same one, against torch's own values."""

import math
from itertools import pairwise

import pytest
import torch
from schedules import schedule_of
from torch.optim import lr_scheduler

from components.errors import InputError
from components.optim.schedules import SCHEDULES, PlateauRule, cycled_momentum, multiplier

PLAN = {"total_steps": 110, "warmup_steps": 10}
START = {"triangular": 0.25, "triangular2": 0.25, "exp_range": 0.25, "one_cycle": 0.04}  # the others: 1


def plan(name, **changes):
    return schedule_of(name, **(PLAN | changes))


def at(name, step, **changes):
    return multiplier(plan(name, **changes), step)


def torch_values(build, steps):
    """The factors that torch's scheduler gives a group with rate 1."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.ones(1))], lr=1.0)
    scheduler = build(optimizer)
    values = []
    for _ in range(steps):
        values.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return values


@pytest.mark.parametrize("name", SCHEDULES)
def test_warmup_rises_linearly_from_above_zero_to_where_the_schedule_starts(name):
    start = START.get(name, 1.0)
    assert at(name, 0) == pytest.approx(start / 11)
    assert at(name, 4) == pytest.approx(start * 5 / 11)
    assert at(name, 9) == pytest.approx(start * 10 / 11)
    assert at(name, 10) == pytest.approx(start)


@pytest.mark.parametrize("name", SCHEDULES)
def test_without_warmup_the_first_step_is_where_the_schedule_starts(name):
    assert at(name, 0, warmup_steps=0) == pytest.approx(START.get(name, 1.0))


@pytest.mark.parametrize(
    ("name", "middle"),
    [
        ("fixed", 1.0),
        ("plateau", 1.0),
        ("step", 0.1),  # after one of two drops of √0.01
        ("exponential", 0.1),  # √0.01
        ("cosine", 0.505),  # (1 + 0.01) / 2
        ("cosine_restarts", 1.0),  # the second cycle begins
        ("triangular", 0.25),  # likewise, at its low
        ("triangular2", 0.25),
        ("exp_range", 0.25),
        ("one_cycle", 0.01 + 0.99 * math.cos(math.pi / 7) ** 2),  # 0.2 / 0.7 of the fall is over: half of π · 2/7
        ("wsd", 1.0),
    ],
)
def test_half_way_through_each_is_where_its_formula_says(name, middle):
    assert at(name, 60) == pytest.approx(middle)


@pytest.mark.parametrize(
    ("name", "end"),
    [(name, 0.01) for name in ("step", "exponential", "cosine", "cosine_restarts", "one_cycle", "wsd")]
    + [(name, 0.25) for name in ("triangular", "triangular2", "exp_range")]
    + [("fixed", 1.0), ("plateau", 1.0)],
)
def test_each_ends_where_it_should_and_stays_there(name, end):
    assert at(name, 110) == pytest.approx(end)
    assert at(name, 500) == pytest.approx(end)


@pytest.mark.parametrize("name", ["fixed", "step", "exponential", "cosine", "wsd", "plateau"])
def test_those_that_only_fall_never_rise_after_warmup(name):
    factors = [at(name, step) for step in range(10, 111)]
    assert all(later <= earlier for earlier, later in pairwise(factors))


@pytest.mark.parametrize("name", SCHEDULES)
def test_no_step_of_a_training_has_a_rate_of_zero_or_above_the_peak(name):
    assert all(0 < at(name, step, final_lr_fraction=0.001) <= 1 for step in range(110))


def test_step_drops_at_equal_distances():
    # 100 steps after warmup, 2 drops: at a third and at two thirds
    assert [at("step", step) for step in (43, 44, 76, 77)] == pytest.approx([1.0, 0.1, 0.1, 0.01])


def test_the_peaks_of_the_triangular_ones_shrink_as_their_names_say():
    # two cycles of 50 steps after 10 of warmup: peaks at 35 and 85, at a quarter and three quarters
    assert [at("triangular", step) for step in (35, 85)] == pytest.approx([1.0, 1.0])
    assert [at("triangular2", step) for step in (35, 85)] == pytest.approx([1.0, 0.625])  # 0.25 + 0.75 / 2
    amplitudes = [0.75 * 0.01**0.25, 0.75 * 0.01**0.75]
    assert [at("exp_range", step) for step in (35, 85)] == pytest.approx([0.25 + amplitude for amplitude in amplitudes])


def test_one_cycle_is_at_its_peak_when_the_rise_is_over():
    assert at("one_cycle", 40) == pytest.approx(1.0)
    assert at("one_cycle", 25) == pytest.approx((0.04 + 1) / 2)


def test_wsd_cools_down_as_one_minus_the_root():
    # the last 20 of 100 steps: a quarter of the cooldown takes half of the way
    assert [at("wsd", step) for step in (89, 90, 95)] == pytest.approx([1.0, 1.0, 0.01 + 0.99 * 0.5])
    assert at("wsd", 35, cooldown_fraction=1.0) == pytest.approx(0.01 + 0.99 * 0.5)


def test_cosine_agrees_with_torch():
    expected = torch_values(lambda optimizer: lr_scheduler.CosineAnnealingLR(optimizer, 90, eta_min=0.01), 91)
    assert [at("cosine", step, total_steps=90, warmup_steps=0) for step in range(91)] == pytest.approx(expected)


@pytest.mark.parametrize(("cycles", "growth", "total"), [(3, 1, 90), (3, 2, 70), (1, 1, 10), (4, 3, 400), (3, 1, 33)])
def test_restarts_agree_with_torch(cycles, growth, total):
    first = round(total / sum(growth**number for number in range(cycles)))

    def build(optimizer):
        return lr_scheduler.CosineAnnealingWarmRestarts(optimizer, T_0=first, T_mult=growth, eta_min=0.01)

    ours = plan(
        "cosine_restarts", total_steps=total, warmup_steps=0, schedule_cycles=cycles, cycle_growth=float(growth)
    )
    assert [multiplier(ours, step) for step in range(total)] == pytest.approx(torch_values(build, total))


def test_a_restarts_growth_need_not_be_whole():
    # lengths 1 : 1.5, so that the second cycle begins after 40 of 100 steps and is half over after 70
    factors = [at("cosine_restarts", step, cycle_growth=1.5) for step in (50, 80)]
    assert factors == pytest.approx([1.0, 0.505])


@pytest.mark.parametrize(
    ("name", "mode", "gamma"),
    [
        ("triangular", "triangular", 1.0),
        ("triangular2", "triangular2", 1.0),
        ("exp_range", "exp_range", 0.01 ** (1 / 60)),
    ],
)
def test_the_triangular_ones_agree_with_torch(name, mode, gamma):
    def build(optimizer):
        return lr_scheduler.CyclicLR(
            optimizer, 0.25, 1.0, step_size_up=10, mode=mode, gamma=gamma, cycle_momentum=False
        )

    ours = plan(name, total_steps=60, warmup_steps=0, schedule_cycles=3)
    assert [multiplier(ours, step) for step in range(60)] == pytest.approx(torch_values(build, 60))


def test_one_cycle_agrees_with_torch():
    # torch reaches the end with the last of its steps, and the peak one step before pct_start of them
    def build(optimizer):
        return lr_scheduler.OneCycleLR(
            optimizer,
            1.0,
            total_steps=101,
            pct_start=31 / 101,
            anneal_strategy="cos",
            cycle_momentum=False,
            div_factor=25,
            final_div_factor=0.04 / 0.01,
        )

    ours = plan("one_cycle", total_steps=100, warmup_steps=0)
    assert [multiplier(ours, step) for step in range(100)] == pytest.approx(torch_values(build, 100))


def test_the_momentum_of_one_cycle_agrees_with_torch_and_the_others_have_none():
    ours = plan("one_cycle", total_steps=100, warmup_steps=0)
    optimizer = torch.optim.AdamW([torch.nn.Parameter(torch.ones(1))], lr=1.0)
    theirs = lr_scheduler.OneCycleLR(optimizer, 1.0, total_steps=101, pct_start=31 / 101)
    for step in range(100):
        assert cycled_momentum(ours, step) == pytest.approx(optimizer.param_groups[0]["betas"][0])
        optimizer.step()
        theirs.step()
    assert cycled_momentum(plan("one_cycle", total_steps=100, warmup_steps=10), 0) == pytest.approx(0.95)
    assert cycled_momentum(plan("cosine"), 0) is None


@pytest.mark.parametrize("patience", [0, 2])
@pytest.mark.parametrize("seed", range(3))
def test_the_plateau_rule_is_that_of_torch(patience, seed):
    generator = torch.Generator().manual_seed(seed)
    losses = (torch.rand(60, generator=generator) + torch.linspace(1, 0.7, 60)).tolist()
    losses[20] = math.nan
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.ones(1))], lr=1.0)
    theirs = lr_scheduler.ReduceLROnPlateau(optimizer, factor=0.5, patience=patience, min_lr=0.01)
    ours = PlateauRule(reduction=0.5, patience=patience, least=0.01)
    factors = []
    for loss in losses:
        theirs.step(loss)
        ours.update(loss)
        factors.append(ours.factor)
        assert ours.factor == pytest.approx(optimizer.param_groups[0]["lr"])
    assert factors[-1] < 1


def test_a_gain_below_the_threshold_is_none():
    rule = PlateauRule(reduction=0.5, patience=1, least=0.1)
    for loss in (1.0, 0.99995, 0.9999):  # a tenth of a thousandth is what counts
        rule.update(loss)
    assert rule.factor == 0.5
    rule.update(0.9998)
    assert rule.factor == 0.5


def test_the_plateau_rule_stops_at_its_least_and_goes_on_where_it_was():
    rule = PlateauRule(reduction=0.3, patience=1, least=0.1)
    for loss in (1.0, 1.0, 1.0, 1.0):
        rule.update(loss)
    assert rule.factor == pytest.approx(0.3)
    resumed = PlateauRule(reduction=0.3, patience=1, least=0.1)
    resumed.load_state_dict(rule.state_dict())
    resumed.update(1.0)  # the second without a gain since the last drop
    assert resumed.factor == pytest.approx(0.1)


@pytest.mark.parametrize("name", ["fixed", "plateau"])
def test_those_without_a_length_stay_at_the_peak(name):
    assert at(name, 10, total_steps=None) == at(name, 10**6, total_steps=None) == 1.0
    assert at(name, 4, total_steps=None) == pytest.approx(5 / 11)


@pytest.mark.parametrize("name", [name for name in SCHEDULES if name not in ("fixed", "plateau")])
def test_the_others_are_refused_without_a_length(name):
    with pytest.raises(InputError, match=rf"recipe.schedule={name}: needs the length"):
        plan(name, total_steps=None)


@pytest.mark.parametrize(
    ("changes", "said"),
    [({"warmup_steps": 110}, "recipe.warmup_epochs.*110 steps"), ({"total_steps": 0}, "0 steps")],
)
def test_a_length_that_cannot_be_is_refused_with_its_key(changes, said):
    with pytest.raises(InputError, match=said):
        plan("cosine", **changes)


def test_settings_that_a_schedule_does_not_use_are_ignored():
    assert at("fixed", 50, schedule_cycles=0, schedule_drops=0, rise_fraction=7.0, cooldown_fraction=0.0) == 1.0


def test_a_ramp_rises_exponentially_to_the_peak():
    rates = [at("ramp", step, warmup_steps=0, total_steps=3, cycle_low=1e-3) for step in range(4)]
    assert rates == pytest.approx([1e-3, 1e-2, 1e-1, 1.0])
