"""A trial is on the front where each that is faster is worse, and each that is better is slower."""

import pandas as pd
import pytest

from components.search.pareto import pareto_front


def trials(*rows: tuple[float | None, float | None], status: str = "completed") -> pd.DataFrame:
    """score, latency_ms"""
    table = pd.DataFrame(rows, columns=["score", "latency_ms"], dtype=float)
    return table.assign(trial=range(len(table)), status=status, epochs=9)


@pytest.mark.parametrize(
    ("rows", "front"),
    [
        ([(0.9, 5.0), (0.8, 2.0), (0.85, 5.0), (0.7, 3.0)], [1, 0]),  # 2 and 3 are beaten by 0 and 1
        ([(0.9, 5.0), (0.9, 4.0)], [1]),  # as good and faster
        ([(0.9, 5.0), (0.8, 5.0)], [0]),  # as fast and better
        ([(0.9, 5.0), (0.9, 5.0)], [0, 1]),  # neither beats the other
        ([(0.7, 1.0), (0.8, 2.0), (0.9, 3.0)], [0, 1, 2]),
        ([(None, 1.0), (0.5, None), (0.4, 2.0)], [2]),
        ([], []),
    ],
)
def test_the_front_is_what_nothing_beats_fastest_first(rows: list, front: list[int]) -> None:
    assert pareto_front(trials(*rows)) == front


def test_a_stopped_trial_is_not_compared_with_completed_ones() -> None:
    table = pd.concat([trials((0.99, 1.0), status="stopped"), trials((0.9, 2.0)).assign(trial=7)])
    assert pareto_front(table) == [7]


def test_without_latencies_there_is_no_front() -> None:
    assert pareto_front(trials((0.9, 1.0)).drop(columns="latency_ms")) == []


def test_a_trial_that_was_planned_shorter_is_left_out() -> None:
    assert pareto_front(trials((0.9, 5.0), (0.99, 1.0)).assign(epochs=[9, 3])) == [0]
