"""A Latin hypercube: every slice of every dimension once, and the same seed the same trials."""

import math

import numpy as np
import pytest

from components.search.samplers.spread import latin_hypercube, random_sampler
from components.search.space import Choice, Condition, Interval

AUGMENT = Interval("recipe.augment_strength", 0.0, 1.0, log=False)
DEFAULT_STRENGTH = {"recipe.augment_strength": 0.5}


@pytest.fixture
def space(lab):
    return lab.space(lab.optimizer, lab.rate, lab.decay, AUGMENT, **DEFAULT_STRENGTH)


def suggestions(lab, space, count: int, **changes):
    sampler = random_sampler(lab.settings(space, count + 1, **changes))
    return [sampler.suggest(number, []) for number in range(1, count + 1)]


def slice_of(value: float, low: float, high: float, count: int) -> int:
    """In which of `count` equal slices of log [low, high] a value lies."""
    return math.floor((math.log(value) - math.log(low)) / (math.log(high) - math.log(low)) * count)


@pytest.mark.parametrize("count", [1, 2, 7, 15])
@pytest.mark.parametrize("seed", [0, 1])
def test_every_slice_of_every_interval_is_used_once(lab, space, count: int, seed: int) -> None:
    trials = [suggestion.overrides for suggestion in suggestions(lab, space, count, seed=seed)]
    everything = list(range(count))
    assert sorted(slice_of(t["recipe.weight_decay"], 1e-5, 1e-1, count) for t in trials) == everything
    assert sorted(math.floor(t["recipe.augment_strength"] * count) for t in trials) == everything
    # the rate in the range of its own optimizer
    rates = [slice_of(t["recipe.lr"], *lab.rate.bounds["net", t["recipe.optimizer"]], count) for t in trials]
    assert sorted(rates) == everything


def test_choices_come_equally_often(lab, space) -> None:
    assert sum(s.overrides["recipe.optimizer"] == "sgd" for s in suggestions(lab, space, 8)) == 4


def test_rates_stay_within_the_bounds_of_their_optimizer(lab, space) -> None:
    for suggestion in suggestions(lab, space, 100, seed=3):
        low, high = lab.rate.bounds["net", suggestion.overrides["recipe.optimizer"]]
        assert low <= suggestion.overrides["recipe.lr"] <= high


def test_the_same_seed_gives_the_same_trials_and_another_seed_others(lab, space) -> None:
    assert suggestions(lab, space, 5, seed=4) == suggestions(lab, space, 5, seed=4)
    assert suggestions(lab, space, 5, seed=4) != suggestions(lab, space, 5, seed=5)


def test_what_became_of_the_trials_does_not_matter(lab, space) -> None:
    sampler = random_sampler(lab.settings(space))
    assert sampler.suggest(2, []) == sampler.suggest(
        2, [lab.record(0, {}, 0.5), lab.record(1, {"recipe.lr": 0.1}, 0.9)]
    )


def test_the_trials_run_to_their_end_and_are_done_when_their_number_is_reached(lab, space) -> None:
    sampler = random_sampler(lab.settings(space, 3))
    assert sampler.suggest(2, []).epochs == 9
    assert sampler.suggest(2, []).phase == "latin hypercube"
    assert sampler.suggest(3, []) == "done"
    assert sampler.suggest(4, []) == "done"


def test_a_trial_of_a_condition_that_does_not_hold_has_no_such_coordinate(lab) -> None:
    momentum = Interval("recipe.momentum", 0.5, 0.9, log=False, when=(Condition("recipe.optimizer", ("sgd",)),))
    trials = suggestions(lab, lab.space(momentum, lab.optimizer, **{"recipe.momentum": 0.9}), 8)
    assert [("recipe.momentum" in t.point) == (t.point["recipe.optimizer"] == 1) for t in trials] == [True] * 8
    assert [t.overrides.keys() == t.point.keys() for t in trials] == [True] * 8


def test_in_a_space_of_choices_every_point_is_tried_once_and_the_defaults_not_again(lab) -> None:
    space = lab.space(lab.optimizer, Choice("recipe.layer_decay", (1.0, 0.9)))
    sampler = random_sampler(lab.settings(space, 16))
    tried = [tuple(sorted(sampler.suggest(number, []).point.items())) for number in (1, 2, 3)]
    assert sorted(tried) == [
        (("recipe.layer_decay", 0), ("recipe.optimizer", 1)),
        (("recipe.layer_decay", 1), ("recipe.optimizer", 0)),
        (("recipe.layer_decay", 1), ("recipe.optimizer", 1)),
    ]
    assert sampler.suggest(4, []) == "done"


def test_where_choices_outnumber_the_trials_they_are_spread_without_repetition(lab) -> None:
    space = lab.space(Choice("a", tuple(range(10))), Choice("b", tuple(range(10))), a=0, b=0)
    points = [tuple(sorted(s.point.items())) for s in suggestions(lab, space, 40)]
    assert len(set(points)) == 40
    assert (("a", 0), ("b", 0)) not in points


def test_the_global_generator_of_numpy_is_left_alone(lab, space) -> None:
    before = np.random.get_state()[1].copy()  # noqa: NPY002 - it is what is looked at
    suggestions(lab, space, 5)
    assert (np.random.get_state()[1] == before).all()  # noqa: NPY002


def test_no_trials_and_no_space_are_allowed(lab, space) -> None:
    assert latin_hypercube(space, 0, seed=0).shape == (0, 4)
    assert random_sampler(lab.settings(space, 1)).suggest(1, []) == "done"
    assert random_sampler(lab.settings(lab.space(), 5)).suggest(1, []) == "done"
