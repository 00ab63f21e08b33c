"""Where a trial lies on the axis of a key, and what is written beside it."""

import numpy as np
import pandas as pd
import pytest

from components.report.parallel_axes import axis_of, numeric_axis


def texts(axis) -> list[str]:
    return [text for _, text in axis.ticks]


def test_a_logarithmic_axis_is_linear_in_the_exponent() -> None:
    axis = axis_of("lr", pd.Series([1e-4, 1e-3, 1e-2]), "log")
    assert axis.heights.tolist() == pytest.approx([0, 0.5, 1])
    assert axis.name == "learning rate"
    assert texts(axis) == ["1e-4", "1e-3", "0.01"]


def test_a_linear_axis_runs_from_its_lowest_value_to_its_highest() -> None:
    axis = axis_of("recipe.drop_path", pd.Series([0.1, 0.3, 0.2]), "linear")
    assert axis.heights.tolist() == pytest.approx([0, 1, 0.5])
    assert [text for _, text in axis.ticks] == ["0.1", "0.15", "0.2", "0.25", "0.3"]


def test_the_values_of_a_choice_have_equal_room_in_their_order() -> None:
    axis = axis_of("recipe.layer_decay", pd.Series([1.0, 0.75, 0.9]), "choice")
    assert [(round(height, 3), text) for height, text in axis.ticks] == [(0.167, "0.75"), (0.5, "0.9"), (0.833, "1")]
    assert axis.heights.tolist() == pytest.approx([5 / 6, 1 / 6, 1 / 2])


def test_trials_of_one_choice_lie_beside_each_other_and_never_on_another() -> None:
    axis = axis_of("optimizer", pd.Series(["sgd", "adamw"] * 200), "choice")
    assert len(set(axis.heights)) == 400
    assert axis.heights[1::2].max() < 0.5 < axis.heights[::2].min()
    assert axis.heights[1::2].min() > 0


@pytest.mark.parametrize(
    ("values", "expected"), [([True, False], ["no", "yes"]), ([8, 16], ["8", "16"]), (["a", 1.0], ["1", "a"])]
)
def test_choices_of_any_kind_have_a_name(values: list, expected: list[str]) -> None:
    assert texts(axis_of("key", pd.Series(values, dtype=object), "choice")) == expected


@pytest.mark.parametrize("scale", ["log", "linear", "choice"])
@pytest.mark.parametrize("missing", [None, np.nan, pd.NA])
def test_a_trial_without_the_key_has_no_place(scale: str, missing: object) -> None:
    axis = axis_of("key", pd.Series([0.1, missing, 0.2], dtype=object), scale)
    assert np.isnan(axis.heights).tolist() == [False, True, False]
    assert np.isnan(axis_of("key", pd.Series([missing, missing], dtype=object), scale).heights).all()


@pytest.mark.parametrize("log", [True, False])
def test_one_value_lies_in_the_middle_with_its_number(log: bool) -> None:
    axis = numeric_axis("key", np.array([0.02, 0.02]), log=log)
    assert axis.heights.tolist() == [0.5, 0.5]
    assert axis.ticks == [(0.5, "0.02")]


@pytest.mark.parametrize(
    ("low", "high", "count"), [(1e-4, 1e-1, 4), (1e-3, 8e-3, 2), (2e-3, 9e-3, 2), (1.1e-3, 1.2e-3, 2), (1e-12, 1.0, 5)]
)
def test_a_logarithmic_axis_has_two_to_six_ticks(low: float, high: float, count: int) -> None:
    axis = numeric_axis("key", np.array([low, high]), log=True)
    assert len(axis.ticks) == count
    assert all(-1e-6 <= height <= 1 + 1e-6 for height, _ in axis.ticks)
