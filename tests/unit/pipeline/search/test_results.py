"""What came of a search: tables, the gain over the defaults, what is said if nothing learned, and the best as YAML."""

from types import SimpleNamespace

import pandas as pd
import pytest
import yaml

from components.search.trial import Suggestion, TrialRecord
from pipeline.loading import load
from pipeline.overriding import override
from pipeline.search import results
from pipeline.search.results import (
    best_configuration,
    gain_over_defaults,
    score_table,
    trial_table,
)
from pipeline.search.run import SearchOutcome
from pipeline.search_space import SearchedSpace, searched_space
from pipeline.sections.recipe import ModelConfig, Recipe, RecipeConfig
from pipeline.sections.search import Dimension, SearchConfig

DEFAULT = Recipe(
    model=ModelConfig(backbone="resnet18"),
    recipe=RecipeConfig(optimizer="adamw", lr=3e-4, weight_decay=0.01, objective="auroc"),
)
KEYS = ("recipe.optimizer", "recipe.lr", "recipe.weight_decay", "recipe.focal_gamma")


def record(number: int, scores: list[float], status: str = "completed", **fields) -> TrialRecord:
    suggestion = {"point": {}, "overrides": {}, "epochs": 3}
    suggestion |= {key: fields.pop(key) for key in ("point", "overrides", "fold", "seed", "phase") if key in fields}
    return TrialRecord(
        **(
            {
                "number": number,
                "suggestion": Suggestion(**suggestion),
                "unstopped": number == 0,
                "status": status,
                "scores": dict(enumerate(scores, start=1)),
                "seconds_at": {epoch: 1.5 * epoch for epoch in range(1, len(scores) + 1)},
                "seconds": 1.5 * len(scores),
            }
            | fields
        )
    )


# --- tables


def test_a_list_is_one_text_in_the_table() -> None:
    both = [record(n, [0.5], overrides={"recipe.augment": kinds}) for n, kinds in ((1, ["blur", "noise"]), (2, []))]
    table = trial_table(DEFAULT, both, ["recipe.augment"], gpus=0)
    assert table["recipe.augment"].tolist() == ["blur, noise", "none"]


def test_a_trial_is_a_row_with_its_settings() -> None:
    inside = {"recipe.optimizer": 0, "recipe.lr": 0.5, "recipe.weight_decay": 0.75}
    sgd = {"recipe.optimizer": "sgd", "recipe.lr": 0.1, "recipe.weight_decay": 0.02}
    records = [
        record(0, [0.5, 0.6, 0.7], point=inside, phase="defaults"),
        record(1, [0.5], "stopped", overrides=sgd, point=inside, phase="random"),
        record(2, [0.9], "diverged", overrides={"recipe.lr": 0.2, "recipe.focal_gamma": 3.0}, seed=5),
        record(3, [], "failed", overrides={"model.backbone": "resnet34"}, fold=1),
    ]
    table = trial_table(DEFAULT, records, KEYS, gpus=0.5)
    assert table["trial"].tolist() == [0, 1, 2, 3]
    assert table["status"].tolist() == ["completed", "stopped", "diverged", "failed"]
    assert table["score"].tolist() == pytest.approx([0.7, 0.5, float("nan"), float("nan")], nan_ok=True)
    assert table["epochs"].tolist() == [3, 1, 1, 0]
    assert table["seconds"].tolist() == [4.5, 1.5, 1.5, 0.0]
    assert table["gpu_seconds"].tolist() == [2.25, 0.75, 0.75, 0.0]
    assert table["unstopped"].tolist() == [True, False, False, False]
    assert table["backbone"].tolist() == ["resnet18"] * 3 + ["resnet34"]
    assert table["optimizer"].tolist() == ["adamw", "sgd", "adamw", "adamw"]
    assert table["lr"].tolist() == [3e-4, 0.1, 0.2, 3e-4]
    assert table["seed"].tolist() == [0, 0, 5, 0]
    assert [None if pd.isna(fold) else fold for fold in table["fold"]] == [None, None, None, 1]
    # the defaults have all of theirs, a trial only what was drawn for it
    assert table["recipe.weight_decay"].tolist() == pytest.approx([0.01, 0.02, float("nan"), float("nan")], nan_ok=True)
    assert table["recipe.focal_gamma"].tolist()[2] == 3.0
    assert "recipe.lr" not in table
    assert "latency_ms" not in table


