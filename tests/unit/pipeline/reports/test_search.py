"""What the search hands on as its best, in the settings that a training takes."""

from types import SimpleNamespace

from components.search.trial import Suggestion, TrialRecord
from pipeline.reports import search as report
from pipeline.search.recipes import SearchedSpace, searched_space
from pipeline.sections.recipe import ModelConfig, Recipe, RecipeConfig
from pipeline.sections.search import Dimension, SearchConfig

RATE = Dimension(sets="recipe.lr", bounds="range_test")
GAIN = {"score": 0.8, "score_of_defaults": 0.7, "compared_at_epoch": 3, "gain": 0.1, "gain_interval": None}


def found(*optimizers: str, backbones: tuple[str, ...] = ("resnet18",)) -> dict:
    bounds = SimpleNamespace(lower=1e-4, suggested=1e-2, upper=1.0)
    return {(backbone, optimizer): bounds for backbone in backbones for optimizer in optimizers}


def searched(search: SearchConfig, optimizer: str = "adamw", **keys) -> SearchedSpace:
    recipe = Recipe(model=ModelConfig(), recipe=RecipeConfig(optimizer=optimizer, **keys))
    return searched_space(recipe, search, found(optimizer))


def trial(number: int, overrides: dict) -> TrialRecord:
    return TrialRecord(
        number=number,
        suggestion=Suggestion(point={}, overrides=overrides, epochs=3),
        unstopped=False,
        status="completed",
        scores={3: 0.8},
    )


def outcome(
    best: TrialRecord | None, search: SearchConfig, optimizer: str = "adamw", *, ended: str = "", **keys
) -> dict:
    return report._outcome(searched(search, optimizer, **keys), search, best, GAIN, ended)


def test_the_best_sets_what_its_trial_did_and_the_rate_of_the_defaults_where_it_did_not() -> None:
    search = SearchConfig(space=(RATE,))
    best = outcome(trial(2, {"recipe.weight_decay": 0.1}), search)
    assert best["overrides"] == {"recipe.lr": 1e-2, "recipe.weight_decay": 0.1}
    assert outcome(trial(2, {"recipe.lr": 0.5}), search)["overrides"] == {"recipe.lr": 0.5}
    assert (best["trial"], best["last_score"]) == (2, 0.8)
    assert best["defaults"] == {"recipe.lr": 1e-2}


def test_without_a_best_the_defaults_are_handed_on() -> None:
    nothing = outcome(None, SearchConfig(space=(RATE,)))
    assert (nothing["overrides"], nothing["trial"], nothing["last_score"]) == ({"recipe.lr": 1e-2}, None, None)


def test_a_winner_is_unconfirmed_until_it_is_confirmed_and_the_defaults_need_no_confirmation() -> None:
    assert outcome(trial(2, {}), SearchConfig(space=(RATE,)))["note"] == report.TO_CONFIRM
    assert outcome(trial(2, {}), SearchConfig(space=(RATE,), confirm_seeds=0))["note"] == report.UNCONFIRMED
    assert outcome(trial(0, {}), SearchConfig(space=(RATE,)))["note"] == ""


def test_a_search_that_ended_early_says_so() -> None:
    note = outcome(trial(0, {}), SearchConfig(space=(RATE,)), ended="the time budget of 5 minutes is spent")["note"]
    assert note == "The search ended early: the time budget of 5 minutes is spent."


def test_ranges_are_told_by_optimizer_and_by_backbone_where_there_are_several() -> None:
    search = SearchConfig(space=(RATE, Dimension(sets="model.backbone", choices=("resnet18", "resnet34"))))
    recipe = Recipe(model=ModelConfig(), recipe=RecipeConfig())
    one = searched_space(recipe, search, found("adamw", "sgd"))
    both = searched_space(recipe, search, found("adamw", backbones=("resnet18", "resnet34")))
    assert report._labelled(one) == {"adamw": (1e-4, 1.0), "sgd": (1e-4, 1.0)}
    assert report._labelled(both) == {"resnet18 / adamw": (1e-4, 1.0), "resnet34 / adamw": (1e-4, 1.0)}
