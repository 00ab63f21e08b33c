"""A Latin hypercube: every slice of every dimension once, and the same seed the same trials."""

import math

import pytest

from components.search.samplers import latin_hypercube
from components.search.space import Choice, ConditionalInterval, Interval

RATES = {"adamw": (1e-5, 1e-3), "sgd": (1e-3, 1e-1)}
SPACE = (
    Choice("recipe.optimizer", ("adamw", "sgd")),
    ConditionalInterval("recipe.lr", "recipe.optimizer", RATES, default="adamw"),
    Interval("recipe.weight_decay", 1e-5, 1e-1, log=True),
    Interval("recipe.augment_strength", 0.0, 1.0, log=False),
)


def slice_of(value: float, low: float, high: float, count: int) -> int:
    """In which of `count` equal slices of log [low, high] a value lies."""
    return math.floor((math.log(value) - math.log(low)) / (math.log(high) - math.log(low)) * count)


@pytest.mark.parametrize("count", [1, 2, 7, 15])
@pytest.mark.parametrize("seed", [0, 1])
def test_every_slice_of_every_interval_is_used_once(count: int, seed: int) -> None:
    trials = latin_hypercube(SPACE, count, seed=seed)
    assert len(trials) == count
    everything = list(range(count))
    assert sorted(slice_of(t["recipe.weight_decay"], 1e-5, 1e-1, count) for t in trials) == everything
    assert sorted(math.floor(t["recipe.augment_strength"] * count) for t in trials) == everything
    # the rate in the range of its own optimizer
    rates = [slice_of(t["recipe.lr"], *RATES[t["recipe.optimizer"]], count) for t in trials]
    assert sorted(rates) == everything


def test_choices_come_equally_often() -> None:
    trials = latin_hypercube(SPACE, 8, seed=0)
    assert sum(trial["recipe.optimizer"] == "sgd" for trial in trials) == 4


def test_rates_stay_within_the_bounds_of_their_optimizer() -> None:
    for trial in latin_hypercube(SPACE, 100, seed=3):
        low, high = RATES[trial["recipe.optimizer"]]
        assert low <= trial["recipe.lr"] <= high


def test_the_same_seed_gives_the_same_trials_and_another_seed_others() -> None:
    assert latin_hypercube(SPACE, 5, seed=4) == latin_hypercube(SPACE, 5, seed=4)
    assert latin_hypercube(SPACE, 5, seed=4) != latin_hypercube(SPACE, 5, seed=5)


def test_the_global_generator_of_numpy_is_left_alone() -> None:
    import numpy as np

    before = np.random.get_state()[1].copy()  # noqa: NPY002 - it is what is looked at
    latin_hypercube(SPACE, 5, seed=4)
    assert (np.random.get_state()[1] == before).all()  # noqa: NPY002


def test_no_trials_and_no_space_are_allowed() -> None:
    assert latin_hypercube(SPACE, 0, seed=0) == []
    assert latin_hypercube((), 2, seed=0) == [{}, {}]
