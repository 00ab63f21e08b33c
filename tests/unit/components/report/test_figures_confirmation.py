"""The figure of a confirmation: a row for each replicate, the mean and what is expected."""

from components.report.figures_confirmation import difference_figure
from components.report.html import figure_png


def rows_of(figure) -> list[str]:
    return [label.get_text() for label in figure.axes[0].get_yticklabels()]


def draw(differences, **changes):
    values = {"measured": (0.02, 0.01), "expected": (0.015, 0.0, 0.03), "objective": "auroc", "confidence": 0.9}
    return difference_figure(differences, **(values | changes))


def test_it_has_a_row_for_each_replicate_the_mean_and_what_is_expected() -> None:
    figure = draw([("fold 1", 0.03), ("fold 2", 0.01)])
    assert rows_of(figure) == ["fold 1", "fold 2", "mean, with its standard error", "expected, 90 % bounds"]
    assert figure.axes[0].get_xlabel() == "difference in auroc"
    assert figure_png(figure)


def test_what_is_not_known_has_no_row() -> None:
    assert rows_of(draw([("seed 0", 0.03)], measured=None, expected=None)) == ["seed 0"]


def test_without_a_difference_it_says_so() -> None:
    figure = draw([], measured=None, expected=None)
    assert any("no two trainings could be compared" in text.get_text() for text in figure.axes[0].texts + figure.texts)
