"""What came of a search: tables, the gain over the defaults, what is said if nothing learned, and the best as YAML."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from components.errors import InputError
from components.search.trial import Suggestion, TrialRecord
from pipeline.loading import load
from pipeline.overriding import override
from pipeline.search.results import (
    best_configuration,
    gain_interval,
    gain_over_defaults,
    raise_if_in_vain,
    score_table,
    trial_table,
)
from pipeline.sections.recipe import ModelConfig, Recipe, RecipeConfig
from pipeline.training.build import TrainingData
from pipeline.training.checkpoints import LOGITS_FILE

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


@pytest.fixture
def data() -> TrainingData:
    """Eight validation images of four parts, and two for training."""
    labels = ["good", "good", "pit", "pit"] * 2 + ["good", "pit"]
    manifest = pd.DataFrame(
        {
            "split": ["val"] * 8 + ["train"] * 2,
            "pack_index": range(10),
            "label": labels,
            "group": ["a", "a", "b", "b", "c", "c", "d", "d", "e", "f"],
        }
    )
    return TrainingData(manifest, np.zeros((10, 8, 8, 3), dtype=np.uint8), ("good", "pit"), ("good",))


def with_logits(one: TrialRecord, folder: Path, defect: list[float] | None, *, epoch: int = 3) -> TrialRecord:
    """The trial with a checkpoint that has the logit of a defect for each validation image."""
    place = folder / f"trial-{one.number}"
    place.mkdir()
    if defect is not None:
        np.save(place / LOGITS_FILE, np.stack([np.zeros(8), defect], axis=1).astype(np.float32))
    one.checkpoint, one.checkpoint_epoch = str(place), epoch
    return one


RIGHT = [-2.0, -1.0, 1.0, 2.0, -2.5, -1.5, 1.5, 2.5]
#: One good looks worse than three of the four defectives, and so 3 of 16 pairs are in the wrong order.
WORSE = [1.8, -1.0, 1.0, 2.0, -2.5, -1.5, 1.5, 1.6]


def test_the_gain_has_an_interval_over_the_images(data, tmp_path) -> None:
    defaults, best = with_logits(record(0, []), tmp_path, WORSE), with_logits(record(1, []), tmp_path, RIGHT)
    found = gain_interval(best, defaults, DEFAULT, data, seed=0)
    assert found.value == pytest.approx(3 / 16)
    assert 0 <= found.low < 3 / 16 < found.high <= 1
    assert gain_interval(best, defaults, DEFAULT, data, seed=0) == found


@pytest.mark.parametrize("case", ["itself", "another epoch", "a fold", "no checkpoint", "no logits"])
def test_where_the_two_were_not_scored_alike_there_is_no_interval(data, tmp_path, case: str) -> None:
    defaults = with_logits(record(0, []), tmp_path, WORSE)
    best = with_logits(record(1, [], fold=0 if case == "a fold" else None), tmp_path,
                       None if case == "no logits" else RIGHT, epoch=1 if case == "another epoch" else 3)  # fmt: skip
    if case == "no checkpoint":
        best.checkpoint = None
    assert gain_interval(defaults if case == "itself" else best, defaults, DEFAULT, data, seed=0) is None


# --- in vain


def failure_of(records: list[TrialRecord], *, failure: str = "", budget: str = "") -> str:
    with pytest.raises((RuntimeError, InputError)) as caught:
        raise_if_in_vain(records, failure=failure, budget=budget)
    assert isinstance(caught.value, InputError) is str(caught.value).endswith(("search.space", "whichever is set"))
    return str(caught.value)


def test_a_search_in_which_something_learned_goes_on() -> None:
    records = [record(0, [], "failed"), record(1, [0.5], "stopped")]
    assert raise_if_in_vain(records, failure="", budget="y") is None


def test_a_search_in_which_too_many_failed_says_what_they_have_in_common_and_how_to_go_on() -> None:
    records = [record(0, [0.5], "completed"), *(record(number, [], "failed", message="no lens") for number in (1, 2))]
    assert failure_of(records, failure="2 of 3 trials failed, 2 of them with: no lens") == (
        "search: 2 of 3 trials failed, 2 of them with: no lens; remove the cause and give the same command, which goes "
        "on with the trials that are left, or raise search.failure_limit"
    )


def test_a_search_in_which_all_failed_says_why() -> None:
    failed = [record(number, [], "failed", message="no lens") for number in range(4)]
    assert failure_of(failed[:2]) == "search: all 2 trials failed, the first: no lens"
    assert "no lens" in failure_of(failed[:2], budget="the time budget of 1 minutes is spent")


def test_a_search_in_which_nothing_learned_is_said_with_the_remedy() -> None:
    failed, diverged = record(0, [], "failed", message="no lens"), record(1, [0.4], "diverged")
    assert failure_of([failed, diverged]) == (
        "search: none of the 2 trials learned (1 diverged); lower recipe.lr, or its bounds in search.space"
    )


def test_a_search_whose_budget_was_spent_before_any_score_asks_for_more_of_it() -> None:
    spent = "the time budget of 1 minutes is spent"
    assert failure_of([record(0, [], "stopped")], budget=spent) == (
        f"search: none of the 1 trials learned (0 diverged; {spent}); "
        "raise search.time_budget_minutes or search.gpu_hours, whichever is set"
    )
    assert "lower recipe.lr" in failure_of([record(0, [], "stopped"), record(1, [], "diverged")], budget=spent)


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