def test_the_defaults_on_a_fold_have_their_settings_as_well() -> None:
    table = trial_table(DEFAULT, [record(0, [0.5]), record(7, [0.5], fold=0)], KEYS, gpus=0)
    assert table["recipe.weight_decay"].tolist() == [0.01, 0.01]


def test_the_latency_of_a_model_is_what_its_trial_measured() -> None:
    measured = record(1, [0.5, 0.6], metrics={1: {"lr": 0.1}, 2: {"latency_ms": 4.5}})
    table = trial_table(DEFAULT, [record(0, [0.5]), measured], KEYS, gpus=0)
    assert table["latency_ms"].tolist() == pytest.approx([float("nan"), 4.5], nan_ok=True)


def test_the_tables_can_be_written(tmp_path) -> None:
    records = [record(0, [0.5]), record(1, [], "failed", overrides={"recipe.lr": 0.1}, fold=2)]
    for table in (trial_table(DEFAULT, records, KEYS, gpus=0), score_table(records), score_table([])):
        table.to_parquet(tmp_path / "table.parquet")
        assert len(pd.read_parquet(tmp_path / "table.parquet")) == len(table)
    assert trial_table(DEFAULT, [], KEYS, gpus=0).empty


def test_a_score_is_a_row_with_the_seconds_up_to_there() -> None:
    table = score_table([record(0, [0.5, 0.6]), record(1, []), record(2, [0.7], "diverged")])
    assert table.to_dict("list") == {
        "trial": [0, 0, 2], "epoch": [1, 2, 1], "score": [0.5, 0.6, 0.7], "seconds": [1.5, 3.0, 1.5],
    }  # fmt: skip


# --- the gain


def test_best_and_defaults_are_compared_after_the_last_epoch_that_both_reached() -> None:
    defaults, best = record(0, [0.6], "stopped"), record(1, [0.65, 0.8, 0.9])
    assert gain_over_defaults(best, [defaults, best]) == {
        "score": 0.65,
        "score_of_defaults": 0.6,
        "compared_at_epoch": 1,
        "gain": pytest.approx(0.05),
    }
    assert gain_over_defaults(defaults, [defaults])["gain"] == 0.0


def test_an_epoch_without_a_score_is_not_one_that_both_reached() -> None:
    defaults, best = record(0, [0.6, 0.7]), record(1, [])
    best.scores = {1: 0.65, 3: 0.9}
    assert gain_over_defaults(best, [defaults, best])["compared_at_epoch"] == 1


def test_without_a_score_of_the_defaults_there_is_no_gain() -> None:
    diverged, best = record(0, [0.7], "diverged"), record(1, [0.65, 0.8, 0.9])
    gain = gain_over_defaults(best, [diverged, best])
    assert (gain["score"], gain["score_of_defaults"], gain["gain"]) == (0.9, None, None)
    assert gain_over_defaults(None, [diverged])["gain"] is None
    assert gain_over_defaults(None, []) == {
        "score": None, "score_of_defaults": None, "compared_at_epoch": None, "gain": None,
    }  # fmt: skip


# --- the best as a configuration


@pytest.mark.parametrize("name", ["smoke", "demo", "default"])
def test_the_best_is_a_configuration_that_loads_to_the_same_recipe_and_data(name: str, tmp_path) -> None:
    config = load(name, {"data.metadata_columns": "[lot]", "recipe.image_size": "null"})
    best = override(
        Recipe(model=config.model, recipe=config.recipe),
        {"recipe.lr": 0.0123, "recipe.optimizer": "sgd", "recipe.augment": ["blur", "noise"], "model.drop_rate": 0.1},
    )
    path = tmp_path / "best.yaml"
    path.write_text(best_configuration(config.data.model_dump(mode="json"), best, seed=7), encoding="utf-8")
    loaded = load(path)
    assert Recipe(model=loaded.model, recipe=loaded.recipe) == best
    assert loaded.data == config.data
    assert (loaded.seed, loaded.search.num_trials) == (7, 0)
    assert set(yaml.safe_load(path.read_text())) == {"seed", "data", "model", "recipe", "search"}


