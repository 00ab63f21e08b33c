"""The recipe's keys for the learning rate: what goes together, and what is refused in which words."""

from dataclasses import fields

import pytest

from components.errors import InputError
from components.evaluation.objectives import DECIDING
from components.optim.optimizers import OPTIMIZERS
from components.optim.schedules import SCHEDULES, Schedule
from pipeline.loading import load
from pipeline.overriding import override
from pipeline.sections.recipe import OWN_OPTIMIZERS, SCHEDULE_FREE, RecipeConfig, ScheduleName
from pipeline.stage import fingerprint, section_values
from pipeline.stages import STAGES


def refusal(overrides: dict) -> str:
    with pytest.raises(InputError) as caught:
        load("smoke", overrides)
    return str(caught.value)


def test_the_configuration_knows_the_optimizers_that_the_components_have() -> None:
    assert set(OWN_OPTIMIZERS) == set(OPTIMIZERS)
    assert set(SCHEDULE_FREE) == {name for name, spec in OPTIMIZERS.items() if spec.schedule_free}


def test_the_configuration_knows_the_schedules_that_the_components_have() -> None:
    assert set(ScheduleName.__args__) - {"auto"} == set(SCHEDULES)


@pytest.mark.parametrize("name", ["lamb", "lion", "adan"])
def test_an_optimizer_of_timm_is_taken_by_its_name(name: str) -> None:
    assert load("smoke", {"recipe.optimizer": name}).recipe.optimizer == name


def test_an_unknown_optimizer_is_answered_with_those_that_are_known() -> None:
    message = refusal({"recipe.optimizer": "adamq"})
    assert message.startswith("recipe.optimizer=adamq: ")
    assert "sgd, momentum" in message
    assert "adamw" in message


def test_a_schedule_takes_its_settings_from_the_keys_of_the_same_names() -> None:
    keys = {field.name for field in fields(Schedule)} - {"name", "warmup_steps", "total_steps"}
    assert keys <= set(RecipeConfig.model_fields)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        *[("final_lr_fraction", value) for value in ("0", "1.5", ".nan")],
        *[("schedule_drops", "0"), ("schedule_cycles", "0"), ("cycle_growth", "0.5"), ("cycle_low", "1")],
        *[("rise_fraction", "1"), ("cooldown_fraction", "0"), ("plateau_factor", "1"), ("plateau_patience", "-1")],
        *[("warmup_epochs", "-1"), ("lr", "0"), ("lr", ".nan"), ("weight_decay", "-1")],
        *[("layer_decay", "0"), ("layer_decay", "1.1"), ("head_lr_ratio", "0"), ("head_lr_ratio", ".inf")],
        ("layer_decay_towards", "sideways"),
    ],
)
def test_a_value_outside_its_range_is_refused_with_its_key(key: str, value: str) -> None:
    assert refusal({f"recipe.{key}": value}).startswith(f"recipe.{key}")


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


# --- the loss


@pytest.mark.parametrize(("loss", "gamma"), [("cross_entropy", 0.0), ("focal", 3.0), ("class_balanced", 0.0)])
def test_gamma_belongs_to_the_focal_loss(loss: str, gamma: float) -> None:
    assert RecipeConfig(loss=loss, focal_gamma=3.0).loss_gamma == gamma


def test_a_loss_that_weighs_the_classes_goes_not_with_no_weights() -> None:
    message = refusal({"recipe.loss": "class_balanced", "recipe.class_weights": "none"})
    assert "class_weights=none" in message
    assert "loss to cross_entropy" in message
    assert load("smoke", {"recipe.loss": "class_balanced"}).recipe.class_weights == "balanced"  # whose place it takes
    load("smoke", {"recipe.loss": "focal", "recipe.class_weights": "none"})


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("loss", "hinge"),
        ("focal_gamma", "-1"),
        ("class_balanced_beta", "1"),
        ("class_balanced_beta", "-0.1"),
        ("escape_budget", "0"),
        ("escape_budget", "1"),
        ("escape_cost", "0"),
        ("defect_rate", "0"),
        ("defect_rate", "1"),
        ("objective", "f1"),
    ],
)
def test_a_key_of_loss_or_objective_outside_its_range_is_refused(key: str, value: str) -> None:
    assert refusal({f"recipe.{key}": value}).startswith(f"recipe.{key}={value}: ")


# --- the objective


def test_an_objective_that_keeps_a_budget_has_that_of_the_operating_point_unless_it_is_given() -> None:
    asked = {"recipe.objective": "overkill_at_budget", "operating_point.escape_budget": "0.02"}
    assert load("smoke", asked).recipe.escape_budget == 0.02
    assert load("smoke", {**asked, "recipe.escape_budget": "0.1"}).recipe.escape_budget == 0.1


@pytest.mark.parametrize("objective", ["average_precision", "auroc", "balanced_accuracy", "cost"])
def test_no_other_objective_depends_on_the_operating_point(objective: str) -> None:
    asked = {"recipe.objective": objective, "operating_point.escape_budget": "0.02"}
    assert load("smoke", asked).recipe.escape_budget is None


def test_the_budget_is_there_for_a_method_of_the_comparison_that_asks_for_it() -> None:
    entries = "[{name: a, sets: {recipe.objective: overkill_at_budget}}]"
    given = {"compare_lr.entries": entries, "operating_point.escape_budget": "0.07"}
    assert load("smoke", given).recipe.escape_budget == 0.07


@pytest.mark.parametrize("objective", ["average_precision", "auroc", "overkill_at_budget", "cost"])
def test_all_objectives_but_one_need_a_good_class(objective: str) -> None:
    message = refusal({"recipe.objective": objective, "data.good_labels": "[]"})
    assert f"recipe.objective={objective}: needs a good class" in message


@pytest.mark.parametrize("key", ["objective", "escape_budget", "escape_cost", "defect_rate"])
def test_what_trials_are_compared_by_is_not_searched(key: str) -> None:
    message = refusal({"search.space": [{"sets": f"recipe.{key}", "choices": [0.1, 0.2]}]})
    assert f"sets=recipe.{key}: cannot be searched: trials are compared by it" in message


def test_the_objectives_are_those_that_the_components_have() -> None:
    names = set(RecipeConfig.model_fields["objective"].annotation.__args__)
    assert names == {*DECIDING, "balanced_accuracy"}


@pytest.mark.parametrize(
    ("overrides", "same"),
    [
        ({"recipe.objective": "cost"}, True),
        ({"recipe.objective": "overkill_at_budget"}, True),
        ({"recipe.escape_cost": "3"}, True),
        ({"recipe.defect_rate": "0.01"}, True),
        ({"recipe.escape_budget": "0.01"}, True),
        ({"recipe.loss": "focal"}, False),
        ({"recipe.image_size": "32"}, False),
    ],
)
def test_what_a_model_is_judged_by_changes_no_range_test_and_what_it_learns_from_does(
    overrides: dict, same: bool
) -> None:
    stage = next(stage for stage in STAGES if stage.name == "lr_range_test")

    def identity(given: dict) -> str:
        return fingerprint(stage, section_values(load("smoke", given), stage.sections), {})

    assert (identity(overrides) == identity({})) is same
