"""What becomes of Tune's events, told without Tune: in the state, in the rule and with the observer."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from components.search.journal import Journal
from components.search.rungs import WORST_SCORE, Rungs, build_rule
from components.search.state import Limits, SearchState
from components.search.trial import Suggestion
from components.search.tuner import (
    TuneCallback,
    TuneSettings,
    _BudgetStopper,
    _RuleScheduler,
    _StateSearcher,
    _UnsavedSearch,
    number_of,
)


def plain(number: int) -> Suggestion:
    return Suggestion(point={"u": number / 10}, overrides={"recipe.lr": number / 10}, epochs=3)


class Notebook:
    def __init__(self, broken: Exception | None = None) -> None:
        self.told: list[tuple] = []
        self._broken = broken

    def started(self, record) -> None:
        self.told.append(("started", record.number))

    def reported(self, record, result) -> None:
        self.told.append(("reported", record.number, result["epoch"]))

    def ended(self, record, trace) -> None:
        if self._broken is not None:
            raise self._broken
        self.told.append(("ended", record.number, record.status, trace))


@pytest.fixture
def state(tmp_path) -> SearchState:
    made = SearchState(
        Journal(tmp_path / "journal.jsonl"),
        SimpleNamespace(suggest=lambda number, history: plain(number)),
        Limits(num_trials=4, seconds=None, gpu_seconds=20.0, failure_limit=1.0),
        defaults=plain(0),
        concurrent=None,
        gpus_per_trial=1.0,
        unstopped_fraction=0.0,
        seed=0,
        clock=lambda: 0.0,
    )
    for _ in range(3):
        made.next_trial()
    return made


@pytest.fixture
def callback(state):
    def make(observer=None, rule=None) -> TuneCallback:
        settings = TuneSettings(
            storage="/nowhere",
            checkpoint_epochs=(1, 3),
            cpus_per_trial=1,
            gpus_per_trial=0,
            timeout=60,
            quota_bytes=1e9,
        )
        return TuneCallback(state, [observer or Notebook()], rule, settings, lambda: None)

    return make


def trial(number: int, last: dict | None = None, error_file: Path | None = None) -> SimpleNamespace:
    return SimpleNamespace(config={"trial": {"number": number}}, last_result=last, error_file=error_file)


def scored(epoch: int, score: float = 0.5, *, seconds: float = 2.0) -> dict:
    return {"outcome": "scored", "epoch": epoch, "score": score, "seconds": seconds, "metrics": {"lr": 0.1}}


def over(outcome: str, *, epoch: int = 1, seconds: float = 2.0, message: str = "", trace: str = "") -> dict:
    return {"outcome": outcome, "epoch": epoch, "score": WORST_SCORE, "seconds": seconds, "metrics": {},
            "message": message, "trace": trace}  # fmt: skip


def report(callback: TuneCallback, number: int, result: dict) -> None:
    callback.on_trial_result(0, [], trial(number), result)


def complete(callback: TuneCallback, number: int, last: dict) -> None:
    callback.on_trial_complete(0, [], trial(number, last))


def test_a_result_is_told_to_the_course_and_then_to_the_observer(callback, state) -> None:
    notebook = Notebook()
    report(callback(notebook), 1, scored(1, 0.6))
    record = state.records[1]
    assert (record.scores, record.metrics, record.seconds) == ({1: 0.6}, {1: {"lr": 0.1}}, 2.0)
    assert notebook.told == [("reported", 1, 1)]


def test_the_seconds_of_a_trial_add_up_also_over_workers_that_begin_to_count_anew(callback, state) -> None:
    told = callback()
    for epoch, seconds in ((1, 2.0), (2, 3.0), (2, 4.0), (3, 1.0)):  # a worker was lost after epoch 2
        report(told, 1, scored(epoch, seconds=seconds))
    assert state.records[1].seconds == 10.0
    assert state.records[1].seconds_at == {1: 2.0, 2: 9.0, 3: 10.0}
    report(told, 2, scored(1, seconds=10.0))
    assert state.spent_budget()


def test_an_epoch_without_a_score_takes_time_and_the_trial_with_it(callback, state) -> None:
    notebook, result = Notebook(), over("failed", epoch=2, seconds=5.0, message="out", trace="the whole of it")
    told = callback(notebook)
    report(told, 1, scored(1))
    report(told, 1, result)
    complete(told, 1, result)
    record = state.records[1]
    assert (record.status, record.message, record.scores, record.seconds) == ("failed", "out", {1: 0.5}, 7.0)
    assert notebook.told[-1] == ("ended", 1, "failed", "the whole of it")


def test_a_trial_is_completed_at_its_last_epoch_and_stopped_before_it(callback, state) -> None:
    told = callback()
    for epoch in (1, 2, 3):
        report(told, 0, scored(epoch))
    report(told, 1, scored(1))
    complete(told, 0, scored(3))
    complete(told, 1, scored(1))
    assert [record.status for record in state.records] == ["completed", "stopped", "running"]
    assert [record.seconds for record in state.records] == [6.0, 2.0, 0.0]


def test_what_ends_twice_is_told_once(callback, state) -> None:
    notebook = Notebook()
    told = callback(notebook)
    for _ in range(2):
        complete(told, 1, over("diverged"))
    assert [entry[0] for entry in notebook.told] == ["ended"]


def test_a_fault_of_the_observer_at_the_end_of_a_trial_is_raised_though_tune_would_swallow_it(callback, state) -> None:
    told = callback(Notebook(broken=LookupError("no such run")))
    report(told, 1, scored(1))
    complete(told, 1, scored(1))
    assert state.records[1].status == "stopped"
    with pytest.raises(LookupError, match="no such run"):
        told.on_step_end(0, [])


def test_a_lost_worker_is_said_with_the_last_line_of_what_is_known(callback, state, tmp_path) -> None:
    (tmp_path / "error.txt").write_text("Traceback\n  somewhere\nActorDiedError: killed\n\n")
    notebook = Notebook()
    told = callback(notebook)
    told.on_trial_error(0, [], trial(1, error_file=tmp_path / "error.txt"))
    told.on_trial_error(0, [], trial(2))
    assert state.records[1].message == "its worker was lost: ActorDiedError: killed"
    assert notebook.told[0][3].startswith("Traceback")
    assert state.records[2].message == "its worker was lost for an unknown reason"


def test_when_a_budget_is_spent_the_rest_is_stopped_and_says_why(callback, state) -> None:
    told = callback()
    for epoch in (1, 2, 3):
        report(told, 0, scored(epoch))
    report(told, 1, scored(1, seconds=14.0))
    assert _BudgetStopper(state).stop_all()
    told.end_remaining()
    assert [record.status for record in state.records] == ["completed", "stopped", "stopped"]
    assert "GPU hours is spent" in state.records[1].message


def test_an_end_that_nothing_explains_is_an_error(callback, state) -> None:
    with pytest.raises(RuntimeError, match=r"before trials \[0, 1, 2\] were complete"):
        callback().end_remaining()
    assert not any(record.ended for record in state.records)


def test_the_rule_hears_of_a_divergence_at_the_epoch_that_the_trial_did_not_reach(callback, state) -> None:
    """A worker that went on from a checkpoint counts its own epochs, and may say 1."""
    rule = build_rule("asha", Rungs(grace=2, factor=2, last=8), seed=0)
    told, ruled = callback(rule=rule), _RuleScheduler(rule, state)
    for number, score in ((0, 0.6), (1, 0.6)):
        report(told, number, scored(1, score))
    ruled.on_trial_result(None, trial(0), scored(1, 0.6))
    ruled.on_trial_result(None, trial(1), scored(1, 0.6))
    last = over("diverged", epoch=1)
    ruled.on_trial_complete(None, trial(1), last)
    complete(told, 1, last)
    ruled.on_trial_result(None, trial(0), scored(2, 0.6))
    # Of {0, 0.6} half is 0.3; without the divergence it would be 0.6.
    assert ruled.on_trial_result(None, trial(2), scored(2, 0.35)) == "CONTINUE"
    assert ruled.on_trial_result(None, trial(2), scored(4, 0.35)) == "CONTINUE"


def test_the_rule_is_asked_with_what_the_course_knows_of_the_trial(state) -> None:
    rule = build_rule("asha", Rungs(grace=1, factor=2, last=8), seed=0)
    ruled = _RuleScheduler(rule, state)
    assert ruled.on_trial_result(None, trial(1), scored(1, 0.9)) == "CONTINUE"
    assert ruled.on_trial_result(None, trial(2), scored(1, 0.1)) == "STOP"
    assert ruled.on_trial_result(None, trial(0), scored(1, 0.1)) == "CONTINUE"  # the defaults are never stopped
    assert _RuleScheduler(None, state).on_trial_result(None, trial(2), scored(1, 0.1)) == "CONTINUE"


def test_a_request_goes_to_a_worker_as_plain_values(state) -> None:
    config = _StateSearcher(state).suggest("")
    assert config == {"trial": {"number": 3, "suggestion": plain(3).to_dict(), "checkpoint": None}}
    assert number_of(SimpleNamespace(config=config)) == 3


def test_no_state_of_the_searcher_is_written(state, tmp_path) -> None:
    folder = tmp_path / "driver"
    folder.mkdir()
    _UnsavedSearch(_StateSearcher(state)).save_to_dir(str(folder), session_str="session")
    assert list(folder.iterdir()) == []
