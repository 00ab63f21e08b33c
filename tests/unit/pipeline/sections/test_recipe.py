"""The recipe's keys for the learning rate: what goes together, and what is refused in which words."""

import pytest

from components.errors import InputError
from components.optim.optimizers import OPTIMIZERS
from components.optim.schedules import SCHEDULES
from pipeline.loading import load, override
from pipeline.sections.recipe import OWN_OPTIMIZERS, SCHEDULE_FREE, RecipeConfig, Schedule


def refusal(overrides: dict) -> str:
    with pytest.raises(InputError) as caught:
        load("smoke", overrides)
    return str(caught.value)


def test_the_configuration_knows_the_optimizers_that_the_components_have() -> None:
    assert set(OWN_OPTIMIZERS) == set(OPTIMIZERS)
    assert set(SCHEDULE_FREE) == {name for name, spec in OPTIMIZERS.items() if spec.schedule_free}


def test_the_configuration_knows_the_schedules_that_the_components_have() -> None:
    assert set(Schedule.__args__) - {"auto"} == set(SCHEDULES)


@pytest.mark.parametrize("name", ["lamb", "lion", "adan"])
def test_an_optimizer_of_timm_is_taken_by_its_name(name: str) -> None:
    assert load("smoke", {"recipe.optimizer": name}).recipe.optimizer == name


def test_an_unknown_optimizer_is_answered_with_those_that_are_known() -> None:
    message = refusal({"recipe.optimizer": "adamq"})
    assert message.startswith("recipe.optimizer=adamq: ")
    assert "sgd, momentum" in message
    assert "adamw" in message


def test_an_unknown_schedule_is_answered_with_those_that_are_known() -> None:
    assert "'cosine_restarts', 'triangular'" in refusal({"recipe.schedule": "cosinus"})


@pytest.mark.parametrize("name", SCHEDULE_FREE)
@pytest.mark.parametrize(
    ("key", "value", "said"),
    [("recipe.schedule", "cosine", "takes no schedule"), ("recipe.ema_decay", "0.9", "averages the weights by itself")],
)
def test_schedule_free_goes_with_neither_a_schedule_nor_an_average(name: str, key: str, value: str, said: str) -> None:
    message = refusal({"recipe.optimizer": name, key: value})
    assert said in message
    assert name in message


@pytest.mark.parametrize(
    ("optimizer", "schedule", "expected"),
    [
        ("adamw", "auto", "cosine"),
        ("schedulefree_adamw", "auto", "fixed"),
        ("schedulefree_sgd", "fixed", "fixed"),
        ("sgd", "wsd", "wsd"),
    ],
)
def test_the_automatic_schedule_follows_the_optimizer(optimizer: str, schedule: str, expected: str) -> None:
    assert RecipeConfig(optimizer=optimizer, schedule=schedule).schedule_name == expected


@pytest.mark.parametrize("value", ["0", "1.01", "-0.5"])
def test_layer_decay_is_above_nought_and_at_most_one(value: str) -> None:
    assert "recipe.layer_decay" in refusal({"recipe.layer_decay": value})


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("head_lr_ratio", "0"),
        ("freeze_epochs", "-1"),
        ("schedule_cycles", "0"),
        ("cycle_growth", "0.5"),
        ("cycle_low", "1"),
        ("rise_fraction", "1"),
        ("cooldown_fraction", "0"),
        ("plateau_factor", "1"),
        ("plateau_patience", "-1"),
    ],
)
def test_a_key_of_the_schedule_outside_its_range_is_refused(key: str, value: str) -> None:
    assert refusal({f"recipe.{key}": value}).startswith(f"recipe.{key}={value}: ")


def test_a_searched_optimizer_must_go_with_the_recipes_schedule() -> None:
    space = [{"sets": "recipe.optimizer", "choices": ["adamw", "schedulefree_adamw"]}]
    assert "takes no schedule" in refusal({"search.space": space, "recipe.schedule": "cosine"})
    load("smoke", {"search.space": space})


def test_a_trial_may_set_a_schedule_free_optimizer() -> None:
    recipe = override(RecipeConfig(), {"optimizer": "schedulefree_sgd"})
    assert recipe.schedule_name == "fixed"
