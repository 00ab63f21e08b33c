"""What is expected of a winner before it is measured."""

import pytest

from pipeline.confirmation.prior import GAIN_SD, GAIN_SHARE, LEAST_GAIN, SELECTION, expected_gain, search_gain


def test_a_part_of_the_gain_in_the_search_is_left_and_a_small_one_is_selection() -> None:
    assert expected_gain(0.1).mean == pytest.approx(0.1 * GAIN_SHARE - SELECTION)
    assert expected_gain(0.0).mean <= 0
    assert (expected_gain(None).mean, expected_gain(None).sd) == (0.0, GAIN_SD)
    assert 0 < GAIN_SHARE < 1


def test_a_gain_over_folds_is_worth_more_than_one_on_the_validation_split() -> None:
    assert search_gain({"gain": 0.2}) == 0.2
    assert search_gain({"gain": 0.2, "fold_means": {"folds": 3, "winner": 0.75, "defaults": 0.5}}) == 0.25
    assert search_gain({"gain": 0.2, "fold_means": {"folds": 3, "winner": 0.75, "defaults": None}}) == 0.2
    assert search_gain({"gain": None, "fold_means": None}) is None


def test_a_winner_is_expected_to_be_better_only_above_the_least_gain() -> None:
    assert pytest.approx(0.20) == LEAST_GAIN
    assert expected_gain(LEAST_GAIN - 0.001).mean < 0 < expected_gain(LEAST_GAIN + 0.001).mean
