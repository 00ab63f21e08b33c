"""A session as Tune drives it: what goes wrong in a trial is a result of the trial's. No Ray runs here."""

import json
import math
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from components.search import trainable
from components.search.rungs import WORST_SCORE
from components.search.trainable import EpochTrainable
from components.search.trial import Suggestion


class Script:
    """Plays scores; an exception among them is raised, and an event is waited for."""

    def __init__(self, suggestion: Suggestion, *, scores: list, log: list) -> None:
        self.suggestion, self._scores, self.log = suggestion, scores, log
        self._epoch = 0
        self.log.append(("opened", threading.current_thread().name))

    def next_epoch(self) -> dict:
        outcome = self._scores[self._epoch]
        self._epoch += 1
        self.log.append(("epoch", self._epoch, threading.current_thread().name))
        if isinstance(outcome, Exception):
            raise outcome
        if isinstance(outcome, threading.Event):
            outcome.wait()
            outcome = 0.5
        diverged = outcome is None
        score = math.nan if diverged else outcome
        return {"epoch": self._epoch, "score": score, "diverged": diverged, "metrics": {"lr": 0.1}}

    def save(self, folder: Path) -> None:
        (folder / "epoch.json").write_text(json.dumps(self._epoch))

    def load(self, folder: Path) -> None:
        self._epoch = json.loads((folder / "epoch.json").read_text())

    def close(self) -> None:
        self.log.append(("closed", self._epoch))


def trial(*, epochs: int = 3, checkpoint: str | None = None) -> dict:
    suggestion = Suggestion(point={"u": 0.5}, overrides={"recipe.lr": 0.7}, epochs=epochs)
    return {
        "number": 4,
        "suggestion": suggestion.to_dict(),
        "checkpoint": checkpoint,
    }


class ProcessEnded(BaseException):
    """What stands for the end of the worker, which a test survives."""


@pytest.fixture(autouse=True)
def survivor(monkeypatch) -> None:
    def end() -> None:
        raise ProcessEnded

    monkeypatch.setattr(trainable, "_end_this_process", end)


@pytest.fixture
def begin():
    """A trainable without the constructor of Ray's, which makes folders in the home."""
    made = []

    def make(scores: list, *, rungs: tuple[int, ...] = (1,), timeout: float = 300.0, opener=None, **of_order):
        log: list = []
        one = EpochTrainable.__new__(EpochTrainable)
        one.setup(
            {"trial": trial(**of_order)},
            open_session=opener or (lambda suggestion: Script(suggestion, scores=scores, log=log)),
            checkpoint_epochs=rungs,
            timeout=timeout,
        )
        one.log = log
        made.append(one)
        return one

    yield make
    for one in made:
        one._thread.shutdown(wait=False)


# --- epochs


def test_each_step_is_an_epoch_and_the_last_is_that_of_the_suggestion(begin) -> None:
    steps = begin([0.5, 0.6, 0.7], epochs=3)
    results = [steps.step() for _ in range(3)]
    assert [(result["epoch"], result["score"], result["outcome"]) for result in results] == [
        (1, 0.5, "scored"), (2, 0.6, "scored"), (3, 0.7, "scored"),
    ]  # fmt: skip
    assert [result["done"] for result in results] == [False, False, True]
    assert [result["metrics"] for result in results] == [{"lr": 0.1}] * 3


def test_it_is_saved_at_the_checkpoint_epochs_and_at_the_last(begin) -> None:
    steps = begin([0.5] * 4, epochs=4, rungs=(1, 3, 9))
    assert [steps.step()["should_checkpoint"] for _ in range(4)] == [True, False, True, True]


def test_an_epoch_tells_how_long_it_took(begin, monkeypatch) -> None:
    now = [100.0]
    monkeypatch.setattr(trainable, "time", SimpleNamespace(perf_counter=lambda: now[0]))

    class Working(Script):
        def next_epoch(self) -> dict:
            now[0] += 2.0 + self._epoch
            return super().next_epoch()

    steps = begin([], opener=lambda suggestion: Working(suggestion, scores=[0.5] * 3, log=[]))
    assert [steps.step()["seconds"] for _ in range(3)] == [2.0, 3.0, 4.0]


def test_one_thread_opens_the_session_and_trains_all_of_it(begin) -> None:
    steps = begin([0.5, 0.6, 0.7])
    for _ in range(3):
        steps.step()
    assert len({entry[-1] for entry in steps.log}) == 1
    assert steps.log[0][1].startswith("trial")


def test_a_run_that_a_launcher_handed_over_is_nothing_to_a_worker(begin, monkeypatch) -> None:
    monkeypatch.setenv("MLFLOW_RUN_ID", "the project's own")
    begin([0.5])
    assert "MLFLOW_RUN_ID" not in os.environ


# --- what goes wrong


