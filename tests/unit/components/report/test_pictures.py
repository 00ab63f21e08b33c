"""Headings over panels, and what the tests of them rely on."""

from components.report import pictures, style


def test_a_heading_of_two_lines_takes_more_room() -> None:
    assert pictures.panels_heading_height("one\ntwo") > pictures.panels_heading_height("one")
    figure = style.new_figure(6, 3)
    pictures.panels_heading(figure, "Title", "one\ntwo")
    assert [text.get_text() for text in figure.texts] == ["Title", "one\ntwo"]


def test_texts_on_each_other_and_beyond_the_edge_are_found(overlaps) -> None:
    """What the tests of these figures rely on."""
    figure = style.new_figure(5, 3)
    axes = figure.add_subplot()
    axes.text(0.5, 0.5, "one")
    axes.text(0.51, 0.5, "two")
    figure.text(0.95, 0.9, "far too long")
    assert set(overlaps(figure)) == {("one", "two"), ("far too long", "the edge")}
