"""The figures of a search: scores over rates, importance, quality against latency."""

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_hex

from components.report import style
from components.report.figures_search import importance_figure, pareto_figure, search_figure
from components.search.analysis import pareto_front

ONE = {"adamw": (1e-4, 1e-2), "sgd": (3e-3, 0.3)}
BACKBONES = ("tf_efficientnet_lite0", "resnet18")
SEVERAL = {f"{backbone} / {name}": limits for backbone in BACKBONES for name, limits in ONE.items()}


def drawn(trials: pd.DataFrame, bounds: dict, best: int = 0):
    return search_figure(trials, default_trial=0, best_trial=best, bounds=bounds, metric_name="auroc")


def test_several_backbones_are_told_apart_by_marker_and_optimizers_by_colour(search_trials, words) -> None:
    figure = drawn(search_trials(40, backbones=BACKBONES), SEVERAL)
    looks = {text.get_text(): line for text, line in zip(*legend(figure), strict=True)}
    assert set(looks) >= {*SEVERAL, "stopped early"}
    colors = {name: to_hex(line.get_color()).upper() for name, line in looks.items() if name in SEVERAL}
    markers = {name: line.get_marker() for name, line in looks.items()}
    assert {colors[name] for name in SEVERAL if name.endswith("adamw")} == {style.BLUE}
    assert {colors[name] for name in SEVERAL if name.endswith("sgd")} == {style.VERMILLION}
    assert markers["resnet18 / adamw"] == markers["resnet18 / sgd"] != markers["tf_efficientnet_lite0 / sgd"]


def legend(figure) -> tuple:
    found = figure.axes[0].get_legend()
    return found.get_texts(), found.legend_handles


def test_every_trial_is_drawn_under_its_label(search_trials) -> None:
    trials = search_trials(60, backbones=BACKBONES)
    figure = drawn(trials, SEVERAL)
    assert sum(len(one.get_offsets()) for one in figure.axes[0].collections) == len(trials)


def test_one_backbone_is_not_named(search_trials, words) -> None:
    assert {"adamw", "sgd"} <= words(drawn(search_trials(40), ONE))


def test_the_bounds_of_each_label_are_a_bar(search_trials) -> None:
    bars = [tuple(line.get_xdata()) for line in drawn(search_trials(20, backbones=BACKBONES), SEVERAL).axes[0].lines]
    assert bars[: len(SEVERAL)] == list(SEVERAL.values())


@pytest.mark.parametrize("count", [1, 2, 6, 40, 500])
@pytest.mark.parametrize("backbones", [("resnet18",), BACKBONES])
def test_no_text_lies_on_another(search_trials, overlaps, count: int, backbones: tuple) -> None:
    trials = search_trials(count, backbones=backbones)
    best = int(trials["score"].fillna(0).idxmax())
    assert overlaps(drawn(trials, SEVERAL if len(backbones) > 1 else ONE, best)) == []


def test_without_a_trial_it_says_so(search_trials, words) -> None:
    assert "no trial has run" in words(drawn(search_trials(0), ONE))


def test_the_best_and_the_defaults_are_ringed_and_named_in_the_key(search_trials, words) -> None:
    trials = search_trials(6).assign(status="completed", score=[0.8, 0.7, 0.9, 0.6, 0.5, np.nan])
    assert {"best 0.9", "defaults 0.8"} <= words(drawn(trials, ONE, best=2))
    assert "best: the defaults, 0.8" in words(drawn(trials, ONE, best=0))


# --- importance


def record(r_squared: float | None = 0.8, **shares: float) -> dict:
    named = {f"recipe.{name}": share for name, share in shares.items()}
    return {"shares": named, "basis": "40 trials after epoch 9", "reason": "", "r_squared": r_squared}


def test_every_key_has_a_bar_with_its_share_and_the_rest_has_one(words) -> None:
    figure = importance_figure(record(lr=0.6, weight_decay=0.15))
    assert [bar.get_width() for bar in figure.axes[0].patches] == pytest.approx([0.6, 0.15, 0.25])
    named = {"learning rate", "60.0 %", "weight decay", "15.0 %", "several together, and noise", "25.0 %"}
    assert named <= words(figure)


def test_the_basis_and_how_far_it_can_be_trusted_are_said(words) -> None:
    said = "\n".join(words(importance_figure(record(r_squared=0.8, lr=0.6))))
    assert "40 trials after epoch 9" in said
    assert "80.0 % of the variance among trials not yet seen" in said


def test_noise_is_called_noise(words) -> None:
    assert "This may be noise" in "\n".join(words(importance_figure(record(r_squared=-0.1, lr=0.6))))
    assert "noise:" not in "\n".join(words(importance_figure(record(r_squared=None, lr=0.6))))


def test_without_shares_the_reason_is_said(words) -> None:
    empty = {"shares": {}, "basis": "", "reason": "nothing was searched", "r_squared": None}
    assert "not known: nothing was searched" in words(importance_figure(empty))


@pytest.mark.parametrize("count", [1, 5, 16])
def test_no_text_of_the_importances_lies_on_another(overlaps, count: int) -> None:
    shares = {f"a_key_with_a_rather_long_name_{i}": 0.9 / count for i in range(count)}
    assert overlaps(importance_figure(record(**shares))) == []
    assert overlaps(importance_figure(record(r_squared=-1.0, lr=1.0))) == []


# --- quality against latency


def front_of(trials: pd.DataFrame):
    return pareto_figure(trials, pareto_front(trials), metric_name="AUROC")


def timed() -> pd.DataFrame:
    return pd.DataFrame(
        {
            "trial": [0, 1, 2, 3, 4],
            "status": ["completed", "completed", "completed", "completed", "stopped"],
            "epochs": [9, 9, 9, 9, 3],
            "score": [0.8, 0.9, 0.7, 0.95, 0.99],
            "latency_ms": [2.0, 4.0, 3.0, 8.0, 1.0],
        }
    )


def test_the_front_is_a_stair_through_its_trials_from_fast_to_good(words) -> None:
    figure = front_of(timed())
    (line,) = figure.axes[0].lines
    assert list(zip(line.get_xdata(), line.get_ydata(), strict=True)) == [(2, 0.8), (4, 0.9), (8, 0.95)]
    assert any(text.startswith("4 completed trials; 3 on the Pareto front") for text in words(figure))


def test_a_stopped_trial_is_not_on_it() -> None:
    axes = front_of(timed()).axes[0]
    assert len(axes.lines[0].get_xdata()) + len(axes.collections[0].get_offsets()) == 4


def test_latencies_far_apart_are_on_a_logarithmic_axis() -> None:
    assert front_of(timed()).axes[0].get_xscale() == "linear"
    assert front_of(timed().assign(latency_ms=[1.0, 10.0, 3.0, 50.0, 1.0])).axes[0].get_xscale() == "log"


@pytest.mark.parametrize("count", [1, 2, 6, 40, 500])
def test_no_text_of_the_front_lies_on_another(search_trials, overlaps, count: int) -> None:
    assert overlaps(front_of(search_trials(count))) == []


@pytest.mark.parametrize("change", [{"score": np.nan}, {"latency_ms": np.nan}, {"status": "stopped"}])
def test_nothing_to_compare_is_said(words, change: dict) -> None:
    assert "no completed trial has both a score and a latency" in words(front_of(timed().assign(**change)))
