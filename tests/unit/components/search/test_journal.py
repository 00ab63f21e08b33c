"""The journal of a search: what is rebuilt from it is what was told, whenever its writer died."""

import json
from pathlib import Path

import pytest

from components.search.journal import Journal
from components.search.trial import Suggestion


def suggestion(rate: float = 0.1, **changes) -> Suggestion:
    values = {"point": {"recipe.lr": 0.25}, "overrides": {"recipe.lr": rate}, "epochs": 3, "phase": "random"}
    return Suggestion(**(values | changes))


def begin(journal: Journal, number: int, *, unstopped: bool = False, elapsed: float = 0.0, **changes) -> None:
    values = {"suggestion": suggestion(**changes).to_dict(), "unstopped": unstopped}
    journal.append("began", number, values, elapsed=elapsed)


def score(journal: Journal, number: int, epoch: int, value: float, *, seconds: float, elapsed=0.0, **metrics):
    values = {"epoch": epoch, "score": value, "seconds": seconds, "metrics": metrics}
    journal.append("scored", number, values, elapsed=elapsed)


def save(journal: Journal, number: int, epoch: int, checkpoint: str, *, elapsed: float = 0.0) -> None:
    journal.append("saved", number, {"epoch": epoch, "checkpoint": checkpoint}, elapsed=elapsed)


def end(journal: Journal, number: int, status: str, *, message: str, seconds: float, elapsed: float = 0.0) -> None:
    values = {"status": status, "message": message, "seconds": seconds}
    journal.append("ended", number, values, elapsed=elapsed)


@pytest.fixture
def path(tmp_path) -> Path:
    return tmp_path / "journal.jsonl"


def filled(path: Path) -> Journal:
    """Trial 0 completed, trial 1 failed, trial 2 saved and running, trial 3 just begun."""
    journal = Journal(path)
    begin(journal, 0, unstopped=True, elapsed=1.0)
    score(journal, 0, 1, 0.5, seconds=2.0, elapsed=3.0, val_loss=0.7)
    score(journal, 0, 3, 0.75, seconds=6.5, elapsed=8.0)
    save(journal, 0, 3, "/somewhere/trial-0", elapsed=8.5)
    end(journal, 0, "completed", message="", seconds=6.5, elapsed=9.0)
    begin(journal, 1, fold=2, seed=4, elapsed=9.5)
    end(journal, 1, "failed", message="RuntimeError: out", seconds=0.5, elapsed=10.0)
    begin(journal, 2, rate=1e-3, elapsed=10.5)
    score(journal, 2, 1, 1 / 3, seconds=1.25, elapsed=11.0)
    save(journal, 2, 1, "/somewhere/trial-2", elapsed=11.5)
    begin(journal, 3, elapsed=12.125)
    return journal


def test_what_is_rebuilt_is_what_was_told(path) -> None:
    told = filled(path)
    rebuilt = Journal(path)
    assert rebuilt.records == told.records
    completed, failed, running, begun = rebuilt.records
    assert completed.suggestion == suggestion()
    assert (completed.unstopped, completed.status, completed.scores) == (True, "completed", {1: 0.5, 3: 0.75})
    assert (completed.seconds, completed.seconds_at) == (6.5, {1: 2.0, 3: 6.5})
    assert completed.metrics == {1: {"val_loss": 0.7}, 3: {}}
    assert (completed.checkpoint, completed.checkpoint_epoch) == ("/somewhere/trial-0", 3)
    assert (failed.suggestion.fold, failed.suggestion.seed) == (2, 4)
    assert (failed.status, failed.message, failed.seconds, failed.score) == ("failed", "RuntimeError: out", 0.5, None)
    assert (running.ended, running.scores, running.checkpoint_epoch) == (False, {1: 1 / 3}, 1)
    assert (begun.ended, begun.scores, begun.checkpoint, begun.seconds) == (False, {}, None, 0.0)


def test_what_is_told_after_a_rebuilding_is_kept_beside_what_was_told_before(path) -> None:
    filled(path)
    again = Journal(path)
    score(again, 2, 2, 0.4, seconds=2.5)
    begin(again, 4)
    assert [record.number for record in Journal(path).records] == [0, 1, 2, 3, 4]
    assert Journal(path).records[2].scores == {1: 1 / 3, 2: 0.4}


