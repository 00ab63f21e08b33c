"""Names and headings of the figures of a search."""

import pytest

from components.report import style, trial_looks


@pytest.mark.parametrize(
    ("key", "name"),
    [("recipe.weight_decay", "weight decay"), ("lr", "learning rate"), ("recipe.lr", "learning rate"),
     ("optimizer", "optimizer"), ("model.drop_path", "drop path")],
)  # fmt: skip
def test_a_key_is_called_by_its_last_part(key: str, name: str) -> None:
    assert trial_looks.plain_key(key) == name


def test_a_heading_of_two_lines_takes_more_room() -> None:
    assert trial_looks.heading_height("one\ntwo") > trial_looks.heading_height("one")
    figure = style.new_figure(6, 3)
    trial_looks.figure_heading(figure, "Title", "one\ntwo")
    assert [text.get_text() for text in figure.texts] == ["Title", "one\ntwo"]


def test_texts_on_each_other_and_beyond_the_edge_are_found(overlaps) -> None:
    """What the tests of these figures rely on."""
    figure = style.new_figure(5, 3)
    axes = figure.add_subplot()
    axes.text(0.5, 0.5, "one")
    axes.text(0.51, 0.5, "two")
    figure.text(0.95, 0.9, "far too long")
    assert set(overlaps(figure)) == {("one", "two"), ("far too long", "the edge")}
