"""From a point of the unit cube to a trial's overrides."""

import math

import pytest

from components.search.space import Choice, ConditionalInterval, Interval, overrides_at

RATES = {"adamw": (1e-5, 1e-3), "sgd": (1e-3, 1e-1)}
OPTIMIZER = Choice("recipe.optimizer", ("adamw", "sgd"))
RATE = ConditionalInterval("recipe.lr", "recipe.optimizer", RATES, default="adamw")


@pytest.mark.parametrize(
    ("u", "value"), [(0.0, "a"), (0.333, "a"), (0.334, "b"), (0.667, "c"), (0.999, "c"), (1.0, "c")]
)
def test_choices_share_the_interval_equally(u: float, value: str) -> None:
    assert Choice("k", ("a", "b", "c")).at(u, {}) == value


def test_a_uniform_interval_is_linear() -> None:
    interval = Interval("k", 2.0, 6.0, log=False)
    assert [interval.at(u, {}) for u in (0.0, 0.25, 0.5, 1.0)] == [2.0, 3.0, 4.0, 6.0]


def test_a_logarithmic_interval_is_linear_in_the_exponent() -> None:
    interval = Interval("k", 1e-4, 1e-2, log=True)
    assert [interval.at(u, {}) for u in (0.0, 0.5, 1.0)] == pytest.approx([1e-4, 1e-3, 1e-2])


@pytest.mark.parametrize(("optimizer", "middle"), [("adamw", 1e-4), ("sgd", 1e-2)])
def test_the_same_coordinate_is_the_same_place_in_each_optimizers_range(optimizer: str, middle: float) -> None:
    assert RATE.at(0.5, {"recipe.optimizer": optimizer}) == pytest.approx(middle)
    low, high = RATES[optimizer]
    assert RATE.at(0.0, {"recipe.optimizer": optimizer}) == pytest.approx(low)
    assert RATE.at(1.0, {"recipe.optimizer": optimizer}) == pytest.approx(high)


def test_where_no_trial_sets_the_optimizer_the_recipes_own_bounds_hold() -> None:
    assert overrides_at([RATE], [0.5]) == {"recipe.lr": pytest.approx(1e-4)}


@pytest.mark.parametrize("order", [[0, 1], [1, 0]])
def test_the_order_of_the_dimensions_does_not_matter(order: list[int]) -> None:
    space, point = [OPTIMIZER, RATE], [0.9, 0.5]
    overrides = overrides_at([space[i] for i in order], [point[i] for i in order])
    assert overrides == {"recipe.optimizer": "sgd", "recipe.lr": pytest.approx(1e-2)}


def test_a_point_of_another_dimension_is_refused() -> None:
    with pytest.raises(ValueError, match="zip"):
        overrides_at([OPTIMIZER, RATE], [0.5])


def test_an_optimizer_without_bounds_is_an_error_and_no_guess() -> None:
    with pytest.raises(KeyError, match="adam"):
        RATE.at(0.5, {"recipe.optimizer": "adam"})


def test_values_are_plain_numbers() -> None:
    import numpy as np

    overrides = overrides_at([RATE, Interval("k", 0.0, 1.0, log=False)], np.array([0.5, 0.5]))
    assert {type(value) for value in overrides.values()} == {float}
    assert math.isfinite(overrides["k"])
