"""Range test, monitor and comparison: what their sections take and refuse."""

import pytest

from components.errors import InputError
from pipeline.config import Config
from pipeline.loading import entry_recipes, for_comparison, load
from pipeline.sections.learning_rate import DEFAULT_ENTRIES
from pipeline.sections.recipe import Recipe


def comparison_recipes(config: Config) -> dict[str, Recipe]:
    return entry_recipes(Recipe(model=config.model, recipe=config.recipe), config.compare_lr.entries)


def refusal(overrides: dict) -> str:
    with pytest.raises(InputError) as caught:
        load("smoke", overrides)
    return str(caught.value)


# --- the range test


@pytest.mark.parametrize(
    ("ramp", "said"),
    [
        ([1.0, 1e-5], "the lowest rate, then the highest"),
        ([0.0, 1.0], "both above 0"),
        ([-1e-3, 1.0], "both above 0"),
        ([0.1, 0.5], "less than a decade"),
    ],
)
def test_a_ramp_runs_upwards_over_a_decade_at_least(ramp: list, said: str) -> None:
    message = refusal({"lr_range_test.ramp": ramp})
    assert message.startswith("lr_range_test.ramp=")
    assert said in message


@pytest.mark.parametrize("decays", [[0.1], [0.1, 0.1], [-0.1, 0.1], [0.1, 2.0]])
def test_weight_decays_are_several_and_each_its_own(decays: list) -> None:
    assert "lr_range_test.weight_decays" in refusal({"lr_range_test.weight_decays": decays})


def test_the_range_test_alone_may_leave_out_the_recipes_optimizer() -> None:
    overrides = {"lr_range_test.optimizers": "[sgd]", "recipe.optimizer": "adamw"}
    assert load("smoke", overrides, trains=False).lr_range_test.optimizers == ("sgd",)
    assert "leaves out adamw" in refusal(overrides)


# --- the comparison


def test_an_entry_of_the_default_may_be_given_by_its_name() -> None:
    config = load("smoke", {"compare_lr.entries": "[cosine, adamw]"})
    assert config.compare_lr.entries == tuple(
        e for name in ("cosine", "adamw") for e in DEFAULT_ENTRIES if e.name == name
    )


def test_an_entry_of_ones_own_stands_beside_one_of_the_default() -> None:
    entries = ["cosine", {"name": "slow", "sets": {"recipe.optimizer": "lamb"}}]
    config = load("smoke", {"compare_lr.entries": entries})
    assert [entry.name for entry in config.compare_lr.entries] == ["cosine", "slow"]
    assert comparison_recipes(config)["slow"].recipe.optimizer == "lamb"


@pytest.mark.parametrize(
    ("entries", "said"),
    [
        (["cosinus"], "cosinus is unknown"),
        ([], "at least 1 item"),
        (["cosine", "cosine"], "there twice"),
        ([{"name": "mine", "sets": {"recipe.lr": 0.1}}], "each method gets its own"),
        ([{"name": "mine", "sets": {"recipe.precision": "float32"}}], "in one"),
        ([{"name": "mine", "sets": {"train.epochs": 3}}], "not below recipe"),
        ([{"name": "mine", "sets": {"recipe.schedul": "cosine"}}], "did you mean schedule?"),
        ([{"name": "mine", "sets": {"recipe.optimizer": "schedulefree_sgd", "recipe.schedule": "wsd"}}], "takes no"),
        ([{"name": "a/b", "sets": {"recipe.schedule": "wsd"}}], "name"),
        ([{"name": "mine", "sets": {}}], "sets"),
    ],
)
def test_an_entry_that_makes_no_recipe_is_refused(entries: list, said: str) -> None:
    message = refusal({"compare_lr.entries": entries})
    assert "compare_lr.entries" in message or "compare_lr" in message
    assert said in message


@pytest.mark.parametrize("factors", [[], [0.0, 1.0], [-1.0]])
def test_the_factors_of_a_rate_are_positive(factors: list) -> None:
    assert "compare_lr.rate_factors" in refusal({"compare_lr.rate_factors": factors})


def test_a_comparison_tests_the_optimizers_of_its_entries_and_no_others() -> None:
    config = load("smoke", {"compare_lr.entries": "[adagrad, cosine, wsd]"})
    assert config.lr_range_test.optimizers == ("adamw", "sgd")
    assert for_comparison(config).lr_range_test.optimizers == ("adagrad", "sgd")


def test_a_comparison_gives_every_method_a_rate_of_its_own() -> None:
    config = load("smoke", {"recipe.lr": "0.1"})
    assert {recipe.recipe.lr for recipe in comparison_recipes(config).values()} == {"auto"}


def test_the_default_comparison_has_the_methods_of_the_literature() -> None:
    recipes = comparison_recipes(load("default"))
    schedules = {recipe.recipe.schedule for recipe in recipes.values()}
    optimizers = {recipe.recipe.optimizer for recipe in recipes.values()}
    assert {"fixed", "step", "exponential", "cosine", "one_cycle", "triangular", "wsd", "plateau"} <= schedules
    assert {"sgd", "adam", "adamw", "rmsprop", "adagrad", "schedulefree_adamw"} <= optimizers
    assert sum(recipe.recipe.layer_decay < 1 for recipe in recipes.values()) == 2


def test_the_default_comparison_goes_with_a_recipe_that_averages_or_is_schedule_free() -> None:
    recipes = comparison_recipes(load("smoke", {"recipe.ema_decay": "0.99"}))
    assert recipes["schedule-free-adamw"].recipe.ema_decay is None
    assert recipes["cosine"].recipe.ema_decay == 0.99
    comparison_recipes(load("smoke", {"recipe.optimizer": "schedulefree_sgd"}))


# --- the monitor


def test_the_monitor_observes_unless_it_is_told_to_act() -> None:
    assert load("default").monitor.action == "observe"


@pytest.mark.parametrize(("key", "value"), [("action", "halve"), ("max_rollbacks", "0"), ("probe_every", "0")])
def test_a_monitor_that_cannot_be_is_refused(key: str, value: str) -> None:
    assert refusal({f"monitor.{key}": value}).startswith(f"monitor.{key}={value}: ")
