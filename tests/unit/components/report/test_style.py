"""Number formats, and type that every machine can set."""

import math

import pytest

from components.report import style


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "–"), (math.nan, "–"), (math.inf, "∞"), (0.0, "0"), (3, "3"), (12345, "12,345"),
     (0.51234567, "0.5123"), (1.2e-5, "1.2e-5"), (2500.26, "2,500.3"), (5e8, "5e8")],
)  # fmt: skip
def test_numbers_are_written_as_a_reader_types_them(value: float | None, text: str) -> None:
    assert style.number(value) == text


@pytest.mark.parametrize(
    ("value", "text"), [(3e-4, "3e-4"), (0.00123, "1.2e-3"), (0.05, "0.05"), (1.0, "1"), (1e-6, "1e-6")]
)
def test_rates_have_two_digits(value: float, text: str) -> None:
    assert style.rate(value) == text


def test_small_shares_keep_their_digits() -> None:
    assert [style.percent(value) for value in (0.0, 0.0042, 0.123, 1.0)] == [
        "0.0 %",
        "0.42 %",
        "12.3 %",
        "100.0 %",
    ]
