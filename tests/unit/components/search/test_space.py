"""From coordinates to a trial's overrides, and from settings to their coordinates."""

import math

import pytest

from components.errors import InputError
from components.search.space import Choice, Condition, Interval, RateInterval, Space, SuggestedRate

RATES = {("net", "adamw"): (1e-5, 1e-3), ("net", "sgd"): (1e-3, 1e-1), ("wide", "adamw"): (1e-6, 1e-4)}
SETTINGS = {"model.backbone": "net", "recipe.optimizer": "adamw", "recipe.batch_size": 32, "recipe.lr": 1e-4}
OPTIMIZER = Choice("recipe.optimizer", ("adamw", "sgd"))
BATCH = Choice("recipe.batch_size", (32, 128))
RATE = RateInterval("recipe.lr", RATES, batch_size=32)
MOMENTUM = Interval("recipe.momentum", 0.5, 0.9, log=False, when=(Condition("recipe.optimizer", ("sgd",)),))


def space_of(*dimensions, rate=None, **defaults):
    return Space(dimensions, {**SETTINGS, "recipe.momentum": 0.9, **defaults}, rate=rate)


def test_a_choice_is_at_its_index() -> None:
    assert [Choice("k", ("a", "b")).at(i, {}) for i in (0, 1)] == ["a", "b"]


def test_a_uniform_interval_is_linear() -> None:
    interval = Interval("k", 2.0, 6.0, log=False)
    assert [interval.at(u, {}) for u in (0.0, 0.25, 0.5, 1.0)] == [2.0, 3.0, 4.0, 6.0]


def test_a_logarithmic_interval_is_linear_in_the_exponent() -> None:
    interval = Interval("k", 1e-4, 1e-2, log=True)
    assert [interval.at(u, {}) for u in (0.0, 0.5, 1.0)] == pytest.approx([1e-4, 1e-3, 1e-2])


@pytest.mark.parametrize(("optimizer", "middle"), [("adamw", 1e-4), ("sgd", 1e-2)])
def test_the_same_coordinate_is_the_same_place_in_each_optimizers_range(optimizer: str, middle: float) -> None:
    settings = {**SETTINGS, "recipe.optimizer": optimizer}
    assert RATE.at(0.5, settings) == pytest.approx(middle)
    assert (RATE.at(0.0, settings), RATE.at(1.0, settings)) == pytest.approx(RATES["net", optimizer])


@pytest.mark.parametrize(("optimizer", "factor"), [("adamw", 2.0), ("sgd", 4.0)])
def test_bounds_move_with_the_batch_size_by_its_root_or_for_sgd_in_proportion(optimizer: str, factor: float) -> None:
    settings = {**SETTINGS, "recipe.optimizer": optimizer, "recipe.batch_size": 128}
    low, high = RATES["net", optimizer]
    assert RATE.limits(settings) == pytest.approx((low * factor, high * factor))


def test_where_no_trial_sets_the_optimizer_the_recipes_own_bounds_hold() -> None:
    assert space_of(RATE).overrides({"recipe.lr": 0.5}) == {"recipe.lr": pytest.approx(1e-4)}


@pytest.mark.parametrize("dimensions", [(OPTIMIZER, RATE, BATCH), (RATE, BATCH, OPTIMIZER)])
def test_the_order_of_the_dimensions_does_not_matter(dimensions) -> None:
    overrides = space_of(*dimensions).overrides({"recipe.lr": 0.5, "recipe.optimizer": 1, "recipe.batch_size": 1})
    assert overrides == {"recipe.optimizer": "sgd", "recipe.batch_size": 128, "recipe.lr": pytest.approx(4e-2)}


def test_a_backbone_and_optimizer_without_bounds_are_an_error_and_no_guess() -> None:
    with pytest.raises(KeyError, match="wide"):
        space_of(RATE, **{"model.backbone": "wide", "recipe.optimizer": "sgd"}).overrides({"recipe.lr": 0.5})


def test_a_dimension_is_passed_over_where_its_condition_does_not_hold() -> None:
    space = space_of(MOMENTUM, OPTIMIZER)
    point = {"recipe.momentum": 0.25, "recipe.optimizer": 1}
    assert space.overrides(point) == {"recipe.optimizer": "sgd", "recipe.momentum": pytest.approx(0.6)}
    assert space.overrides({**point, "recipe.optimizer": 0}) == {"recipe.optimizer": "adamw"}


