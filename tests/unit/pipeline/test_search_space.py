"""Whose rate a trial gets, within which bounds, and the recipe that it is trained with."""

from types import SimpleNamespace

import pytest

from components.search.space import Choice, Condition, Interval, RateInterval
from pipeline import search_space as recipes
from pipeline.checks.space import with_parsed_values
from pipeline.loading import load
from pipeline.overriding import override
from pipeline.search_space import SearchedSpace, at_horizon, searched_space, settings_of
from pipeline.sections.recipe import Recipe
from pipeline.sections.search import Dimension, SearchConfig

NET, OTHER = "resnet18", "mobilenetv3_small_050"
OPTIMIZER = Dimension(sets="recipe.optimizer", choices=("adamw", "sgd"))
RATE = Dimension(sets="recipe.lr", bounds="range_test")
DECAY = Dimension(sets="recipe.weight_decay", low=1e-5, high=0.1, log=True)
BATCH = Dimension(sets="recipe.batch_size", choices=(16, 64))
BACKBONE = Dimension(sets="model.backbone", choices=(NET, OTHER))


def bounds(lower: float, suggested: float, upper: float) -> SimpleNamespace:
    return SimpleNamespace(lower=lower, upper=upper, suggested=suggested)


FOUND = {
    (NET, "adamw"): bounds(1e-5, 3e-4, 1e-3),
    (NET, "sgd"): bounds(1e-3, 2e-2, 1e-1),
    (NET, "lamb"): bounds(1e-4, 2e-3, 1e-2),
    (OTHER, "adamw"): bounds(1e-4, 5e-4, 1e-2),
    (OTHER, "sgd"): bounds(1e-2, 7e-2, 1.0),
}


@pytest.fixture
def configured() -> Recipe:
    config = load("smoke", {"recipe.batch_size": 16})
    base = Recipe(model=config.model, recipe=config.recipe)
    return override(base, {"model.backbone": NET, "recipe.optimizer": "adamw"})


def searched(recipe: Recipe, *dimensions: Dimension, found=FOUND) -> SearchedSpace:
    return searched_space(recipe, SearchConfig(space=dimensions), found)


# --- a rate that the range test has seen diverge


@pytest.mark.parametrize(("rate", "warned"), [(3.9, 0), (4.0, 1), (1000.0, 1), ("auto", 0)])
def test_a_configured_rate_that_diverged_in_the_range_test_is_warned_of(configured, monkeypatch, rate, warned) -> None:
    monkeypatch.setattr(recipes, "describe_rates", lambda bounds: "the range test found that 4 diverges")
    found = {**FOUND, (NET, "adamw"): SimpleNamespace(lower=0.1, upper=1.0, suggested=0.5, lr_div=4.0)}
    recipe = override(configured, {"recipe.lr": rate})
    warnings = recipes.rate_warnings(searched(recipe, DECAY, found=found), SearchConfig(space=(DECAY,)), found)
    said = f"recipe.lr={rate if warned else 0:g}: the range test found that 4 diverges; lower it, or set it to auto"
    assert warnings == [said] * warned


def test_a_searched_interval_all_of_which_diverged_is_warned_of(configured) -> None:
    found = {(NET, "adamw"): SimpleNamespace(lr_div=4.0, optimizer="adamw", abstained=False, suggested=0.5, upper=1.0)}
    rates = Dimension(sets="recipe.lr", low=5.0, high=9.0, log=True)
    default = SimpleNamespace(default=override(configured, {"recipe.lr": 0.1}))
    assert recipes.rate_warnings(default, SearchConfig(space=(rates,)), found) == [
        "search.space.0: recipe.lr from 5: the range test of adamw found that 4 diverges and suggests 0.5, at most 1; "
        "lower it, or set it to auto"
    ]


# --- a rate that the range test gives


def test_an_open_rate_is_the_suggestion_for_the_trials_own_optimizer_and_backbone(configured) -> None:
    space = searched(configured, OPTIMIZER, BACKBONE).space
    assert space.overrides({"recipe.optimizer": 1, "model.backbone": 0})["recipe.lr"] == pytest.approx(2e-2)
    assert space.overrides({"recipe.optimizer": 0, "model.backbone": 0})["recipe.lr"] == pytest.approx(3e-4)
    assert space.overrides({"recipe.optimizer": 1, "model.backbone": 1})["recipe.lr"] == pytest.approx(7e-2)


def test_a_rate_that_the_recipe_gives_stays_whatever_the_optimizer(configured) -> None:
    fixed = override(configured, {"recipe.lr": 0.05})
    found = searched(fixed, OPTIMIZER)
    assert found.default.recipe.lr == 0.05
    assert found.space.overrides({"recipe.optimizer": 1}) == {"recipe.optimizer": "sgd"}


