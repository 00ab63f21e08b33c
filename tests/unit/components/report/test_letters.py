"""Names in figures: no mathematics, no boxes, and one sentence where no font of the machine has the letters."""

import warnings

import pandas as pd
import pytest
from matplotlib import font_manager
from matplotlib.lines import Line2D
from matplotlib.text import Text

from components.report import letters, pictures, style
from components.report.figures_evaluation import confusion_figure
from components.report.galleries import split_counts
from components.report.html import figure_png, render_report

NAMES = ["良品", "_unknown", "$50 & 100$", r"\frac{1}", "50%", "a\x1b[31m", "x" * 60 + "y" * 60]


def forget() -> None:
    for known in (letters.families, letters._faces, letters._newly_installed, letters._family_with):
        known.cache_clear()
    letters._missing.clear()


@pytest.fixture
def only_latin(monkeypatch):
    """A machine with the fonts that matplotlib brings along, and no other."""
    own = [face for face in font_manager.fontManager.ttflist if face.name.startswith(("DejaVu", "Last Resort", "STIX"))]
    monkeypatch.setattr(font_manager.fontManager, "ttflist", own)
    monkeypatch.setattr(font_manager, "findSystemFonts", list)
    forget()
    yield
    forget()


def labels(figure) -> list[str]:
    figure.draw_without_rendering()
    return [text.get_text() for text in figure.axes[0].get_yticklabels()]


def test_a_letter_that_no_font_has_is_a_code_point_and_one_sentence(only_latin) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        figure = split_counts(pd.DataFrame({"train": [3, 4]}, index=["良品", "é ½ →"]))
        figure_png(figure)
    assert labels(figure) == [r"\u826f\u54c1", "é ½ →"]
    assert letters.missing_note() == (
        "no installed font shows 品, 良: figures have code points in their place; "
        "install fonts-noto-cjk, or another font with these letters"
    )
    assert "No installed font shows 品, 良" in render_report("t", "", [], [])


@pytest.mark.parametrize(
    ("letter", "package"), [("ก", "fonts-noto-core"), ("🧿", "fonts-symbola"), ("한", "fonts-noto-cjk")]
)
def test_the_sentence_names_the_package_of_the_script(only_latin, letter: str, package: str) -> None:
    letters.shown(letter)
    assert f"install {package}," in str(letters.missing_note())


def test_where_every_letter_has_a_font_nothing_is_said(only_latin) -> None:
    assert letters.shown("Ø 50 % – α") == "Ø 50 % – α"
    assert letters.missing_note() is None


def test_the_first_font_with_the_letter_is_behind_the_preferred_ones(only_latin, monkeypatch) -> None:
    monkeypatch.setattr(letters, "_first_with", lambda letter, faces: "Far East" if letter == "良" else "DejaVu Sans")
    assert letters.families_for(["a良", "é"]) == ["DejaVu Sans", "Far East"]


def test_a_font_that_was_installed_since_is_found(only_latin, monkeypatch) -> None:
    manager = font_manager.fontManager
    fresh = font_manager.FontEntry(fname="/fonts/new.ttf", name="New Sans", style="normal", weight=400)
    monkeypatch.setattr(font_manager, "findSystemFonts", lambda: ["/fonts/new.ttf"])
    monkeypatch.setattr(manager, "addfont", lambda path: manager.ttflist.append(fresh))
    monkeypatch.setattr(
        letters, "_first_with", lambda letter, faces: next((face.name for face in faces if "New" in face.name), None)
    )
    assert letters.families_for(["良"])[-1] == "New Sans"


def test_names_stand_in_figures_as_they_are() -> None:
    figure = confusion_figure([[2] * len(NAMES)] * len(NAMES), NAMES)
    shown = labels(figure)
    assert shown[1:5] == NAMES[1:5]
    assert shown[5] == r"a\x1b[31m"
    assert shown[6] == "x" * 22 + "\n…" + "y" * 21
    assert not any(text.get_parse_math() for text in figure.findobj(Text))


def test_the_powers_of_a_logarithmic_axis_stay_mathematics() -> None:
    figure = style.new_figure(4, 2)
    axes = figure.add_subplot()
    axes.set_xscale("log")
    axes.set_xlim(1e-4, 1)
    style.finish(figure)
    figure.draw_without_rendering()
    drawn = [text for text in axes.get_xticklabels() if text.get_text()]
    assert drawn
    assert all(text.get_parse_math() for text in drawn)


def test_a_key_lists_names_that_begin_with_an_underscore() -> None:
    figure = style.new_figure(4, 2)
    axes = figure.add_subplot()
    style.key(axes, [Line2D([], [], label="_unknown"), Line2D([], [], label="$a$"), Line2D([], [], label="b" * 99)])
    legend = style.finish(figure).axes[0].get_legend()
    assert legend is not None
    assert [text.get_text() for text in legend.get_texts()] == ["_unknown", "$a$", "b" * 30 + "…" + "b" * 29]


def test_captions_and_titles_lose_their_middle_where_they_are_too_long() -> None:
    figure, grid = pictures.places(1, 2, fitting=8)
    pictures.caption(grid[0, 0], "img/" + "n" * 80 + "7.png\n$a$")
    pictures.heading(figure, "Range test of " + "b" * 200 + "!")
    caption, title = figure.axes[0].texts[0].get_text(), figure.texts[0].get_text()
    assert caption.startswith("img/")
    assert caption.endswith("7.png\n$a$")
    assert len(caption) < 40
    assert (title[:13], title[-1]) == ("Range test of", "!")
    assert len(title) < 130
