"""Figures draw what they were given, say in words when there is nothing to draw, and keep no global state."""

import subprocess
import sys
from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text

from components.report.figures_evaluation import confusion_figure, roc_figure, score_histogram
from components.report.figures_lr import range_test_figure
from components.report.figures_search import search_figure
from components.report.figures_training import learning_curves
from components.report.galleries import gallery, sample_grid, split_counts
from components.report.html import figure_png

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"


@pytest.fixture
def bounds() -> dict[str, Any]:
    return {
        "lower": 1e-4, "suggested": 1e-3, "upper": 1e-2, "band": [8e-4, 1.3e-3], "abstained": False,
        "reason": "", "valley": None, "fit": {"lr": [1e-4, 1e-2], "loss": [0.7, 0.2]},
    }  # fmt: skip


@pytest.fixture
def curves() -> pd.DataFrame:
    rates = np.logspace(-6, 0, 60)
    loss = np.append(0.7 - 0.5 / (1 + (1e-3 / rates[:-1])), np.nan)
    return pd.concat([pd.DataFrame({"seed": seed, "step": range(60), "lr": rates, "loss": loss}) for seed in range(2)])


@pytest.fixture
def trials() -> pd.DataFrame:
    return pd.DataFrame(
        {
            "trial": [0, 1, 2, 3],
            "status": ["completed", "stopped", "diverged", "completed"],
            "optimizer": ["adamw", "sgd", "sgd", "adamw"],
            "lr": [1e-3, 0.1, 0.5, 3e-3],
            "score": [0.9, 0.85, None, 0.93],
            "epochs": [5, 2, 1, 5],
        }
    )


def test_importing_the_figures_leaves_pyplot_alone() -> None:
    code = "import sys, components.report.html, pipeline.reports.evaluation, pipeline.reports.data; "
    code += "sys.exit('matplotlib.pyplot' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_sample_grid_has_one_row_per_class_that_has_images() -> None:
    image = np.zeros((8, 8, 3), dtype=np.uint8)
    figure = sample_grid({"good": [image, image], "pit": [image], "crack": []})
    assert len(figure.axes[0].images) == 3
    assert {"good", "pit"} <= _words(figure)
    assert "crack" not in _words(figure)


def test_split_counts_spells_out_what_is_too_narrow_to_label() -> None:
    counts = pd.DataFrame({"train": [900, 9], "val": [200, 3], "test": [200, 3]}, index=["good", "pit"])
    assert {"1,300", "15 = 9 + 3 + 3"} <= _words(split_counts(counts))


def test_range_test_names_its_bounds(curves: pd.DataFrame, bounds: dict) -> None:
    figure = range_test_figure(curves, bounds, "Range test: adamw")
    assert {"lower 1e-4", "suggested 1e-3", "upper 0.01", "Range test: adamw"} <= _words(figure)


def test_a_range_test_that_abstained_says_why(curves: pd.DataFrame, bounds: dict) -> None:
    abstained = {**bounds, "abstained": True, "reason": "the loss never fell", "fit": None, "band": None}
    words = _words(range_test_figure(curves, abstained, "Range test"))
    assert {"No verdict: the loss never fell", "default 1e-3"} <= words


def test_a_range_test_without_a_finite_loss_says_so(curves: pd.DataFrame, bounds: dict) -> None:
    figure = range_test_figure(curves.assign(loss=np.inf), bounds, "Range test")
    assert "the range test recorded no finite loss" in _words(figure)


def test_learning_curves_mark_the_best_epoch() -> None:
    history = pd.DataFrame(
        {"epoch": [1, 2, 3], "train_loss": [0.6, 0.4, 0.3], "val_loss": [0.6, np.nan, 0.5],
         "val_score": [0.7, 0.9, 0.8], "lr": [1e-3, 5e-4, 0.0]}
    )  # fmt: skip
    assert {"kept 0.9, epoch 2", "training", "validation"} <= _words(learning_curves(history, best_epoch=2))


@pytest.fixture
def history() -> pd.DataFrame:
    return pd.DataFrame(
        {"epoch": [1, 2, 3], "step": [10, 20, 30], "train_loss": [0.6, 0.4, 0.3], "val_loss": [0.6, 0.5, 0.5],
         "val_score": [0.7, 0.9, 0.8], "lr": [1e-3, 5e-4, 1e-4]}
    )  # fmt: skip


def test_learning_curves_without_validation_images_show_the_training_loss(history: pd.DataFrame) -> None:
    words = _words(learning_curves(history.drop(columns=["val_loss", "val_score"]), best_epoch=3))
    assert "training" in words
    assert "validation" not in words


def rates_by_step(**lr: float) -> pd.DataFrame:
    return pd.DataFrame({"step": range(1, 31), **lr, "loss": 0.5, "grad_norm": 1.0})


def test_learning_curves_show_the_rate_of_every_step_on_the_axis_of_epochs(history: pd.DataFrame) -> None:
    steps = rates_by_step(lr_body=1e-3).assign(lr_body=np.linspace(1e-3, 1e-4, 30))
    figure = learning_curves(history, best_epoch=2, steps=steps)
    (line,) = figure.axes[2].lines
    assert np.allclose(line.get_xdata(), np.arange(1, 31) / 10)
    assert np.allclose(line.get_ydata(), np.linspace(1e-3, 1e-4, 30))
    assert not {"fastest layers", "slowest"} & _words(figure)