@pytest.mark.parametrize("own", ["auto", 0.05])
def test_a_rate_may_be_left_open_as_one_of_the_choices(configured, own) -> None:
    recipe = override(configured, {"recipe.lr": own})
    space = searched(recipe, OPTIMIZER, Dimension(sets="recipe.lr", choices=("auto", 0.5))).space
    assert space.overrides({"recipe.optimizer": 1, "recipe.lr": 0})["recipe.lr"] == pytest.approx(2e-2)
    assert space.overrides({"recipe.optimizer": 0, "recipe.lr": 0})["recipe.lr"] == pytest.approx(3e-4)
    assert space.overrides({"recipe.optimizer": 1, "recipe.lr": 1})["recipe.lr"] == 0.5
    if own == 0.05:
        assert "recipe.lr" not in space.overrides({"recipe.optimizer": 1})


def test_the_defaults_get_the_suggestion_for_their_own_backbone(configured) -> None:
    assert searched(configured, RATE).default.recipe.lr == 3e-4
    other = override(configured, {"model.backbone": OTHER, "recipe.optimizer": "sgd"})
    assert searched(other, RATE).default.recipe.lr == 7e-2
    assert searched(other, RATE).space.defaults["recipe.lr"] == 7e-2


@pytest.mark.parametrize(("optimizer", "factor"), [("sgd", 4.0), ("adamw", 2.0), ("lamb", 2.0)])
def test_an_open_rate_follows_the_batch_size(configured, optimizer: str, factor: float) -> None:
    """Four times the recipe's 16: in proportion for sgd, by the root for what is adaptive."""
    own = override(configured, {"recipe.optimizer": optimizer})
    space = searched(own, BATCH).space
    suggested = FOUND[NET, optimizer].suggested
    assert space.overrides({"recipe.batch_size": 1})["recipe.lr"] == pytest.approx(factor * suggested)
    assert space.overrides({"recipe.batch_size": 0})["recipe.lr"] == pytest.approx(suggested)


def test_a_searched_rate_lies_within_the_bounds_of_the_trials_own_optimizer_backbone_and_batch_size(configured) -> None:
    space = searched(configured, RATE, OPTIMIZER, BACKBONE, BATCH).space
    for number, (backbone, optimizer, batch, low, high) in enumerate([
        (0, 0, 0, 1e-5, 1e-3), (0, 1, 0, 1e-3, 1e-1), (1, 0, 0, 1e-4, 1e-2), (1, 1, 0, 1e-2, 1.0),
        (0, 0, 1, 2e-5, 2e-3), (0, 1, 1, 4e-3, 4e-1),
    ]):  # fmt: skip
        at = {"model.backbone": backbone, "recipe.optimizer": optimizer, "recipe.batch_size": batch}
        ends = [space.overrides({**at, "recipe.lr": u})["recipe.lr"] for u in (0.0, 1.0)]
        assert ends == pytest.approx([low, high]), number


# --- the range, and what is said


def test_the_range_is_widened_where_weight_decay_is_searched_and_this_is_said(configured) -> None:
    both = searched(configured, RATE, DECAY)
    assert both.rates[NET, "adamw"] == pytest.approx((1e-5 / 1.5, 1.5e-3))
    assert [note for note in both.notes if "factor of 1.5" in note]
    alone = searched(configured, RATE)
    assert alone.rates[NET, "adamw"] == (1e-5, 1e-3)
    assert alone.notes == ()


def test_without_a_rate_of_the_range_test_there_is_no_range_and_nothing_is_said(configured) -> None:
    found = searched(override(configured, {"recipe.lr": 0.1}), DECAY, BATCH)
    assert (found.rates, found.notes) == ({}, ())


@pytest.mark.parametrize(
    ("own", "dimensions", "said"),
    [
        ("auto", (BATCH,), True),
        ("auto", (BATCH, RATE), True),
        (0.1, (BATCH, RATE), True),
        (0.1, (BATCH,), False),
        ("auto", (BATCH, Dimension(sets="recipe.lr", low=0.1, high=1.0)), False),
        ("auto", (RATE,), False),
    ],
)
def test_that_rates_follow_the_batch_size_is_said_where_they_do(configured, own, dimensions, said: bool) -> None:
    notes = searched(override(configured, {"recipe.lr": own}), *dimensions).notes
    assert any("batch size" in note for note in notes) is said


# --- the space


def test_the_configured_dimensions_become_those_of_the_space(configured) -> None:
    gamma = Dimension(sets="recipe.focal_gamma", low=1.0, high=3.0, when={"recipe.loss": "focal"})
    loss = Dimension(sets="recipe.loss", choices=("cross_entropy", "focal"))
    space = searched(configured, RATE, DECAY, loss, gamma).space
    rates = {key: (one.lower / 1.5, one.upper * 1.5) for key, one in FOUND.items()}
    assert space.dimensions == (
        RateInterval("recipe.lr", rates, 16),
        Interval("recipe.weight_decay", 1e-5, 0.1, log=True),
        Choice("recipe.loss", ("cross_entropy", "focal")),
        Interval("recipe.focal_gamma", 1.0, 3.0, log=False, when=(Condition("recipe.loss", ("focal",)),)),
    )


