"""Figures of the data: galleries hold pictures side by side, and a bar is a class."""

import numpy as np
import pandas as pd
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
        return [tuple(image.get_extent()) for image in figure.axes[0].images]

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


LONG = "a_very_long_class_name_of_a_defect_on_the_left_side"


@pytest.mark.parametrize("count", [2, 12])
def test_samples_of_long_class_names_keep_clear_of_their_pictures(image: np.ndarray, count: int) -> None:
    names = [LONG, *(f"class {number}" for number in range(count - 1))]
    figure = galleries.sample_grid({name: [image] * 8 for name in names})
    figure.draw_without_rendering()
    first = min(image.get_window_extent().x0 for image in figure.axes[0].images)
    ends = [text.get_window_extent().x1 for axes in figure.axes for text in axes.texts]
    starts = [text.get_window_extent().x0 for axes in figure.axes for text in axes.texts]
    assert len(ends) == count
    assert max(ends) < first
    assert min(starts) >= 0


def test_a_class_named_like_a_formula_is_written_as_it_is(image: np.ndarray) -> None:
    names = ["$5 stain", "$6 stain"]
    for figure in (
        galleries.sample_grid({name: [image] for name in names}),
        galleries.split_counts(pd.DataFrame({"train": [3, 4]}, index=names)),
        galleries.gallery([image], ["$1 and $2"], "From $1 to $2"),
    ):
        named = [text for text in figure.findobj(Text) if "$" in text.get_text() and text.get_visible()]
        assert named
        assert not any(text.get_parse_math() for text in named)


def test_the_augmentation_preview_sets_the_original_apart_from_its_versions(image: np.ndarray) -> None:
    figure = galleries.augmentation_grid([[image] * 4, [image] * 4])
    assert {"original", "augmented"} <= _words(figure)
    left, second, third, *_ = sorted({round(image.get_extent()[0], 4) for image in figure.axes[0].images})
    assert second - left > third - second


def test_without_augmentation_the_preview_says_so(image: np.ndarray) -> None:
    for rows in ([], [[image]]):
        assert "training sees every image unchanged" in _words(galleries.augmentation_grid(rows))


def test_every_picture_figure_has_the_same_width_whatever_it_shows(image: np.ndarray) -> None:
    shown = [galleries.gallery([image] * count, ["x"] * count, "Some") for count in (1, 5, 24)]
    assert len({figure.get_size_inches()[0] for figure in shown}) == 1


def test_a_caption_of_one_row_ends_above_the_pictures_of_the_next(image: np.ndarray) -> None:
    figure = galleries.gallery([image] * 12, ["one\ntwo\nthree"] * 12, "Some")
    figure.draw_without_rendering()
    axes = figure.axes[0]
    tops = sorted({round(image.get_window_extent().y1) for image in axes.images})
    lowest = min(text.get_window_extent().y0 for text in axes.texts[:6])
    assert len(tops) == 2
    assert lowest > tops[0]


def test_an_image_keeps_its_shape_at_the_upper_left_of_its_place(image: np.ndarray) -> None:
    figure = galleries.groups_gallery([[image, image[:5]]], ["a"], [["", ""]], "All")
    (left, right, bottom, top), flat = (shown.get_extent() for shown in figure.axes[0].images)
    assert right - left == pytest.approx(top - bottom)
    assert flat[1] - flat[0] == pytest.approx(2 * (flat[3] - flat[2]))
    assert flat[3] == top


def _words(figure: Figure) -> set[str]:
    return {text.get_text() for text in figure.findobj(Text)}


def test_of_many_classes_the_largest_and_the_smallest_have_a_bar() -> None:
    counts = pd.DataFrame({"train": range(1, 1201)}, index=[f"PN-{number}" for number in range(1, 1201)])
    figure = galleries.split_counts(counts)
    drawn = [text.get_text() for text in figure.axes[0].get_yticklabels()]
    assert (len(drawn), drawn[0], drawn[19], drawn[20], drawn[39]) == (40, "PN-1200", "PN-1181", "PN-20", "PN-1")
    assert figure.get_figheight() < 20
