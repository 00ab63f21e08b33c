"""Cost: a bar per trial in the order of their start, and what the best score had cost when it was reached."""

import numpy as np
import pandas as pd
import pytest
from matplotlib.collections import PathCollection
from matplotlib.colors import to_hex

from components.report import style
from components.report.figures_search_cost import trial_cost_figure


def trials() -> pd.DataFrame:
    return pd.DataFrame(
        {
            "trial": [2, 0, 1, 3],
            "status": ["completed", "completed", "stopped", "diverged"],
            "score": [0.9, 0.8, 0.95, np.nan],
            "seconds": [30.0, 40.0, 10.0, 20.0],
            "gpu_seconds": 0.0,
        }
    )


def drawn(table: pd.DataFrame):
    return trial_cost_figure(table, metric_name="AUROC")


def test_bars_stand_in_the_order_of_the_numbers_in_the_colour_of_their_end() -> None:
    bars = drawn(trials()).axes[0].patches
    assert [bar.get_height() for bar in bars] == [40, 10, 30, 20]
    colors = [to_hex(bar.get_facecolor()).upper() for bar in bars]
    assert colors == [style.BLUE, style.SKY, style.BLUE, style.VERMILLION]


def test_the_best_score_rises_with_completed_trials_at_what_was_spent_by_then(words) -> None:
    figure = drawn(trials())
    (line,) = figure.axes[1].lines
    assert list(line.get_xdata()) == [40, 80, 100]  # 40; 40 + 10 + 30; all
    assert list(line.get_ydata()) == [0.8, 0.9, 0.9]  # 0.95 was a score of an early epoch
    assert {"0.9, trial 2", "Best score so far, of completed trials"} <= words(figure)


def test_where_no_trial_was_completed_any_score_counts(words) -> None:
    figure = drawn(trials().assign(status="stopped"))
    assert {"0.95, trial 1", "Best score so far"} <= words(figure)


def test_the_whole_and_its_parts_are_said(words) -> None:
    assert "100 s in all: completed 70 %, stopped early 10 %, diverged 20 %" in words(drawn(trials()))
    said = words(drawn(trials().assign(gpu_seconds=900.0)))
    assert any(text.startswith("100 s in all (60 min of a GPU)") for text in said)


def test_without_any_score_the_second_panel_says_so(words) -> None:
    figure = drawn(trials().assign(status="failed", score=np.nan))
    assert "no trial has a score" in words(figure)


@pytest.mark.parametrize("count", [1, 2, 6, 40, 500])
def test_no_text_lies_on_another(search_trials, overlaps, count: int) -> None:
    figure = drawn(search_trials(count))
    assert overlaps(figure) == []
    assert not any(isinstance(one, PathCollection) for one in figure.axes[0].collections)


def test_without_a_trial_it_says_so(search_trials, words) -> None:
    assert "no trial has run" in words(drawn(search_trials(0)))