@pytest.mark.parametrize("torn", ['{"event": "sco', '{"event": "ended", "trial": 2, "status": "completed"}', "x"])
def test_a_torn_last_line_is_dropped_and_the_next_event_is_whole(path, torn: str) -> None:
    expected = filled(path).records
    with path.open("a", encoding="utf-8") as file:
        file.write(torn)
    journal = Journal(path)
    assert journal.records == expected
    score(journal, 2, 2, 0.4, seconds=2.5)
    lines = path.read_bytes().splitlines(keepends=True)
    assert all(line.endswith(b"\n") and json.loads(line) for line in lines)
    assert Journal(path).records[2].scores == {1: 1 / 3, 2: 0.4}


def test_cut_anywhere_it_gives_what_was_told_up_to_there(path) -> None:
    filled(path)
    whole = path.read_bytes()
    events = [json.loads(line) for line in whole.splitlines()]
    begun_by = [sum(event["event"] == "began" for event in events[:count]) for count in range(len(events) + 1)]
    for length in range(0, len(whole), 31):
        path.write_bytes(whole[:length])
        journal = Journal(path)
        assert len(journal.records) == begun_by[whole[:length].count(b"\n")]


def test_a_line_that_was_spoilt_is_an_error_and_no_shorter_search(path) -> None:
    filled(path)
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join([*lines[:2], "garbage\n", *lines[2:]]))
    with pytest.raises(ValueError, match="Expecting value"):
        Journal(path)


def test_a_trial_that_goes_on_replaces_what_it_told_of_later_epochs(path) -> None:
    journal = Journal(path)
    begin(journal, 0)
    score(journal, 0, 1, 0.1, seconds=1.0, val_loss=9.0)
    save(journal, 0, 1, "there", elapsed=0.0)
    score(journal, 0, 2, 0.2, seconds=2.0, val_loss=8.0)
    score(journal, 0, 3, 0.3, seconds=3.0, val_loss=7.0)
    score(journal, 0, 2, 0.25, seconds=4.0, val_loss=6.0)  # goes on from the checkpoint after epoch 1
    for record in (journal.records[0], Journal(path).records[0]):
        assert record.scores == {1: 0.1, 2: 0.25}
        assert record.seconds_at == {1: 1.0, 2: 4.0}
        assert record.metrics == {1: {"val_loss": 9.0}, 2: {"val_loss": 6.0}}
        assert (record.epochs, record.score, record.seconds) == (2, 0.25, 4.0)


def test_a_pruned_checkpoint_is_gone_and_nothing_else(path) -> None:
    filled(path).append("pruned", 0, {}, elapsed=13.0)
    record = Journal(path).records[0]
    assert (record.checkpoint, record.checkpoint_epoch, record.score) == (None, 0, 0.75)


def test_sessions_are_counted(path) -> None:
    assert [Journal(path).sessions for _ in range(3)] == [1, 2, 3]


def test_the_time_that_it_has_run_is_that_of_the_last_event(path) -> None:
    filled(path)
    journal = Journal(path)
    assert journal.elapsed == 12.125
    begin(journal, 4, elapsed=20.0)
    assert (journal.elapsed, Journal(path).elapsed) == (20.0, 20.0)
    assert Journal(path).elapsed == 20.0  # opening it takes none of it


def test_a_score_that_is_no_number_is_refused(path) -> None:
    journal = Journal(path)
    begin(journal, 0)
    with pytest.raises(ValueError, match="JSON compliant"):
        score(journal, 0, 1, float("nan"), seconds=1.0)
    assert Journal(path).records[0].scores == {}


def test_without_a_file_the_records_are_in_memory_alone(tmp_path) -> None:
    journal = Journal(None)
    begin(journal, 0)
    score(journal, 0, 1, 0.5, seconds=1.0)
    assert journal.records[0].scores == {1: 0.5}
    assert list(tmp_path.iterdir()) == []
