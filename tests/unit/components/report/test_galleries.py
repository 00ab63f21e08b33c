"""Galleries of findings hold pictures side by side."""

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text

from components.report import galleries
from components.report.html import figure_png

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"


@pytest.fixture
def image() -> np.ndarray:
    return np.full((10, 10, 3), 100, dtype=np.uint8)


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
        (galleries.pairs_gallery([], [], "Pairs"), "none"),
        (galleries.groups_gallery([], [], [], "Groups"), "none"),
    ],
)
def test_nothing_to_draw_is_said_in_words(figure: Figure, reason: str) -> None:
    assert reason in _words(figure)
    assert figure_png(figure).startswith(PNG_SIGNATURE)


def _words(figure: Figure) -> set[str]:
    return {text.get_text() for text in figure.findobj(Text)}
