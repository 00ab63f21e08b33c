"""Points are told apart by what they set."""

from components.search.samplers.points import (
    active_part,
    choice_points,
    enumerate_points,
    point_key,
    random_point,
    trial_seed,
)
from components.search.space import Choice, Condition

SGD_ONLY = (Condition("recipe.optimizer", ("sgd",)),)


def test_neither_order_nor_the_last_digits_make_another_point() -> None:
    assert point_key({"a": 1, "b": 0.1 + 0.2}) == point_key({"b": 0.3, "a": 1.0})
    assert point_key({"a": 0.3}) != point_key({"a": 0.300001})
    assert point_key({"a": 0.3}) != point_key({"b": 0.3})
    assert point_key({}) == ()


def test_choices_are_combined_under_their_conditions(lab) -> None:
    space = lab.space(Choice("recipe.nesterov", (True, False), when=SGD_ONLY), lab.optimizer)
    assert choice_points(space) == [
        {"recipe.optimizer": 0},
        {"recipe.optimizer": 1, "recipe.nesterov": 0},
        {"recipe.optimizer": 1, "recipe.nesterov": 1},
    ]


def test_intervals_are_left_out_of_the_combinations_and_make_a_space_uncountable(lab) -> None:
    space = lab.space(lab.optimizer, lab.rate)
    assert choice_points(space) == [{"recipe.optimizer": 0}, {"recipe.optimizer": 1}]
    assert enumerate_points(space) is None
    assert enumerate_points(lab.space(lab.optimizer)) == choice_points(space)


def test_too_many_choices_are_taken_for_endless(lab) -> None:
    names = [f"k{i}" for i in range(6)]
    space = lab.space(*(Choice(name, tuple(range(10))) for name in names), **dict.fromkeys(names, 0))
    assert choice_points(space) is None


def test_coordinates_without_their_condition_are_dropped(lab) -> None:
    space = lab.space(Choice("recipe.nesterov", (True, False), when=SGD_ONLY), lab.optimizer)
    assert active_part(space, {"recipe.nesterov": 1, "recipe.optimizer": 0}) == {"recipe.optimizer": 0}
    assert active_part(space, {"recipe.nesterov": 1}) == {}  # the recipe's own optimizer is adamw


def test_each_trial_draws_for_itself(lab) -> None:
    space = lab.space(lab.optimizer, lab.rate)
    assert random_point(space, seed=1, number=2) == random_point(space, seed=1, number=2)
    assert random_point(space, seed=1, number=2) != random_point(space, seed=1, number=3)
    assert len({trial_seed(seed, number) for seed in range(10) for number in range(10)}) == 100