def test_what_is_raised_is_a_result_with_its_message_and_trace(begin) -> None:
    steps = begin([0.5, RuntimeError("the lamp\n  went out")])
    steps.step()
    result = steps.step()
    assert (result["outcome"], result["epoch"], result["score"]) == ("failed", 2, WORST_SCORE)
    assert result["message"] == "RuntimeError: the lamp went out"
    assert "next_epoch" in result["trace"]
    assert (result["done"], result["should_checkpoint"], result["diverged"]) == (True, False, False)
    assert result["metrics"] == {}
    steps.cleanup()  # nothing asks for the end of the process


def test_a_long_message_is_cut(begin) -> None:
    assert len(begin([ValueError("x" * 9999)]).step()["message"]) == 300


def test_a_session_that_cannot_be_opened_is_a_result_too(begin) -> None:
    def opener(suggestion: Suggestion) -> Script:
        raise ValueError("no such lens")

    result = begin([], opener=opener).step()
    assert (result["outcome"], result["message"], result["epoch"]) == ("failed", "ValueError: no such lens", 1)


@pytest.mark.parametrize("score", [None, math.nan, math.inf, -math.inf])
def test_what_is_not_finite_has_diverged_and_is_held_to_have_scored_worst(begin, score: float | None) -> None:
    steps = begin([0.9, score])
    steps.step()
    result = steps.step()
    assert (result["outcome"], result["diverged"], result["epoch"]) == ("diverged", True, 2)
    assert (result["score"], result["done"], result["should_checkpoint"]) == (WORST_SCORE, True, False)
    assert (result["message"], result["trace"]) == ("", "")


@pytest.fixture
def never() -> Iterator[threading.Event]:
    """It comes after the test, whose threads could not end otherwise."""
    event = threading.Event()
    yield event
    event.set()


@pytest.mark.parametrize("then", ["the next trial", "no other"])
def test_an_epoch_that_does_not_end_is_a_failure_and_the_end_of_the_worker(begin, never, then: str) -> None:
    steps = begin([0.5, never])
    assert steps.step()["outcome"] == "scored"
    steps._timeout = 0.2
    result = steps.step()
    assert result["outcome"] == "failed"
    assert "search.epoch_timeout_minutes" in result["message"]
    if then == "the next trial":
        assert steps.reset_config({"trial": trial()})
    with pytest.raises(ProcessEnded):
        steps.step() if then == "the next trial" else steps.cleanup()


def test_after_an_error_of_cuda_the_worker_ends_and_after_another_it_stays(begin) -> None:
    memory = begin([RuntimeError("CUDA out of memory"), 0.5])
    assert [memory.step()["outcome"] for _ in range(2)] == ["failed", "scored"]
    asserted = begin([RuntimeError("CUDA error: device-side assert triggered"), 0.5])
    assert asserted.step()["outcome"] == "failed"
    with pytest.raises(ProcessEnded):
        asserted.step()


# --- saving, going on, and the next trial


def test_what_is_saved_is_gone_on_with(begin, tmp_path) -> None:
    steps = begin([0.5, 0.6, 0.7])
    steps.step()
    steps.step()
    steps.save_checkpoint(str(tmp_path))
    other = begin([0.5, 0.6, 0.75])
    other.load_checkpoint(str(tmp_path))
    result = other.step()
    assert (result["epoch"], result["score"], result["done"]) == (3, 0.75, True)


def test_an_order_may_name_a_checkpoint_to_go_on_from(begin, tmp_path) -> None:
    (tmp_path / "epoch.json").write_text("2")
    steps = begin([0.5, 0.6, 0.7], checkpoint=str(tmp_path))
    assert (steps.step()["epoch"], len(steps.log)) == (3, 2)


def test_what_tune_brings_is_newer_than_what_the_order_named(begin, tmp_path) -> None:
    for name, epoch in (("old", 1), ("new", 2)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "epoch.json").write_text(str(epoch))
    steps = begin([0.5, 0.6, 0.7], checkpoint=str(tmp_path / "old"))
    steps.load_checkpoint(str(tmp_path / "new"))
    assert steps.step()["epoch"] == 3


def test_a_checkpoint_that_is_gone_fails_the_trial_and_says_which(begin, tmp_path) -> None:
    result = begin([0.5], checkpoint=str(tmp_path / "gone")).step()
    assert result["outcome"] == "failed"
    assert "gone" in result["message"]


def test_the_worker_takes_one_trial_after_the_other(begin) -> None:
    steps = begin([0.5, 0.6, 0.7], epochs=2)
    steps.step()
    assert steps.reset_config({"trial": trial(epochs=1)}) is True
    assert steps.log[-1] == ("closed", 1)
    result = steps.step()
    assert (result["epoch"], result["done"]) == (1, True)
    assert steps.log[-2][0] == "opened"
    steps.cleanup()
    assert steps.log[-1] == ("closed", 1)


def test_a_trial_that_failed_is_closed_before_the_next(begin) -> None:
    steps = begin([RuntimeError("out")])
    steps.step()
    steps.reset_config({"trial": trial()})
    assert [entry[0] for entry in steps.log] == ["opened", "epoch", "closed"]


def test_without_a_session_there_is_nothing_to_save(begin, tmp_path) -> None:
    begin([0.5]).save_checkpoint(str(tmp_path))
    assert list(tmp_path.iterdir()) == []
