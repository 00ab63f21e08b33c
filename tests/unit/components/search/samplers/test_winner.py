"""Samplers by name, and the trial that a search takes as its best."""

import typing

import pytest

from components.errors import InputError
from components.search.samplers import SAMPLERS, build_sampler, winner
from pipeline.sections.search import SamplerName

U = "recipe.lr"
BY_SCORE = ("random", "tpe", "hybrid", "hierarchical", "grid")


def test_every_sampler_of_the_configuration_exists(lab) -> None:
    assert set(SAMPLERS) == set(typing.get_args(SamplerName))
    for name in SAMPLERS:
        assert build_sampler(name, lab.settings(lab.space(lab.rate))).suggest(16, []) == "done"


def test_an_unknown_name_lists_the_known_ones(lab) -> None:
    with pytest.raises(InputError, match=r"search\.sampler=optuna: unknown; use one of random, grid, tpe, hybrid"):
        build_sampler("optuna", lab.settings(lab.space(lab.rate)))


@pytest.mark.parametrize("name", BY_SCORE)
def test_the_best_final_score_wins(lab, name: str) -> None:
    history = [lab.record(0, {U: 0.5}, 0.8), lab.record(1, {U: 0.1}, 0.9), lab.record(2, {U: 0.2}, 0.85)]
    assert winner(name, history) == 1


@pytest.mark.parametrize("name", BY_SCORE)
def test_a_stopped_trial_with_a_higher_score_does_not(lab, name: str) -> None:
    history = [lab.record(0, {U: 0.5}, 0.8), lab.record(1, {U: 0.1}, 0.99, status="stopped", at=3)]
    assert winner(name, history) == 0


@pytest.mark.parametrize("name", BY_SCORE)
def test_nor_a_shorter_one_that_was_completed(lab, name: str) -> None:
    assert winner(name, [lab.record(0, {U: 0.5}, 0.8), lab.record(1, {U: 0.1}, 0.99, epochs=3)]) == 0


@pytest.mark.parametrize("name", SAMPLERS)
def test_trials_that_diverged_or_failed_never_win(lab, name: str) -> None:
    history = [
        lab.record(0, {U: 0.5}, 0.8),
        lab.record(1, {U: 0.1}, 0.99, status="diverged"),
        lab.record(2, {U: 0.2}, 0.99, status="failed"),
    ]
    assert winner(name, history) == 0
    assert winner(name, history[1:]) is None
    assert winner(name, []) is None


@pytest.mark.parametrize("name", SAMPLERS)
def test_where_no_trial_of_full_length_was_completed_the_one_that_came_furthest_wins(lab, name: str) -> None:
    history = [
        lab.record(0, {U: 0.5}, 0.7, status="stopped", at=3),
        lab.record(1, {U: 0.1}, 0.9, status="stopped", at=1),
        lab.record(2, {U: 0.2}, 0.8, status="stopped", at=3),
    ]
    assert winner(name, history) == 2


@pytest.mark.parametrize("name", SAMPLERS)
def test_of_equal_scores_the_earlier_trial_wins_so_the_defaults_before_all(lab, name: str) -> None:
    assert winner(name, [lab.record(i, {U: i / 4}, 0.8) for i in range(3)]) == 0


@pytest.mark.parametrize("name", SAMPLERS)
def test_a_running_trial_has_not_won(lab, name: str) -> None:
    assert winner(name, [lab.record(0, {U: 0.5}, 0.9, status="running", at=8)]) is None
