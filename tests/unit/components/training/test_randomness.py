"""A random state of one's own: the same draws from a seed, and the caller's generators where they were."""

import random

import numpy as np
import pytest
import torch

from components.training.randomness import OwnRandomness

CPU = torch.device("cpu")


def draws() -> tuple[float, float, float]:
    return random.random(), float(np.random.standard_normal()), float(torch.rand(1))  # noqa: NPY002 - the global one


def test_it_goes_on_where_it_left_off_whatever_the_caller_draws_between() -> None:
    quiet, disturbed = OwnRandomness(3, CPU), OwnRandomness(3, CPU)
    with quiet.active():
        expected = [draws(), draws()]
    with disturbed.active():
        seen = [draws()]
    draws()
    with disturbed.active():
        seen.append(draws())
    assert seen == expected
    assert seen[0] != seen[1]


def test_another_seed_draws_something_else() -> None:
    one, other = OwnRandomness(0, CPU), OwnRandomness(1, CPU)
    with one.active():
        first = draws()
    with other.active():
        assert all(mine != theirs for mine, theirs in zip(first, draws(), strict=True))


def test_the_callers_draws_are_the_same_with_it_and_without() -> None:
    states = random.getstate(), np.random.get_state(), torch.get_rng_state()  # noqa: NPY002
    expected = [draws() for _ in range(3)]
    random.setstate(states[0]), np.random.set_state(states[1]), torch.set_rng_state(states[2])  # noqa: NPY002
    own = OwnRandomness(5, CPU)
    seen = []
    for _ in range(3):
        with own.active():
            draws()
        seen.append(draws())
    assert seen == expected


def test_an_error_inside_gives_the_callers_state_back() -> None:
    before = torch.get_rng_state()

    def draw_and_fail() -> None:
        with OwnRandomness(0, CPU).active():
            draws()
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        draw_and_fail()
    assert torch.equal(torch.get_rng_state(), before)
