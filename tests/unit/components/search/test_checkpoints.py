"""Where checkpoints lie, how they are fetched, and which of them go when there are too many."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from components.search import checkpoints
from components.search.checkpoints import (
    Quota,
    fetch,
    join_location,
    open_location,
    remote_path,
    remove_trial,
    trial_bytes,
)
from components.search.trial import Suggestion, TrialRecord

#: With an endpoint or a region in it, nobody has to be asked where the bucket is.
STORE = "s3://bucket/some/trials?endpoint_override=localhost:9000&scheme=http&region=us-east-1"


class Pruned(list):
    """As much of a state as the quota asks for: records, and what was told of them."""

    def __init__(self, records: list[TrialRecord]) -> None:
        super().__init__()
        self.records = records

    def pruned(self, number: int) -> None:
        self.append(number)
        self.records[number].checkpoint = None


@pytest.fixture
def state(tmp_path):
    """A state of ended trials, each with a checkpoint of a hundred bytes: `state(score, …)`, None for a failure."""

    def make(*scores: float | None, epochs: tuple[int, ...] = ()) -> Pruned:
        records = []
        for number, score in enumerate(scores):
            folder = tmp_path / f"trial-{number}" / "checkpoint_0"
            folder.mkdir(parents=True)
            (folder / "state").write_bytes(bytes(60))
            (folder / "below").mkdir()
            (folder / "below" / "weights").write_bytes(bytes(40))
            length = epochs[number] if epochs else 3
            records.append(
                TrialRecord(
                    number=number,
                    suggestion=Suggestion(point={}, overrides={}, epochs=3),
                    unstopped=False,
                    status="failed" if score is None else "completed" if length == 3 else "stopped",
                    scores={length: score} if score is not None else {},
                    checkpoint=str(folder),
                )
            )
        return Pruned(records)

    return make


def left(state: Pruned) -> list[int]:
    return [record.number for record in state.records if record.checkpoint and Path(record.checkpoint).is_dir()]


# --- paths


def test_below_a_folder_a_checkpoint_is_found_by_its_path() -> None:
    checkpoint = SimpleNamespace(path="/shared/trials/tune-1/trial-0/checkpoint_000001")
    assert remote_path(checkpoint, "/shared/trials") == checkpoint.path


@pytest.mark.parametrize("slash", ["", "/"])
def test_below_a_store_the_path_is_put_back_into_its_address(slash: str) -> None:
    checkpoint = SimpleNamespace(path="bucket/some/trials/tune-1/trial-0/checkpoint_000001")
    storage = STORE.replace("trials?", f"trials{slash}?")
    expected = STORE.replace("trials?", "trials/tune-1/trial-0/checkpoint_000001?")
    assert remote_path(checkpoint, storage) == expected
    assert open_location(expected)[1] == checkpoint.path


def test_a_search_has_a_place_of_its_own_below_what_many_share() -> None:
    assert join_location("/shared/trials/", "3f2a") == "/shared/trials/3f2a"
    assert join_location("s3://bucket/trials", "3f2a") == "s3://bucket/trials/3f2a"
    assert join_location(STORE, "3f2a") == STORE.replace("trials?", "trials/3f2a?")


def test_a_store_without_settings_keeps_an_address_without_them() -> None:
    checkpoint = SimpleNamespace(path="/shared/trials/tune-1/trial-0")
    assert remote_path(checkpoint, "file:///shared/trials") == "file:///shared/trials/tune-1/trial-0"


# --- files


def test_the_files_of_a_trial_are_measured_fetched_and_removed_together(tmp_path) -> None:
    folder, earlier = tmp_path / "trial-1" / "two", tmp_path / "trial-1" / "one"
    (folder / "deep").mkdir(parents=True)
    earlier.mkdir()
    (folder / "a").write_bytes(b"12345")
    (folder / "deep" / "b").write_bytes(b"123")
    (earlier / "a").write_bytes(b"12")
    (tmp_path / "trial-2").mkdir()
    target = tmp_path / "target"
    target.mkdir()
    for place in (str(folder), f"file://{folder}"):
        assert trial_bytes(place) == 10
        assert fetch(place, ("a", "missing"), target) == [target / "a"]
        assert (target / "a").read_bytes() == b"12345"
    remove_trial(f"file://{folder}")
    assert not folder.parent.exists()
    assert (tmp_path / "trial-2").exists()
    remove_trial(str(folder))  # gone already
    assert trial_bytes(str(folder)) == 0
    assert fetch(str(folder), ("a",), target) == []


# --- the quota


def test_below_the_quota_all_are_kept(state) -> None:
    trials = state(0.5, 0.7, 0.6)
    Quota(trials, 300).enforce()
    assert left(trials) == [0, 1, 2]
    assert trials == []


def test_the_lowest_scores_go_first_and_no_more_than_need_be(state) -> None:
    trials = state(0.9, 0.3, 0.8, 0.2, 0.5)
    Quota(trials, 300).enforce()
    assert trials == [3, 1]
    assert left(trials) == [0, 2, 4]


def test_what_failed_goes_before_any_that_has_a_score(state) -> None:
    trials = state(0.9, 0.0, None)
    Quota(trials, 200).enforce()
    assert trials == [2]


def test_the_best_and_the_defaults_stay_whatever_they_take(state) -> None:
    trials = state(0.1, 0.9, 0.5)
    Quota(trials, 0).enforce()
    assert left(trials) == [0, 1]


def test_the_best_is_one_that_went_furthest_as_the_winner_is(state) -> None:
    trials = state(0.5, 0.95, 0.8, 0.6, epochs=(3, 1, 3, 3))
    Quota(trials, 0).enforce()
    assert left(trials) == [0, 2]


def test_what_runs_is_not_touched(state) -> None:
    trials = state(0.5, 0.1, 0.9)
    trials.records[1].status = "running"
    Quota(trials, 0).enforce()
    assert left(trials) == [0, 1, 2]


def test_what_is_gone_is_not_measured_again(state, monkeypatch) -> None:
    trials, measured = state(0.5, 0.1, 0.9, 0.4), []

    def size(path: str) -> int:
        measured.append(path)
        return 100

    monkeypatch.setattr(checkpoints, "trial_bytes", size)
    quota = Quota(trials, 300)
    quota.enforce()
    quota.enforce()
    assert len(measured) == 4
    assert left(trials) == [0, 2, 3]


def test_no_trials_and_no_checkpoints_are_within_any_quota(state) -> None:
    Quota(Pruned([]), 0).enforce()
    trials = state(0.5)
    trials.records[0].checkpoint = None
    Quota(trials, 0).enforce()
    assert trials == []
