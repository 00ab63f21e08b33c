"""From trainings to a ranking: what is averaged, what counts as noise, and where a method that diverged stands."""

import json
from types import SimpleNamespace

import pytest

from components.evaluation.methods import typical_lowest_loss
from pipeline.comparison.rates import RateChoice
from pipeline.comparison.results import (
    curves_table,
    rates_table,
    steps_to_target,
    summarise,
    trainings_table,
)
from pipeline.comparison.trainings import MethodResult, MethodTraining
from pipeline.reports.comparison import comparison_rows, conditions, console_table, noise_words, rate_notes


def trained(entry, seed, auroc, losses=(0.8, 0.4), *, diverged=False) -> MethodResult:
    history = [
        {"epoch": epoch, "step": 10 * epoch, "seconds": 2.0, "train_loss": 0.5, "val_loss": loss, "val_score": auroc,
         "accuracy": 0.75, "balanced_accuracy": 0.7, "sensitivity": 0.6, "specificity": 0.8, "auroc": auroc}
        for epoch, loss in enumerate(losses, start=1)
    ]  # fmt: skip
    recipe = SimpleNamespace(recipe=SimpleNamespace(lr=0.1))
    training = MethodTraining(phase="full", entry=entry, factor=1.0, seed=seed, epochs=2, recipe=recipe)
    history = history[:1] if diverged else history
    return MethodResult(training=training, diverged=diverged, history=history, rates=[0.1, 0.05])


def method(name, *, abstained=False):
    recipe = SimpleNamespace(recipe=SimpleNamespace(optimizer="sgd", schedule_name="cosine"))
    return SimpleNamespace(
        name=name, sets={"recipe.schedule": "cosine"}, recipe=recipe, suggested=0.1, abstained=abstained
    )


def choice(factor=1.0, edge=""):
    return RateChoice(factor=factor, edge=edge, scores={1.0: 0.9})


def summary(results, names, *, target=None, choices=None):
    choices = {name: choice() for name in names} | (choices or {})
    return summarise([method(name) for name in names], choices, results, target_val_loss=target)


def by_name(found):
    return {entry["name"]: entry for entry in found["entries"]}


def test_methods_are_sorted_by_the_mean_over_their_seeds_at_the_end() -> None:
    results = [trained("a", 1, 0.7), trained("a", 2, 0.8), trained("b", 1, 0.9), trained("b", 2, 0.86)]
    found = summary(results, ["a", "b"])
    assert [entry["name"] for entry in found["entries"]] == ["b", "a"]
    assert (found["best"], found["measure"], found["seeds"]) == ("b", "auroc", [1, 2])
    assert by_name(found)["a"]["metrics"]["auroc"]["mean"] == pytest.approx(0.75)
    assert by_name(found)["a"]["gap_to_best"]["mean"] == pytest.approx((0.7 - 0.9 + 0.8 - 0.86) / 2)
    json.dumps(found, allow_nan=False)


def test_a_method_is_within_the_noise_where_the_paired_interval_reaches_zero() -> None:
    best = [trained("best", seed, auroc) for seed, auroc in ((1, 0.90), (2, 0.80), (3, 0.70))]
    # 0.02 below on every seed: beyond the noise, though the spread over seeds is five times as large.
    behind = [trained("behind", seed, auroc) for seed, auroc in ((1, 0.88), (2, 0.779), (3, 0.68))]
    near = [trained("near", seed, auroc) for seed, auroc in ((1, 0.92), (2, 0.75), (3, 0.70))]
    found = by_name(summary([*best, *behind, *near], ["best", "behind", "near"]))
    assert {name: entry["within_noise"] for name, entry in found.items()} == {
        "best": True,
        "behind": False,
        "near": True,
    }


def test_of_one_seed_nothing_is_said_of_the_noise() -> None:
    found = summary([trained("a", 1, 0.7), trained("b", 1, 0.9)], ["a", "b"])
    assert by_name(found)["a"]["within_noise"] is None
    assert "with one seed nothing can be said" in noise_words(found)


def test_a_method_of_which_a_training_diverged_stands_behind_all_others() -> None:
    results = [trained("lucky", 1, 0.99), trained("lucky", 2, 0.0, diverged=True)]
    results += [trained("steady", seed, 0.6) for seed in (1, 2)]
    found = summary(results, ["lucky", "steady"])
    assert found["best"] == "steady"
    lucky = by_name(found)["lucky"]
    assert (lucky["diverged"], lucky["within_noise"], lucky["metrics"]["auroc"]["count"]) == (1, False, 1)
    assert any("lucky: 1 of 2 trainings diverged" in note for note in rate_notes(found))


