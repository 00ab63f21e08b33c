"""Names that are hostile, invisible or too long, as a person gets to see them."""

import pytest

from components.display import counted, shortened, visible, width, wrapped


@pytest.mark.parametrize(
    ("text", "seen"),
    [
        ("划痕 (深) ü 😀\u00a0%", "划痕 (深) ü 😀\u00a0%"),
        ("\x1b[31mred\x07", "\\x1b[31mred\\x07"),
        ("abc\u202edcba", "abc\\u202edcba"),
        ("a\u200bb\ufeff", "a\\u200bb\\ufeff"),
        ("latin \udce9", "latin \\udce9"),
        ("a\r\tb\nc", "a\\r\\tb\nc"),
        ("👨\u200d👩", "👨\u200d👩"),
    ],
)
def test_what_has_no_picture_is_an_escape_and_the_rest_stays(text: str, seen: str) -> None:
    assert visible(text) == seen


def test_letters_of_the_far_east_are_two_columns_wide_and_accents_none() -> None:
    assert [width(text) for text in ("abc", "划痕", "ｱ", "e\u0301")] == [3, 4, 1, 1]


@pytest.mark.parametrize(
    ("text", "columns", "short"),
    [
        ("resnet18", 8, "resnet18"),
        ("tf_efficientnet_lite0", 11, "tf_ef…lite0"),
        ("划痕划痕划痕划痕", 9, "划痕…划痕"),
        ("划痕划痕划痕划痕", 8, "划痕…痕"),
    ],
)
def test_a_long_name_keeps_its_start_and_its_end(text: str, columns: int, short: str) -> None:
    assert shortened(text, columns) == short


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("", ""),
        ("pit", "pit"),
        ("red_iron_sheet", "red_iron_\nsheet"),
        ("oxide scale of plate", "oxide scale\nof plate"),
        ("crack-in-coating", "crack-in-\ncoating"),
        ("x" * 15, "x" * 11 + "\n" + "x" * 4),
        ("划痕划痕划痕", "划痕划痕划\n痕"),
        ("one two three four five six seven eight", "one two\nthree f…six\nseven eight"),
        ("a" * 40 + "z", "a" * 11 + "\n" + "a" * 5 + "…" + "a" * 5 + "\n" + "a" * 10 + "z"),
    ],
)
def test_names_break_at_their_joints_and_lose_their_middle(text: str, lines: str) -> None:
    assert wrapped(text, 11) == lines


def test_one_is_no_plural() -> None:
    assert [counted(count, "epoch") for count in (0, 1, 2, 1234)] == ["0 epochs", "1 epoch", "2 epochs", "1,234 epochs"]
    assert counted(2, "copy", "copies") == "2 copies"
