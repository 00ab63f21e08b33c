"""Means over folds, and which point they choose."""

import pytest

from components.search.samplers import winner
from components.search.samplers.folds import best_over_folds, fold_means, fold_plan, fold_trials

A, B = {"recipe.lr": 0.25}, {"recipe.lr": 0.75}
KEY_A, KEY_B = (("recipe.lr", 0.25),), (("recipe.lr", 0.75),)


@pytest.fixture
def history(lab):
    """Two points and the defaults outside the space: A is ahead on the split, B over the folds."""
    return [
        lab.record(0, {}, 0.80),
        lab.record(1, A, 0.95),
        lab.record(2, B, 0.90),
        *(lab.record(3 + fold, A, score, fold=fold) for fold, score in enumerate((0.9, 0.7))),
        *(lab.record(5 + fold, B, score, fold=fold) for fold, score in enumerate((0.8, 0.85))),
        *(lab.record(7 + fold, {}, score, fold=fold) for fold, score in enumerate((0.7, 0.7))),
    ]


def test_the_mean_over_the_folds_decides_and_the_trial_on_the_split_is_named(history) -> None:
    assert fold_means(history) == pytest.approx({KEY_A: 0.8, KEY_B: 0.825, (): 0.7})
    assert best_over_folds(history) == 2
    assert winner("grid", history) == 2


@pytest.mark.parametrize("status", ["failed", "diverged"])
def test_a_point_that_falls_on_a_fold_has_no_mean(history, status: str) -> None:
    history[6].status = status
    assert fold_means(history) == pytest.approx({KEY_A: 0.8, (): 0.7})
    assert winner("grid", history) == 1


@pytest.mark.parametrize("status", ["stopped", "running"])
def test_a_validation_that_is_cut_short_compares_over_the_folds_that_it_finished(history, status: str) -> None:
    history[6].status = status
    assert fold_means(history) == pytest.approx({KEY_A: 0.9, KEY_B: 0.8, (): 0.7})


def test_a_validation_that_is_cut_short_before_the_defaults_decides_nothing(history) -> None:
    assert fold_means(history[:6]) == {}
    history[0].scores = {9: 0.99}
    assert winner("grid", history[:6]) == 0


def test_the_defaults_can_win(history) -> None:
    history[7].scores, history[8].scores = {9: 0.9}, {9: 0.9}
    assert winner("grid", history) == 0


def test_of_equal_means_the_earlier_trial_wins(history) -> None:
    for record in history[3:]:
        record.scores = {9: 0.5}
    assert winner("grid", history) == 0


def test_without_complete_folds_the_split_decides(history) -> None:
    for record in history[3:]:
        record.status = "failed"
    assert fold_means(history) == {}
    assert best_over_folds(history) is None
    assert winner("grid", history) == 1


def test_no_folds_have_no_means(history) -> None:
    assert fold_means(history[:3]) == {}
    assert best_over_folds(history[:3]) is None


def test_a_plan_is_as_long_as_was_counted(lab) -> None:
    best = [lab.record(i, {"recipe.lr": i / 8}, 0.9) for i in (3, 0, 2, 1)]
    plan = fold_plan(best, folds=4)
    assert len(plan) == fold_trials(4) == 12
    assert [suggestion.point["recipe.lr"] for suggestion in plan[:3]] == [3 / 8, 2 / 8, 0.0]
