"""Schedules against their closed formulas, group by group and step by step."""

import math
from itertools import pairwise

import pytest
import torch
from torch import nn

from components.errors import InputError
from components.optim.schedules import SCHEDULES, build_schedule, multiplier

PLAN = {"total_steps": 110, "warmup_steps": 10, "final_fraction": 0.01, "drops": 2}


def at(name, step, **changes):
    return multiplier(name, step, **(PLAN | changes))


@pytest.mark.parametrize("name", SCHEDULES)
def test_warmup_rises_linearly_from_above_zero_to_the_full_rate(name):
    assert at(name, 0) == pytest.approx(1 / 11)
    assert at(name, 4) == pytest.approx(5 / 11)
    assert at(name, 10) == pytest.approx(1.0)


@pytest.mark.parametrize("name", SCHEDULES)
def test_without_warmup_the_first_step_has_the_full_rate(name):
    assert at(name, 0, warmup_steps=0) == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("name", "middle"),
    [
        ("fixed", 1.0),
        ("step", 0.1),  # after one of two drops of √0.01
        ("exponential", 0.1),  # √0.01
        ("cosine", 0.505),  # (1 + 0.01) / 2
    ],
)
def test_half_way_through_each_is_where_its_formula_says(name, middle):
    assert at(name, 60) == pytest.approx(middle)


@pytest.mark.parametrize("name", ["step", "exponential", "cosine"])
def test_all_but_fixed_end_at_the_final_fraction_and_stay_there(name):
    assert at(name, 110) == pytest.approx(0.01)
    assert at(name, 500) == pytest.approx(0.01)


@pytest.mark.parametrize("name", SCHEDULES)
def test_no_schedule_rises_after_warmup(name):
    factors = [at(name, step) for step in range(10, 111)]
    assert all(later <= earlier for earlier, later in pairwise(factors))


def test_step_drops_at_equal_distances():
    # 100 steps after warmup, 2 drops: at a third and at two thirds
    assert [at("step", step) for step in (43, 44, 76, 77)] == pytest.approx([1.0, 0.1, 0.1, 0.01])


@pytest.mark.parametrize("name", SCHEDULES)
def test_the_rate_of_every_group_follows_the_formula_at_every_step(name):
    model = nn.Linear(2, 2)
    groups = [{"params": [model.weight], "lr": 0.1}, {"params": [model.bias], "lr": 0.02}]
    optimizer = torch.optim.SGD(groups, lr=1.0)
    schedule = build_schedule(optimizer, name=name, **PLAN)
    for step in range(130):
        assert [group["lr"] for group in optimizer.param_groups] == pytest.approx(
            [0.1 * at(name, step), 0.02 * at(name, step)]
        )
        optimizer.step()
        schedule.step()


def test_a_schedule_that_is_resumed_goes_on_where_it_was():
    def new():
        optimizer = torch.optim.SGD([nn.Parameter(torch.ones(1))], lr=0.1)
        return optimizer, build_schedule(optimizer, name="cosine", **PLAN)

    optimizer, schedule = new()
    for _ in range(42):
        optimizer.step()
        schedule.step()
    resumed_optimizer, resumed = new()
    resumed_optimizer.load_state_dict(optimizer.state_dict())
    resumed.load_state_dict(schedule.state_dict())
    resumed_optimizer.step()
    resumed.step()
    assert math.isclose(resumed_optimizer.param_groups[0]["lr"], 0.1 * at("cosine", 43))


@pytest.mark.parametrize(
    ("name", "changes", "said"),
    [
        ("poly", {}, "recipe.schedule='poly'.*fixed, step, exponential, cosine"),
        ("cosine", {"warmup_steps": 110}, "warmup of 110 steps"),
        ("cosine", {"total_steps": 0}, "0 steps"),
        ("exponential", {"final_fraction": 0.0}, r"\(0, 1\] for exponential"),
        ("cosine", {"final_fraction": 1.5}, "1.5"),
        ("step", {"drops": 0}, "schedule_drops=0"),
    ],
)
def test_a_plan_that_cannot_be_is_refused_with_its_key(name, changes, said):
    optimizer = torch.optim.SGD([nn.Parameter(torch.ones(1))], lr=0.1)
    with pytest.raises(InputError, match=said):
        build_schedule(optimizer, name=name, **(PLAN | changes))
