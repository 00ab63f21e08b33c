"""Score against learning rate: labels of optimizers, or of backbones and optimizers, each with its bounds."""

import pandas as pd
import pytest
from matplotlib.colors import to_hex

from components.report import style
from components.report.figures_search import search_figure

ONE = {"adamw": (1e-4, 1e-2), "sgd": (3e-3, 0.3)}
BACKBONES = ("tf_efficientnet_lite0", "resnet18")
SEVERAL = {f"{backbone} / {name}": limits for backbone in BACKBONES for name, limits in ONE.items()}


def drawn(trials: pd.DataFrame, bounds: dict, best: int = 0):
    return search_figure(trials, default_trial=0, best_trial=best, bounds=bounds, metric_name="auroc")


def test_several_backbones_are_told_apart_by_marker_and_optimizers_by_colour(search_trials, words) -> None:
    figure = drawn(search_trials(40, backbones=BACKBONES), SEVERAL)
    looks = {text.get_text(): line for text, line in zip(*legend(figure), strict=True)}
    assert set(looks) == {*SEVERAL, "stopped early"}
    colors = {name: to_hex(line.get_color()).upper() for name, line in looks.items() if name in SEVERAL}
    markers = {name: line.get_marker() for name, line in looks.items()}
    assert {colors[name] for name in SEVERAL if name.endswith("adamw")} == {style.BLUE}
    assert {colors[name] for name in SEVERAL if name.endswith("sgd")} == {style.VERMILLION}
    assert markers["resnet18 / adamw"] == markers["resnet18 / sgd"] != markers["tf_efficientnet_lite0 / sgd"]
    assert {f"{name} searched" for name in SEVERAL} <= words(figure)


def legend(figure) -> tuple:
    found = figure.axes[0].get_legend()
    return found.get_texts(), found.legend_handles


def test_every_trial_is_drawn_under_its_label(search_trials) -> None:
    trials = search_trials(60, backbones=BACKBONES)
    figure = drawn(trials, SEVERAL)
    rings = 1
    assert sum(len(one.get_offsets()) for one in figure.axes[0].collections) == len(trials) + rings


def test_one_backbone_is_not_named(search_trials, words) -> None:
    assert {"adamw", "sgd", "adamw searched"} <= words(drawn(search_trials(40), ONE))


def test_the_bounds_of_each_label_are_a_bar(search_trials) -> None:
    bars = [tuple(line.get_xdata()) for line in drawn(search_trials(20, backbones=BACKBONES), SEVERAL).axes[0].lines]
    assert bars == list(SEVERAL.values())


@pytest.mark.parametrize("count", [1, 2, 6, 40, 500])
@pytest.mark.parametrize("backbones", [("resnet18",), BACKBONES])
def test_no_text_lies_on_another(search_trials, overlaps, count: int, backbones: tuple) -> None:
    trials = search_trials(count, backbones=backbones)
    best = int(trials["score"].fillna(0).idxmax())
    assert overlaps(drawn(trials, SEVERAL if len(backbones) > 1 else ONE, best)) == []


def test_names_of_neighbours_do_not_meet(search_trials, overlaps) -> None:
    trials = search_trials(6)
    trials.loc[[0, 1], "lr"], trials.loc[0, "score"], trials.loc[1, "score"] = 1e-3, 0.9, 0.901
    assert overlaps(drawn(trials, ONE, best=1)) == []


def test_without_a_trial_it_says_so(search_trials, words) -> None:
    assert "no trial has run" in words(drawn(search_trials(0), ONE))
