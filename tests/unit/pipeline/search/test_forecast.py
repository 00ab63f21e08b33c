"""What a search will take, by hand arithmetic."""

import pytest

from components.search.rungs import Rungs
from components.search.trial import Suggestion, TrialRecord
from pipeline.search.forecast import expected_epochs, seconds_left

RUNGS = Rungs(grace=1, factor=3, last=9)


def record(number: int, epochs: int, seconds: float, status: str = "completed") -> TrialRecord:
    return TrialRecord(
        number=number,
        suggestion=Suggestion(point={}, overrides={}, epochs=9),
        unstopped=False,
        status=status,
        scores=dict.fromkeys(range(1, epochs + 1), 0.5),
        seconds=seconds,
    )


def left(records: list[TrialRecord], *, num_trials: int, concurrent: int = 1, mean: float = 3.0, pace: float = 10.0):
    return seconds_left(records, num_trials=num_trials, mean_epochs=mean, seconds_per_epoch=pace, concurrent=concurrent)


@pytest.mark.parametrize(
    ("scheduler", "unstopped", "epochs"),
    [
        ("asha", 0.0, 1 + 2 / 3 + 6 / 9),  # one in three goes on from 1 to 3, one in nine from 3 to 9
        ("hyperband", 0.0, 1 + 2 / 3 + 6 / 9),
        ("asha", 0.1, 0.1 * 9 + 0.9 * (1 + 2 / 3 + 6 / 9)),
        ("asha", 1.0, 9.0),
        ("median", 0.0, 1 + 8 / 2),
        ("none", 0.0, 9.0),
    ],
)
def test_epochs_of_a_trial_by_the_scheduler(scheduler: str, unstopped: float, epochs: float) -> None:
    assert expected_epochs(RUNGS, scheduler=scheduler, unstopped=unstopped) == pytest.approx(epochs)


@pytest.mark.parametrize("scheduler", ["asha", "median", "none"])
def test_with_one_rung_every_trial_runs_to_its_end(scheduler: str) -> None:
    assert expected_epochs(Rungs(grace=4, factor=3, last=4), scheduler=scheduler, unstopped=0.1) == pytest.approx(4.0)


def test_before_it_begins_the_measured_pace_counts() -> None:
    assert left([], num_trials=8, concurrent=2) == pytest.approx(8 * 3 * 10 / 2)


def test_without_any_pace_nothing_is_foretold() -> None:
    assert left([], num_trials=8, pace=0.0) == 0.0


def test_then_its_own_pace_counts() -> None:
    """One trial of 3 epochs took 6 s: 2 s an epoch; seven are left, of 3 epochs each."""
    assert left([record(0, 3, 6.0)], num_trials=8) == pytest.approx(7 * 3 * 2)


def test_of_a_running_trial_only_the_rest_is_left() -> None:
    """Two epochs in 4 s; of the three that are expected one is left of it, and all of the other."""
    assert left([record(0, 2, 4.0, "running")], num_trials=2) == pytest.approx((1 + 3) * 2)


def test_a_trial_that_is_longer_than_expected_has_an_epoch_left() -> None:
    assert left([record(0, 7, 14.0, "running")], num_trials=1) == pytest.approx(2.0)


def test_from_four_trials_on_their_own_mean_length_counts() -> None:
    ended = [record(number, epochs, 1.0 * epochs) for number, epochs in enumerate([9, 1, 1, 1])]
    assert left(ended, num_trials=6) == pytest.approx(2 * 3.0)  # 12 epochs over four trials
    assert left(ended[:3], num_trials=6, mean=5.0) == pytest.approx(3 * 5.0)


def test_no_more_trials_run_at_a_time_than_there_are() -> None:
    ended = [record(number, 3, 3.0) for number in range(3)]
    assert left([*ended, record(3, 0, 0.0, "running")], num_trials=4, concurrent=8) == pytest.approx(3.0)


def test_when_all_is_over_nothing_is_left() -> None:
    assert left([record(0, 3, 3.0), record(1, 0, 1.0, "failed")], num_trials=2) == 0.0
