"""Which recipes are tried first, and with what values."""

import pytest

from components.search.space import Choice, Condition, Interval, RateInterval, Space
from pipeline.search.portfolio import PHASE, PORTFOLIO, portfolio_recipe, portfolio_trials

DEFAULTS = {
    "model.backbone": "net",
    "recipe.optimizer": "adamw",
    "recipe.batch_size": 16,
    "recipe.lr": 3e-3,
    "recipe.weight_decay": 0.01,
    "recipe.layer_decay": 1.0,
    "recipe.augment_strength": 0.5,
}
#: Measured at a batch of 32.
RATES = {("net", "adamw"): (1e-4, 1e-1), ("net", "sgd"): (1e-3, 1.0)}
SUGGESTED = {("net", "adamw"): 3e-3, ("net", "sgd"): 0.04}
RATE = RateInterval("recipe.lr", RATES, 32)
OPTIMIZER = Choice("recipe.optimizer", ("adamw", "sgd"))
DECAY = Interval("recipe.weight_decay", 1e-5, 0.1, True)
LAYERS = Choice("recipe.layer_decay", (1.0, 0.9, 0.75))
AUGMENT = Interval("recipe.augment_strength", 0.0, 1.0, False)
ALL = (OPTIMIZER, RATE, DECAY, LAYERS, AUGMENT)


def changes(*dimensions, suggested=SUGGESTED, **defaults) -> dict[str, dict]:
    """By name what each recipe changes."""
    space = Space(dimensions, DEFAULTS | {f"recipe.{key}": value for key, value in defaults.items()})
    trials = portfolio_trials(space, suggested, batch_size=32, epochs=9)
    return {
        trial.phase.removeprefix(PHASE): {
            key: value for key, value in trial.overrides.items() if value != pytest.approx(space.defaults[key])
        }
        for trial in trials
    }


def test_of_the_whole_space_all_recipes_but_the_configured_optimizer_are_tried() -> None:
    assert changes(*ALL) == {
        "a third of the rate": {"recipe.lr": pytest.approx(1e-3)},
        "layer decay": {"recipe.layer_decay": 0.75},
        "weak augmentation": {"recipe.augment_strength": pytest.approx(0.2)},
        "three times the rate": {"recipe.lr": pytest.approx(9e-3)},
        "more weight decay": {"recipe.weight_decay": pytest.approx(0.05)},
        # Its own suggestion, at half of the batch.
        "sgd": {"recipe.optimizer": "sgd", "recipe.lr": pytest.approx(0.02), "recipe.weight_decay": 1e-4},
    }
    assert "adamw" in changes(*ALL, optimizer="sgd", lr=0.02)


def test_the_trials_have_a_place_in_the_space_and_the_full_length() -> None:
    space = Space(ALL, DEFAULTS)
    for trial in portfolio_trials(space, SUGGESTED, batch_size=32, epochs=9):
        assert trial.epochs == 9
        assert trial.point.keys() == {dimension.sets for dimension in ALL}
        assert space.overrides(trial.point) == pytest.approx(dict(trial.overrides))


@pytest.mark.parametrize("fixed", ALL, ids=lambda dimension: dimension.sets)
def test_what_is_not_searched_is_not_changed(fixed) -> None:
    left = changes(*(dimension for dimension in ALL if dimension is not fixed))
    assert left
    assert all(fixed.sets not in changed for changed in left.values())


def test_values_outside_of_the_space_and_the_configured_ones_are_left_out() -> None:
    assert changes(RATE, lr=2e-4).keys() == {"three times the rate"}
    assert changes(Choice("recipe.layer_decay", (1.0, 0.9))) == {}
    assert changes(LAYERS, layer_decay=0.75) == {}
    assert changes(AUGMENT, augment_strength=0.0) == {}


def test_an_optimizer_that_was_not_tested_is_not_tried() -> None:
    assert "sgd" not in changes(*ALL, suggested={("net", "adamw"): 3e-3})


def test_a_key_that_does_not_count_with_the_recipe_is_not_set() -> None:
    conditional = Interval("recipe.weight_decay", 1e-5, 0.1, True, (Condition("recipe.optimizer", ("adamw",)),))
    assert changes(OPTIMIZER, RATE, conditional)["sgd"].keys() == {"recipe.optimizer", "recipe.lr"}


def test_defaults_outside_of_the_space_leave_a_trial_without_a_place() -> None:
    space = Space((LAYERS, Choice("recipe.batch_size", (32, 64))), DEFAULTS)
    (trial,) = portfolio_trials(space, SUGGESTED, batch_size=32, epochs=9)
    assert (trial.point, trial.overrides) == ({}, {"recipe.layer_decay": 0.75})


def test_a_recipe_is_found_by_the_phase_of_its_trial() -> None:
    assert len({recipe.name for recipe in PORTFOLIO}) == len(PORTFOLIO)
    assert portfolio_recipe(f"{PHASE}sgd").sets["recipe.optimizer"] == "sgd"
    assert portfolio_recipe("tpe") is None