def test_conditions_in_a_circle_are_an_error() -> None:
    first = Choice("a", (0, 1), when=(Condition("b", (0,)),))
    second = Choice("b", (0, 1), when=(Condition("a", (0,)),))
    with pytest.raises(InputError, match=r"search\.space: the conditions of a, b depend on each other; remove one"):
        space_of(first, second).ordered()


def test_a_trial_without_a_rate_of_its_own_gets_the_suggestion_for_what_it_sets() -> None:
    rate = SuggestedRate({("net", "adamw"): 2e-4, ("net", "sgd"): 3e-2}, batch_size=32)
    space = space_of(OPTIMIZER, BATCH, rate=rate)
    assert space.overrides({})["recipe.lr"] == pytest.approx(2e-4)
    assert space.overrides({"recipe.optimizer": 1, "recipe.batch_size": 1})["recipe.lr"] == pytest.approx(12e-2)


def test_a_rate_that_is_searched_is_not_suggested() -> None:
    rate = SuggestedRate({("net", "adamw"): 2e-4}, batch_size=32)
    assert space_of(RATE, rate=rate).overrides({"recipe.lr": 0.0}) == {"recipe.lr": pytest.approx(1e-5)}


@pytest.mark.parametrize(("u", "index"), [(0.0, 0), (0.333, 0), (0.334, 1), (0.667, 2), (0.999, 2), (1.0, 2)])
def test_choices_share_the_unit_interval_equally(u: float, index: int) -> None:
    assert space_of(Choice("k", ("a", "b", "c"))).from_cube([u]) == {"k": index}


def test_a_place_of_the_cube_has_no_coordinate_for_what_is_not_searched_there() -> None:
    space = space_of(MOMENTUM, OPTIMIZER)
    assert space.from_cube([0.25, 0.9]) == {"recipe.optimizer": 1, "recipe.momentum": 0.25}
    assert space.from_cube([0.25, 0.1]) == {"recipe.optimizer": 0}


def test_a_place_in_a_cube_of_other_dimensions_is_refused() -> None:
    with pytest.raises(ValueError, match="zip"):
        space_of(OPTIMIZER, RATE).from_cube([0.5])


def test_the_point_of_the_defaults_leads_back_to_them() -> None:
    space = space_of(OPTIMIZER, RATE, MOMENTUM)
    point = space.point({})
    assert point == {"recipe.optimizer": 0, "recipe.lr": pytest.approx(0.5)}
    assert space.overrides(point) == {"recipe.optimizer": "adamw", "recipe.lr": pytest.approx(1e-4)}


@pytest.mark.parametrize("settings", [{"recipe.lr": 0.1}, {"recipe.lr": "auto"}, {"recipe.optimizer": "adam"}])
def test_settings_that_the_space_does_not_hold_have_no_point(settings) -> None:
    assert space_of(OPTIMIZER, RATE).point(settings) is None


def test_an_end_of_an_interval_is_in_it_though_rounding_says_otherwise() -> None:
    assert RATE.coordinate(1e-3 * (1 + 1e-12), SETTINGS) == 1.0
    assert Interval("k", -1.0, 1.0, log=False).coordinate(-1.0, SETTINGS) == 0.0
    assert Interval("k", -1.0, 1.0, log=False).coordinate(-1.01, SETTINGS) is None


def test_the_width_of_a_rate_is_told_in_decades() -> None:
    space = space_of(RATE, MOMENTUM, Interval("recipe.weight_decay", 1e-5, 1e-1, log=True))
    widths = [space.decades(sets) for sets in ("recipe.lr", "recipe.weight_decay", "recipe.momentum")]
    assert widths == pytest.approx([2.0, 4.0, 1.0])


def test_values_are_plain_numbers() -> None:
    import numpy as np

    space = space_of(OPTIMIZER, RATE, Interval("k", 0.0, 1.0, log=False))
    point = space.from_cube(np.array([0.5, 0.5, 0.5]))
    assert [type(point[sets]) for sets in ("recipe.optimizer", "recipe.lr", "k")] == [int, float, float]
    assert math.isfinite(space.overrides(point)["recipe.lr"])