def test_a_method_without_a_rate_fails_alone() -> None:
    found = summary([trained("a", 1, 0.7)], ["lost", "a"], choices={"lost": choice(None)})
    assert found["best"] == "a"
    lost = by_name(found)["lost"]
    assert (lost["failed"], lost["lr"], lost["metrics"]["auroc"]["mean"]) == (True, None, None)
    assert any(note.startswith("lost: training diverged at every rate") for note in rate_notes(found))
    assert comparison_rows(found)[-1]["rate"] == "all diverged"


def test_where_everything_diverged_there_is_no_best() -> None:
    found = summary([], ["a"], choices={"a": choice(None)})
    assert found["best"] is None
    assert found["target_val_loss"] is None
    assert noise_words(found) == "No method was measured to its end."
    json.dumps(found, allow_nan=False)


def test_without_a_good_class_methods_are_ranked_by_balanced_accuracy() -> None:
    plain = [trained("a", 1, 0.7), trained("b", 1, 0.9)]
    for result in plain:
        for epoch in result.history:
            for name in ("auroc", "sensitivity", "specificity"):
                del epoch[name]
    found = summary(plain, ["a", "b"])
    assert found["measure"] == "balanced_accuracy"
    assert list(comparison_rows(found)[0])[1:4] == ["balanced accuracy", "Δ to the best", "accuracy"]


def test_the_target_is_the_median_of_what_the_methods_reach_unless_it_is_given() -> None:
    results = [
        trained("a", 1, 0.7, (0.9, 0.2)),
        trained("a", 2, 0.7, (0.4, 0.9)),  # lowest: 0.2 and 0.4
        trained("b", 1, 0.7, (0.8, 0.5)),
        trained("c", 1, 0.7, (0.9, 0.7)),
    ]
    assert typical_lowest_loss(curves_table(results)) == pytest.approx(0.5)
    assert typical_lowest_loss(curves_table([])) is None
    found = summary(results, list("abcd"), target=0.45)
    assert (found["target_val_loss"], found["target_given"]) == (0.45, True)


def test_the_steps_to_the_target_are_read_off_the_line_between_two_epochs() -> None:
    # 0.8 at step 10; 0.4 at step 20; 0.5 is three quarters of the way
    assert steps_to_target(trained("a", 1, 0.7), 0.5) == pytest.approx(17.5)
    assert steps_to_target(trained("a", 1, 0.7), 0.1) is None
    assert steps_to_target(trained("a", 1, 0.7), None) is None
    found = summary([trained("a", 1, 0.7), trained("a", 2, 0.7, (0.9, 0.8))], ["a"], target=0.5)
    assert by_name(found)["a"]["steps_to_target"] == {"reached": 1, "count": 2, "mean": 17.5}
    assert comparison_rows(found)[0]["steps to target"] == "18 (1 of 2)"


def test_tables_have_a_row_per_training_per_epoch_and_per_step() -> None:
    results = [trained("a", 1, 0.7), trained("a", 2, 0.0, diverged=True)]
    trainings = trainings_table(results, target=0.5)
    assert trainings["diverged"].tolist() == [False, True]
    assert trainings["auroc"].isna().tolist() == [False, True]
    assert curves_table(results).groupby("seed")["epoch"].apply(list).to_dict() == {1: [1, 2], 2: [1]}
    assert rates_table(results)["step"].tolist() == [1, 2, 1, 2]


def test_the_table_has_a_row_per_method_and_the_conditions_say_where_it_was_measured() -> None:
    found = summary(
        [trained("a", s, 0.7 + 0.02 * s) for s in (1, 2)] + [trained("b", s, 0.9) for s in (1, 2)], ["a", "b"]
    )
    first, second = (list(row.values())[:3] for row in comparison_rows(found))
    assert first == ["b", "0.900 ± 0.000", "–"]
    # sd of 0.72 and 0.74 is 0.01414; t(0.975, 1) = 12.706; ± 12.706 · 0.01414 / √2 = 0.127
    assert second == ["a", "0.730 ± 0.127", "−0.170 ± 0.127"]
    assert "The test split was not read." in conditions(found)


def test_rates_at_an_end_and_defaults_are_said() -> None:
    found = summarise(
        [method("a", abstained=True), method("b")],
        {"a": choice(3.0, "highest"), "b": choice(0.3, "lowest")},
        [trained("a", 1, 0.7), trained("b", 1, 0.7)],
        target_val_loss=None,
    )
    notes = " ".join(rate_notes(found))
    assert "At the highest rate that was tried: a." in notes
    assert "At the lowest rate that was tried: b." in notes
    assert "optimizer's default was used: a." in notes


def test_a_narrow_terminal_gets_fewer_columns() -> None:
    found = summary([trained("a", 1, 0.7)], ["a"])
    wide, narrow = (console_table(found, width=width) for width in (200, 80))
    assert len(wide.columns) == 9
    assert [column.header for column in narrow.columns] == [
        "method", "AUROC", "Δ to the best", "rate", "steps to target", "time"
    ]  # fmt: skip
