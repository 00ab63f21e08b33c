"""Lengths of time, and what is none."""

import pytest

from components.errors import InputError
from pipeline.loading import load
from pipeline.sections.time import seconds_of


@pytest.mark.parametrize(
    ("written", "kept", "seconds"),
    [("30s", "30s", 30), ("10 min", "10min", 600), ("1.5h", "1.5h", 5400), ("2 Minutes", "2minutes", 120)],
)
def test_a_time_is_a_number_and_a_unit(written: str, kept: str, seconds: float) -> None:
    found = load("smoke", {"budget": written}).budget
    assert found == kept
    assert seconds_of(found) == seconds


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("600", "budget=600: lacks a unit; write 600s, 600min or 600h"),
        ("10 parsecs", "budget=10 parsecs: is no length of time; write a number and a unit: 30s, 10min or 2h"),
        ("soon", "budget=soon: is no length of time"),
        ("-5min", "budget=-5min: is no length of time"),
        ("0s", "budget=0s: leaves no time for anything; give more than 0"),
    ],
)
def test_what_is_no_time_is_refused(written: str, said: str) -> None:
    with pytest.raises(InputError) as caught:
        load("smoke", {"budget": written})
    assert str(caught.value).startswith(said)


def test_without_a_budget_the_configured_sizes_hold() -> None:
    assert load("smoke").budget is None
    assert load("smoke", {"budget": "null"}).budget is None