def test_the_best_of_a_problem_without_a_good_class_says_which_gate_to_add(tmp_path) -> None:
    goodless = {
        "data.good_labels": "[]",
        "recipe.objective": "balanced_accuracy",
        "promote.gates.min_balanced_accuracy": "0.8",
    }
    config = load("smoke", goodless)
    best = Recipe(model=config.model, recipe=config.recipe)
    path = tmp_path / "best.yaml"
    path.write_text(best_configuration(config.data.model_dump(mode="json"), best, seed=7), encoding="utf-8")
    assert "promote.gates.min_balanced_accuracy alone: add a bound" in path.read_text(encoding="utf-8")
    assert load(path, {"promote.gates.min_balanced_accuracy": "0.8"}).data == config.data


# --- what is handed on


RATE = Dimension(sets="recipe.lr", bounds="range_test")


def found(*optimizers: str, backbones: tuple[str, ...] = ("resnet18",)) -> dict:
    bounds = SimpleNamespace(lower=1e-4, suggested=1e-2, upper=1.0)
    return {(backbone, optimizer): bounds for backbone in backbones for optimizer in optimizers}


def searched(search: SearchConfig, optimizer: str = "adamw", **keys) -> SearchedSpace:
    recipe = Recipe(
        model=ModelConfig(), recipe=RecipeConfig(optimizer=optimizer, batch_size=32, precision="bfloat16", **keys)
    )
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
    defaults = TrialRecord(
        number=0, suggestion=trial(0, {}).suggestion, unstopped=True, status="completed", scores={1: 0.5, 3: 0.7}
    )
    finished = SearchOutcome(records=[defaults], rungs=(1, 3), ended_early=ended)
    return results._outcome(searched(search, optimizer, **keys), search, best, finished)


HANDED_ON = {"recipe.lr": 1e-2, "recipe.batch_size": 32, "recipe.precision": "bfloat16"}


def test_the_best_sets_what_its_trial_did_and_the_rate_of_the_defaults_where_it_did_not() -> None:
    search = SearchConfig(space=(RATE,))
    best = outcome(trial(2, {"recipe.weight_decay": 0.1}), search)
    assert best["overrides"] == {**HANDED_ON, "recipe.weight_decay": 0.1}
    assert outcome(trial(2, {"recipe.lr": 0.5}), search)["overrides"] == {**HANDED_ON, "recipe.lr": 0.5}
    assert (best["trial"], best["last_score"]) == (2, 0.8)
    assert best["defaults"] == HANDED_ON


def test_without_a_best_the_defaults_are_handed_on() -> None:
    nothing = outcome(None, SearchConfig(space=(RATE,)))
    assert (nothing["overrides"], nothing["trial"], nothing["last_score"]) == (HANDED_ON, None, None)


def test_a_winner_is_said_to_be_selected_and_the_defaults_are_not() -> None:
    assert outcome(trial(2, {}), SearchConfig(space=(RATE,)))["note"] == results.SELECTED
    assert outcome(trial(0, {}), SearchConfig(space=(RATE,)))["note"] == ""


def test_scores_at_the_first_rung_are_handed_on_where_winner_and_defaults_have_one() -> None:
    search, winner = SearchConfig(space=(RATE,)), trial(2, {})
    assert outcome(winner, search)["at_rung"] is None  # it has no score there
    winner.scores[1] = 0.6
    assert outcome(winner, search)["at_rung"] == {"epoch": 1, "winner": 0.6, "defaults": 0.5}
    assert outcome(trial(0, {}), search)["at_rung"] is None
    assert outcome(None, search)["at_rung"] is None


def test_a_search_that_ended_early_says_so() -> None:
    note = outcome(trial(0, {}), SearchConfig(space=(RATE,)), ended="the time budget of 5 minutes is spent")["note"]
    assert note == "The search ended early: the time budget of 5 minutes is spent."


def test_ranges_are_told_by_optimizer_and_by_backbone_where_there_are_several() -> None:
    search = SearchConfig(space=(RATE, Dimension(sets="model.backbone", choices=("resnet18", "resnet34"))))
    recipe = Recipe(model=ModelConfig(), recipe=RecipeConfig(batch_size=32))
    one = searched_space(recipe, search, found("adamw", "sgd"))
    both = searched_space(recipe, search, found("adamw", backbones=("resnet18", "resnet34")))
    assert results._labelled(one) == {"adamw": (1e-4, 1.0), "sgd": (1e-4, 1.0)}
    assert results._labelled(both) == {"resnet18 / adamw": (1e-4, 1.0), "resnet34 / adamw": (1e-4, 1.0)}