def test_choices_and_conditions_have_the_type_of_their_key(configured) -> None:
    """YAML reads 1e-3 as a text, and the tables of a search hold numbers."""
    decay = Dimension(sets="recipe.weight_decay", choices=("1e-3", "0.1"))
    clip = Dimension(sets="recipe.clip_grad_norm", choices=("null", 1), when={"recipe.weight_decay": "1e-3"})
    parsed = [with_parsed_values(load("smoke"), dimension) for dimension in (decay, clip)]
    space = searched(configured, *parsed).space
    assert [dimension.values for dimension in space.dimensions] == [(0.001, 0.1), (None, 1.0)]
    assert space.overrides({"recipe.weight_decay": 0, "recipe.clip_grad_norm": 1}) == {
        "recipe.weight_decay": 0.001,
        "recipe.clip_grad_norm": 1.0,
        "recipe.lr": pytest.approx(3e-4),
    }


def test_the_defaults_have_a_place_in_the_space_if_it_holds_them(configured) -> None:
    space = searched(configured, OPTIMIZER, RATE).space
    point = space.point({})
    assert point is not None
    assert point["recipe.optimizer"] == 0
    assert space.overrides(point)["recipe.lr"] == pytest.approx(3e-4)
    assert searched(configured, Dimension(sets="recipe.batch_size", choices=(64, 128))).space.point({}) is None


def test_backbones_that_embed_dropped_are_not_searched(configured) -> None:
    three = BACKBONE.model_copy(update={"choices": (NET, "dropped", OTHER)})
    space = searched(configured, three, OPTIMIZER).space
    assert space.dimensions[0] == Choice("model.backbone", (NET, OTHER))


def test_where_one_backbone_is_left_it_is_not_searched_and_this_is_said(configured) -> None:
    found = searched(configured, BACKBONE.model_copy(update={"choices": (NET, "dropped")}), OPTIMIZER)
    assert [dimension.sets for dimension in found.space.dimensions] == ["recipe.optimizer"]
    assert found.notes == ("The stage embed left one backbone, so that the backbone is not searched.",)


def test_the_settings_of_a_recipe_are_all_of_it_with_dotted_keys(configured) -> None:
    settings = settings_of(override(configured, {"recipe.lr": 0.5, "model.drop_rate": 0.1}))
    assert (settings["recipe.lr"], settings["model.drop_rate"], settings["recipe.batch_size"]) == (0.5, 0.1, 16)
    assert set(settings) == {f"recipe.{key}" for key in type(configured.recipe).model_fields} | {
        f"model.{key}" for key in type(configured.model).model_fields
    }


# --- the horizon


@pytest.mark.parametrize(
    ("trial", "ema_decay"),
    [({}, 0.8), ({"recipe.optimizer": "sgd"}, 0.8), ({"recipe.optimizer": "schedulefree_adamw"}, None)],
)
def test_by_default_trials_run_at_a_constant_rate_on_averages_of_one_kind(configured, trial: dict, ema_decay) -> None:
    recipe = at_horizon(configured, trial, SearchConfig(ema_decay=0.8)).recipe
    assert (recipe.schedule_name, recipe.ema_decay) == ("fixed", ema_decay)


def test_what_is_cooled_down_is_not_averaged_besides(configured) -> None:
    recipe = at_horizon(override(configured, {"recipe.ema_decay": 0.99}), {}, SearchConfig(horizon="wsd")).recipe
    assert (recipe.schedule_name, recipe.ema_decay) == ("fixed", None)


def test_under_the_fixed_horizon_the_recipe_keeps_its_own_schedule_and_average(configured) -> None:
    own = override(configured, {"recipe.ema_decay": 0.99, "recipe.schedule": "one_cycle"})
    fixed = SearchConfig(horizon="fixed", grace_epochs=3)
    assert at_horizon(own, {}, fixed) == own
    assert at_horizon(own, {"recipe.schedule": "step"}, fixed).recipe.schedule == "step"


def test_a_schedule_free_default_averages_by_itself_unless_the_trial_has_another_optimizer(configured) -> None:
    default = override(configured, {"recipe.optimizer": "schedulefree_sgd"})
    assert at_horizon(default, {}, SearchConfig()).recipe.ema_decay is None
    assert at_horizon(default, {"recipe.optimizer": "adamw"}, SearchConfig()).recipe.ema_decay == 0.9


def test_the_schedule_of_the_defaults_does_not_hinder_a_schedule_free_trial(configured) -> None:
    default = override(configured, {"recipe.schedule": "cosine", "recipe.ema_decay": 0.99})
    recipe = at_horizon(default, {"recipe.optimizer": "schedulefree_sgd"}, SearchConfig()).recipe
    assert (recipe.schedule_name, recipe.ema_decay) == ("fixed", None)