def test_learning_curves_shade_the_span_from_the_slowest_to_the_fastest_group(history: pd.DataFrame) -> None:
    figure = learning_curves(history, best_epoch=2, steps=rates_by_step(lr_a=1e-4, lr_b=5e-4, lr_head=1e-3))
    assert {"fastest layers", "slowest"} <= _words(figure)
    assert sorted(line.get_ydata()[0] for line in figure.axes[2].lines) == [1e-4, 1e-3]
    assert len(figure.axes[2].collections) == 1


def test_learning_curves_mark_what_the_monitor_found_where_it_found_it(history: pd.DataFrame) -> None:
    ledger = [
        {"step": 5, "kind": "spike", "action": "none"},
        {"step": 15, "kind": "spike", "action": "none"},
        {"step": 25, "kind": "too_slow", "action": "none"},
        {"step": 40, "kind": "oscillating", "action": "stop"},  # beyond the last whole epoch
    ]
    figure = learning_curves(history, best_epoch=2, ledger=ledger)
    assert {"spike ×2", "too slow", "oscillating, stopped"} <= _words(figure)
    ticks = [line.get_xdata() for line in figure.axes[0].lines if line.get_marker() == "|"]
    assert [list(places) for places in ticks] == [[0.5, 1.5], [2.5], [4.0]]
    back = learning_curves(history, best_epoch=2, ledger=[{**ledger[3], "action": "rollback"}])
    assert "oscillating, rolled back" in _words(back)


def test_search_names_the_defaults_the_best_and_the_failures(trials: pd.DataFrame) -> None:
    words = _words(_search(trials, best=3))
    assert {"defaults 0.9", "best 0.93", "stopped early"} <= words
    assert any("1 without a score" in word for word in words)


def test_search_says_when_the_defaults_were_best(trials: pd.DataFrame) -> None:
    assert "best: the defaults, 0.9" in _words(_search(trials, best=0))


def test_search_without_any_score_still_draws(trials: pd.DataFrame) -> None:
    assert figure_png(_search(trials.assign(score=np.nan), best=None)).startswith(b"\x89PNG")


def test_roc_gives_its_area_and_both_errors_at_each_threshold() -> None:
    scores, is_defect = np.array([-2.2, -0.4, 0.4, 2.2]), np.array([False, True, False, True])
    words = _words(roc_figure(scores, is_defect, {"budget": 0.0}))
    assert "budget\nescape 50.0 %, overkill 50.0 %" in words
    assert "area 0.7500; 2 defective, 2 good images" in words


def test_roc_of_one_class_says_that_there_is_nothing_to_separate() -> None:
    words = _words(roc_figure(np.array([0.2]), np.array([True]), {}))
    assert "all 1 images are defective: nothing to separate" in words


def test_score_histogram_draws_thresholds_at_and_beyond_its_ends() -> None:
    log_odds, is_defect = np.array([-900.0, -1.4, 40.0]), np.array([False, False, True])
    figure = score_histogram(log_odds, is_defect, {"all": -950.0, "none": 41.0, "tiny": np.log(1e-9)})
    assert {"good (2)", "defective (1)", "tiny 1e-9"} <= _words(figure)
    figure_png(figure)


def test_confusion_shows_counts_and_shares_of_the_actual_class() -> None:
    words = _words(confusion_figure([[8, 2], [0, 0]], ["good", "pit"]))
    assert {"8", "80.0 %", "10 images; number and share of the actual class"} <= words


def test_where_the_cells_of_the_confusion_hold_counts_alone_its_subtitle_says_so() -> None:
    words = _words(confusion_figure(np.eye(9, dtype=int) * 7, [f"c{number}" for number in range(9)]))
    assert "63 images; shaded by the share of the actual class" in words
    assert not any("%" in word for word in words)


def test_gallery_captions_every_image() -> None:
    images = [np.zeros((4, 4, 3), dtype=np.uint8)] * 7
    assert {f"n{i}" for i in range(7)} <= _words(gallery(images, [f"n{i}" for i in range(7)], "Escapes"))


@pytest.mark.parametrize(
    "figure",
    [
        sample_grid({}),
        gallery([], [], "Escapes"),
        score_histogram(np.empty(0), np.empty(0, dtype=bool), {"a": 0.5}),
        roc_figure(np.empty(0), np.empty(0, dtype=bool), {}),
        confusion_figure([[0]], ["a"]),
        split_counts(pd.DataFrame()),
        learning_curves(pd.DataFrame(), best_epoch=0),
    ],
)
def test_nothing_to_draw_still_makes_a_figure(figure: Figure) -> None:
    assert figure_png(figure).startswith(PNG_SIGNATURE)


def _search(trials: pd.DataFrame, best: int | None) -> Figure:
    bounds = {"adamw": (1e-4, 1e-2), "sgd": (1e-2, 1.0)}
    return search_figure(trials, default_trial=0, best_trial=best, bounds=bounds, metric_name="auroc")


def _words(figure: Figure) -> set[str]:
    return {text.get_text() for text in figure.findobj(Text)}
