"""Parallel coordinates: a line per trial through every axis, the named ones before all others."""

import numpy as np
import pandas as pd
import pytest
from matplotlib.collections import LineCollection

from components.report.figures_search_parallel import parallel_coordinates
from components.report.html import figure_png

SCALES = {
    "backbone": "choice", "optimizer": "choice", "lr": "log", "recipe.weight_decay": "log",
    "recipe.layer_decay": "choice", "recipe.momentum": "linear",
}  # fmt: skip


def drawn(trials: pd.DataFrame, scales: dict = SCALES, best: object = 0, default: object = 0):
    return parallel_coordinates(trials, scales, best_trial=best, default_trial=default, metric_name="AUROC")


def lines(figure) -> int:
    """Lines of trials in the first row; the strip of colours is a collection of its own."""
    found = [one for one in figure.axes[0].collections if isinstance(one, LineCollection)][1:]
    return sum(len(one.get_segments()) for one in found)


@pytest.mark.parametrize("count", [1, 2, 6, 40])
def test_every_trial_has_a_line(search_trials, count: int) -> None:
    assert lines(drawn(search_trials(count))) == count


def test_the_best_and_the_defaults_are_named_with_their_scores(search_trials, words) -> None:
    trials = search_trials(6).assign(status="completed", score=[0.8, 0.7, 0.9, 0.6, 0.5, np.nan])
    assert {"best\n0.9", "defaults\n0.8"} <= words(drawn(trials, best=2))
    assert "best: the defaults\n0.8" in words(drawn(trials, best=0))


def test_axes_are_named_and_what_is_missing_is_said(search_trials, words) -> None:
    trials = search_trials(40)
    said = words(drawn(trials))
    assert {"learning rate", "weight decay", "momentum", "AUROC", "adamw", "sgd", "not searched", "no score"} <= said
    assert not {"not searched", "no score"} & words(drawn(trials[trials["score"].notna()], {"lr": "log"}))


def test_more_keys_than_fit_go_on_in_a_second_row_with_the_score_again(search_trials, words) -> None:
    trials = search_trials(6)
    scales = {f"recipe.key_{i}": "linear" for i in range(12)}
    for name in scales:
        trials[name] = np.linspace(0, 1, 6)
    figure = drawn(trials, scales)
    assert len(figure.axes) == 2
    assert {f"key {i}" for i in range(12)} <= words(figure)
    assert [sum(text.get_text() == "AUROC" for text in axes.texts) for axes in figure.axes] == [1, 1]


@pytest.mark.parametrize("count", [1, 2, 6, 40, 500])
def test_no_text_lies_on_another(search_trials, overlaps, count: int) -> None:
    trials = search_trials(count, backbones=("tf_efficientnet_lite0", "a_backbone_of_a_very_long_name_indeed"))
    best = int(trials["score"].fillna(0).idxmax())
    assert overlaps(drawn(trials, best=best)) == []


def test_labels_of_equal_scores_do_not_meet(search_trials, overlaps) -> None:
    trials = search_trials(3).assign(status="completed", score=0.9)
    assert overlaps(drawn(trials, best=1)) == []


@pytest.mark.parametrize("best", [None, 0, 99])
def test_it_is_drawn_without_scores_too(search_trials, best: object) -> None:
    trials = search_trials(6).assign(status="failed", score=np.nan)
    assert figure_png(drawn(trials, best=best)).startswith(b"\x89PNG")


def test_nothing_to_draw_is_said(search_trials, words) -> None:
    assert "no trial has run" in words(drawn(search_trials(0)))
    assert "no key was searched" in words(drawn(search_trials(3), {}))
