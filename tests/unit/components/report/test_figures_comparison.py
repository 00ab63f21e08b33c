"""Figures of the comparison: every method has its panel and row, and what is missing is said or left out."""

import math

import pandas as pd
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text

from components.report.figures_comparison import comparison_curves, comparison_dots, comparison_rates
from components.report.html import figure_png

ORDER = ("cosine", "adam", "a-method-with-a-very-long-name_$5")


def curves(order=ORDER) -> pd.DataFrame:
    return pd.DataFrame(
        [
            {"entry": name, "seed": seed, "epoch": epoch, "val_loss": 1 / epoch + 0.1 * place + 0.01 * seed}
            for place, name in enumerate(order)
            for seed in (1, 2)
            for epoch in (1, 2, 3)
        ]
    )


def intervals(low=0.7, high=0.9) -> dict[str, pd.DataFrame]:
    table = pd.DataFrame({"entry": ORDER, "mean": [0.85, 0.8, math.nan], "low": low, "high": high})
    return {"auroc": table, "accuracy": table}


def single() -> pd.DataFrame:
    return pd.DataFrame(
        {"entry": ["cosine", "cosine", "adam"], "auroc": [0.84, 0.86, 0.8], "accuracy": [0.8, 0.9, 0.8]}
    )


def words(figure: Figure) -> set[str]:
    return {text.get_text() for text in figure.findobj(Text)}


def visible(figure: Figure) -> list:
    return [axes for axes in figure.axes if axes.get_visible()]


@pytest.mark.parametrize("count", [1, 5, 6, 15])
def test_every_method_has_a_panel_of_its_own(count) -> None:
    names = [f"method-{number}" for number in range(count)]
    figure = comparison_curves(curves(names), metric="val_loss", order=names)
    panels = visible(figure)
    assert [axes.get_title(loc="left") for axes in panels] == names
    assert {axes.get_ylim() for axes in panels} == {panels[0].get_ylim()}
    assert figure_png(figure).startswith(b"\x89PNG")


def test_a_panel_shows_its_method_seed_by_seed_before_the_means_of_the_others() -> None:
    figure = comparison_curves(curves(), metric="val_loss", order=ORDER)
    first = visible(figure)[0]
    drawn = {tuple(round(float(y), 6) for y in line.get_ydata()) for line in first.lines}
    assert len(first.lines) == 2 + 2 + 1  # the others' means, two seeds, the mean
    mean = tuple(round(1 / epoch + 0.015, 6) for epoch in (1, 2, 3))
    assert mean in drawn


def test_a_method_without_a_whole_epoch_says_so_in_its_panel() -> None:
    figure = comparison_curves(curves(ORDER[:2]), metric="val_loss", order=ORDER)
    assert "no whole epoch" in words(figure)


def test_curves_that_were_not_measured_are_a_sentence() -> None:
    nothing = curves().assign(val_loss=math.nan)
    assert "nothing was measured" in words(comparison_curves(nothing, metric="val_loss", order=ORDER))
    assert "nothing was measured" in words(comparison_curves(curves(), metric="auroc", order=ORDER))


def test_rates_are_shares_of_each_methods_own_peak_which_is_named() -> None:
    rates = pd.DataFrame(
        {
            "entry": ["cosine"] * 3 + ["adam"] * 3,
            "seed": 1,
            "step": [1, 2, 3] * 2,
            "lr": [0.2, 0.1, 0.05, 1e-3, 1e-3, 0],
        }
    )
    figure = comparison_rates(rates, order=ORDER)
    cosine, adam, neither = visible(figure)
    assert cosine.lines[0].get_ydata().tolist() == pytest.approx([1, 0.5, 0.25])
    assert adam.lines[0].get_ydata().tolist() == pytest.approx([1, 1, 0])
    assert {"peak 0.2", "peak 1e-3", "no step"} <= words(figure)
    assert not neither.lines


def test_no_step_at_all_is_a_sentence() -> None:
    nothing = pd.DataFrame({"entry": [], "seed": [], "step": [], "lr": []})
    assert "no step was taken" in words(comparison_rates(nothing, order=ORDER))


def test_results_have_a_row_per_method_and_a_panel_per_metric() -> None:
    figure = comparison_dots(intervals(), single(), {"cosine": True, "adam": False, ORDER[2]: False})
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["AUROC", "accuracy"]
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == list(ORDER)
    assert {"worse than the best"} <= words(figure)
    assert figure_png(figure).startswith(b"\x89PNG")


def test_intervals_of_one_seed_are_left_out_and_nothing_is_said_of_noise() -> None:
    figure = comparison_dots(intervals(math.nan, math.nan), single(), dict.fromkeys(ORDER))
    assert all(not axes.lines for axes in figure.axes)
    assert "worse than the best" not in words(figure)
    assert figure_png(figure).startswith(b"\x89PNG")


def test_no_result_is_a_sentence() -> None:
    empty = pd.DataFrame({"entry": [], "mean": [], "low": [], "high": []})
    assert "no method has been trained" in words(comparison_dots({"auroc": empty}, single(), {}))
