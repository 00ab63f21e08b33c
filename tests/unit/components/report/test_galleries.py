"""Near duplicates and galleries of findings: they name what they count, and hold pictures side by side."""

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text

from components.report import figures_data, galleries
from components.report.html import figure_png

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"


@pytest.fixture
def image() -> np.ndarray:
    return np.full((10, 10, 3), 100, dtype=np.uint8)


def test_near_duplicates_count_both_kinds_and_name_the_threshold() -> None:
    background = np.linspace(-0.4, 0.7, 1500)
    words = _words(figures_data.near_duplicate_figure(background, np.array([0.95, 1.0]), 0.92))
    assert {"unrelated pairs, 1,500 of them", "near duplicates, 2 pairs", "threshold 0.920"} <= words


def test_correlations_beyond_the_axis_are_drawn_in_its_outermost_bins() -> None:
    background = np.concatenate([np.full(9999, 0.5), [-1.0]])
    figure = figures_data.near_duplicate_figure(background, np.array([1.0, 1.0, 0.9999]), 0.9)
    bars = figure.axes[0].patches
    above, below = bars[: figures_data.HISTOGRAM_BINS], bars[figures_data.HISTOGRAM_BINS :]
    assert above[0].get_height() > 0
    assert [bar.get_height() < 0 for bar in below] == [False] * (figures_data.HISTOGRAM_BINS - 1) + [True]


@pytest.mark.parametrize("threshold", [-1.0, 0.0, 0.9, 1.0])
def test_near_duplicates_are_drawn_for_any_threshold_and_without_a_pair(threshold: float) -> None:
    figure = figures_data.near_duplicate_figure(np.array([0.1, 0.2]), np.empty(0), threshold)
    assert figure_png(figure).startswith(PNG_SIGNATURE)
    assert "near duplicates, 0 pairs" in _words(figure)


def test_a_pair_stands_side_by_side_with_a_gap_between(image: np.ndarray) -> None:
    figure = galleries.pairs_gallery([(image, image + 100)], ["0.93"], "Pairs")
    shown = np.asarray(figure.axes[0].images[0].get_array())
    assert shown.shape == (10, 21, 3)
    assert (shown[:, :10] == 100).all()
    assert (shown[:, 10] == 255).all()
    assert (shown[:, 11:] == 200).all()


def test_groups_are_rows_with_a_name_each_and_captions_where_there_are_any(image: np.ndarray) -> None:
    figure = galleries.groups_gallery([[image] * 3, [image] * 2], ["a", "b"], [["", "", ""], ["good", "pit"]], "All")
    assert sum(len(axes.images) for axes in figure.axes) == 5
    assert {"All", "a", "b", "good", "pit"} <= _words(figure)


def test_a_long_name_of_a_group_does_not_move_its_pictures(image: np.ndarray) -> None:
    def places(name: str) -> list[tuple[float, ...]]:
        figure = galleries.groups_gallery([[image] * 3], [name], [[""] * 3], "All")
        figure_png(figure)
        return [axes.get_position().bounds for axes in figure.axes]

    assert places("a") == places("a long name " * 9)


@pytest.mark.parametrize(
    ("figure", "reason"),
    [
        (figures_data.near_duplicate_figure(np.empty(0), np.empty(0), 0.9), "no pairs were compared"),
        (galleries.pairs_gallery([], [], "Pairs"), "none"),
        (galleries.groups_gallery([], [], [], "Groups"), "none"),
    ],
)
def test_nothing_to_draw_is_said_in_words(figure: Figure, reason: str) -> None:
    assert reason in _words(figure)
    assert figure_png(figure).startswith(PNG_SIGNATURE)


def _words(figure: Figure) -> set[str]:
    return {text.get_text() for text in figure.findobj(Text)}
