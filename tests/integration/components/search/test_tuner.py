"""A real Ray, small sessions: how trials end, what the observer is told, and what an interrupted search repeats."""

import functools
import gc
import json
import math
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import ray

from components.cluster import ray_session
from components.search.journal import Journal
from components.search.rungs import Rungs, build_rule
from components.search.state import Limits, SearchState
from components.search.trial import Suggestion
from components.search.tuner import TuneSettings, run_trials

pytestmark = pytest.mark.integration

#: The score of each trial after each of at most three epochs; None diverges, a text is raised or tells what to do.
SCORES: tuple[tuple[float | str | None, ...], ...] = (
    (0.5, 0.55, 0.6),  # 0: the defaults
    (0.8, 0.85, 0.9),
    (0.1, 0.1, 0.1),  # no match for the first two at the rung after epoch 1
    (0.95, None),
    (0.96, "the lamp went out"),
    (math.nan,),
)
CORES = 2
HANG, DIE_ONCE, SLOW = "hang", "die once", "slow"


class Script:
    """Plays the scores of its trial, and notes in a file every epoch that it was asked for."""

    def __init__(self, suggestion: Suggestion, *, scores, notes: Path) -> None:
        self._index = suggestion.point["trial"]
        self._scores, self._notes, self._epoch = scores[self._index], notes, 0
        if self._scores == "unopened":
            raise ValueError("no such lens")

    def next_epoch(self) -> dict:
        outcome = self._scores[self._epoch]
        self._epoch += 1
        first_time = f"{self._index} {self._epoch}\n" not in (self._notes.read_text() if self._notes.exists() else "")
        with self._notes.open("a") as file:
            file.write(f"{self._index} {self._epoch}\n")
        if outcome == HANG:
            time.sleep(600)
        if outcome == SLOW:  # until four others have failed, and their search knows
            while not (self._notes.parent / "trial 4 ended").exists():
                time.sleep(0.1)
            outcome = 0.5
        if outcome == DIE_ONCE:
            if first_time:
                os.kill(os.getpid(), signal.SIGKILL)
            outcome = 0.7
        if isinstance(outcome, str):
            raise RuntimeError(outcome)
        score = math.nan if outcome is None else outcome
        return {"epoch": self._epoch, "score": score, "diverged": outcome is None, "extra": 7}

    def save(self, folder: Path) -> None:
        (folder / "epoch.json").write_text(json.dumps(self._epoch))

    def load(self, folder: Path) -> None:
        self._epoch = json.loads((folder / "epoch.json").read_text())

    def close(self) -> None: ...


class InOrder:
    """A sampler that suggests trial 1, 2, …"""

    def suggest(self, number: int, history: list) -> Suggestion:
        return plain(number)


def plain(number: int) -> Suggestion:
    return Suggestion(point={"trial": number}, overrides={"trial": number}, epochs=3)


class Notebook:
    """An observer that writes down what it is told; it may break off the search. Its time is that of the reports.

    folder: where a file says that a trial has ended.
    """

    def __init__(self, *, interrupt_at: tuple[int, int] | None = None, folder: Path | None = None) -> None:
        self.told: list[tuple] = []
        self._interrupt_at, self._folder = interrupt_at, folder

    def time(self) -> float:
        """A second per report."""
        return sum(entry[0] == "reported" for entry in self.told)

    def started(self, record) -> None:
        self.told.append(("started", record.number))

    def reported(self, record, result: dict) -> None:
        self.told.append(("reported", record.number, result["epoch"], result["score"], result.get("extra")))
        if (record.number, result["epoch"]) == self._interrupt_at:
            raise KeyboardInterrupt

    def ended(self, record, trace: str) -> None:
        self.told.append(("ended", record.number, record.status, record.message, trace))
        if self._folder is not None:
            (self._folder / f"trial {record.number} ended").touch()

    def about(self, index: int) -> list[str]:
        return [entry[0] for entry in self.told if entry[1] == index]


@pytest.fixture(scope="module", autouse=True)
def session(ray_folder) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_TMPDIR", str(ray_folder))
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        with ray_session(address=None, num_cpus=CORES, num_gpus=0):
            yield


@pytest.fixture(autouse=True)
def free_cores(waiting) -> Iterator[None]:
    """An interrupted search leaves its worker, and its core, to the garbage collector."""
    yield
    gc.collect()
    waiting(lambda: ray.available_resources().get("CPU") == CORES, every=0.1)


def search(
    folder: Path,
    num_trials: int,
    observer: Notebook,
    *,
    scores=SCORES,
    rule: str = "asha",
    timeout: float = 240,
    limits: dict | None = None,
    quota_bytes: float = 1e9,
    concurrent: int = 1,
    together: int = 0,
) -> SearchState:
    """Run (or go on with) a search in a folder; how it went."""
    rungs = Rungs(grace=1, factor=3, last=3)
    state = SearchState(
        Journal(folder / "journal.jsonl"),
        InOrder(),
        Limits(
            **{"num_trials": num_trials, "seconds": None, "gpu_seconds": None, "failure_limit": 1.0, **(limits or {})}
        ),
        defaults=plain(0),
        concurrent=concurrent,
        gpus_per_trial=0,
        unstopped_fraction=0,
        seed=0,
        clock=observer.time,
    )
    settings = TuneSettings(
        storage=str(folder),
        checkpoint_epochs=rungs.epochs,
        cpus_per_trial=1,
        gpus_per_trial=0,
        timeout=timeout,
        quota_bytes=quota_bytes,
    )
    opener = functools.partial(Script, scores=scores, notes=folder / "notes")
    run_trials(state, opener, [observer], settings, rule=build_rule(rule, rungs, seed=0, together=together))
    return state


def epochs_asked_for(folder: Path) -> list[tuple[int, int]]:
    return [tuple(int(part) for part in line.split()) for line in (folder / "notes").read_text().splitlines()]


def test_trials_end_in_their_own_ways_and_the_observer_hears_of_each_once(tmp_path) -> None:
    notebook = Notebook()
    records = search(tmp_path, len(SCORES), notebook).records
    assert [record.number for record in records] == list(range(len(SCORES)))
    assert [record.status for record in records] == [
        *("completed", "completed", "stopped", "diverged", "failed", "diverged")
    ]
    assert [list(record.scores.values()) for record in records] == [
        *([0.5, 0.55, 0.6], [0.8, 0.85, 0.9], [0.1], [0.95], [0.96], [])
    ]
    assert [record.score for record in records] == [0.6, 0.9, 0.1, None, None, None]
    assert [record.message for record in records] == ["", "", "", "", "RuntimeError: the lamp went out", ""]
    assert all(record.seconds > 0 for record in records)
    assert epochs_asked_for(tmp_path).count((2, 2)) == 0

    assert notebook.about(0) == ["started", "reported", "reported", "reported", "ended"]
    assert notebook.about(2) == ["started", "reported", "ended"]
    assert notebook.about(4) == ["started", "reported", "reported", "ended"]
    ends = {entry[1]: entry[2:] for entry in notebook.told if entry[0] == "ended"}
    assert {number: end[0] for number, end in ends.items()} == {record.number: record.status for record in records}
    assert "next_epoch" in ends[4][2]
    assert [entry[1] for entry in notebook.told if entry[0] == "ended"] == list(range(len(SCORES)))


def test_an_interrupted_search_goes_on_without_repeating_what_is_done(tmp_path) -> None:
    first = Notebook(interrupt_at=(2, 1))
    with pytest.raises(KeyboardInterrupt):
        search(tmp_path, 4, first)
    done = {entry[1] for entry in first.told if entry[0] == "ended"}
    assert done == {0, 1}
    before = epochs_asked_for(tmp_path)

    second = Notebook()
    records = search(tmp_path, 4, second).records
    # trial 2 begins anew, and is still held against the trials that ended before the interruption
    assert [record.status for record in records] == ["completed", "completed", "stopped", "diverged"]
    assert [record.score for record in records][:2] == [0.6, 0.9]
    again = epochs_asked_for(tmp_path)[len(before) :]
    assert not {index for index, _ in again} & done
    assert {entry[1] for entry in second.told} == {2, 3}


def test_an_interrupted_trial_goes_on_from_its_checkpoint(tmp_path) -> None:
    with pytest.raises(KeyboardInterrupt):
        search(tmp_path, 2, Notebook(interrupt_at=(1, 2)))
    records = search(tmp_path, 2, Notebook()).records
    assert epochs_asked_for(tmp_path) == [(0, 1), (0, 2), (0, 3), (1, 1), (1, 2), (1, 2), (1, 3)]
    assert records[1].scores == {1: 0.8, 2: 0.85, 3: 0.9}


def test_the_first_trials_wait_for_each_other_also_where_the_search_is_interrupted(tmp_path) -> None:
    scores = ((0.5, 0.5, 0.5), (0.6, 0.6, 0.6), (0.8, 0.85, 0.9), (0.7, 0.7, 0.7))
    with pytest.raises(KeyboardInterrupt):
        search(tmp_path, 4, Notebook(interrupt_at=(3, 1)), scores=scores, together=4)
    records = search(tmp_path, 4, Notebook(), scores=scores, together=4).records
    assert [record.status for record in records] == ["completed", "stopped", "completed", "stopped"]
    assert records[2].scores == {1: 0.8, 2: 0.85, 3: 0.9}
    # One of four goes on, when all have come to the rung, and from where it was.
    assert epochs_asked_for(tmp_path) == [
        *((0, 1), (0, 2), (0, 3), (1, 1), (2, 1), (3, 1), (3, 1)),
        *((2, 2), (2, 3)),
    ]


def test_a_finished_search_that_is_asked_for_again_trains_nothing(tmp_path) -> None:
    expected = search(tmp_path, 2, Notebook()).records
    before = epochs_asked_for(tmp_path)
    again = search(tmp_path, 2, Notebook()).records
    assert epochs_asked_for(tmp_path) == before
    assert again == expected


def test_a_trial_that_hangs_or_cannot_be_opened_fails_alone(tmp_path) -> None:
    scores = ((0.5, 0.5, 0.5), (0.6, HANG), "unopened", (0.7, 0.7, 0.8))
    records = search(tmp_path, 4, Notebook(), scores=scores, rule="none", timeout=10).records
    assert [record.status for record in records] == ["completed", "failed", "failed", "completed"]
    assert "search.epoch_timeout_minutes" in records[1].message
    assert records[2].message == "ValueError: no such lens"


def test_a_trial_whose_worker_is_killed_goes_on_from_its_checkpoint(tmp_path) -> None:
    scores = ((0.5, 0.5, 0.5), (0.6, DIE_ONCE, 0.8))
    records = search(tmp_path, 2, Notebook(), scores=scores, rule="none").records
    assert [record.status for record in records] == ["completed", "completed"]
    assert records[1].scores == {1: 0.6, 2: 0.7, 3: 0.8}
    assert epochs_asked_for(tmp_path)[3:] == [(1, 1), (1, 2), (1, 2), (1, 3)]


def test_a_search_whose_trials_fail_alike_stops_and_names_the_cause(tmp_path) -> None:
    scores = ((0.5, 0.5, 0.5), *[("no lens",)] * 7)
    state = search(tmp_path, 8, Notebook(), scores=scores, limits={"failure_limit": 0.5})
    assert len(state.records) == 4
    assert state.common_failure() == "3 of 4 trials failed, 3 of them with: RuntimeError: no lens"


def test_what_was_running_when_too_many_failed_goes_on_once_the_cause_is_removed(tmp_path) -> None:
    scores = ((0.5, 0.5, 0.5), *[("no lens",)] * 8)
    limits = {"failure_limit": 0.5}
    # The defaults take their time; the others fail beside them.
    slow = ((0.5, SLOW, 0.5), *scores[1:])
    state = search(tmp_path, 9, Notebook(folder=tmp_path), scores=slow, limits=limits, concurrent=2)
    assert "with: RuntimeError: no lens" in state.common_failure()
    assert not state.records[0].ended
    mended = ((0.5, 0.5, 0.6), *[(0.4, 0.4, 0.4)] * 8)
    records = search(tmp_path, 9, Notebook(), scores=mended, rule="none", limits=limits, concurrent=2).records
    assert records[0].score == 0.6
    assert [record.status for record in records].count("failed") == 4
    assert len(records) == 9


def test_a_search_ends_when_its_time_is_over(tmp_path) -> None:
    scores = [(0.5, 0.5, 0.5)] * 50
    state = search(tmp_path, 50, Notebook(), scores=scores, rule="none", limits={"seconds": 7.0})
    assert len(state.records) == 3  # of three epochs each
    assert all(record.ended for record in state.records)
    assert state.spent_budget()


def test_checkpoints_beyond_the_quota_are_removed_but_for_the_best_and_the_defaults(tmp_path) -> None:
    scores = ((0.1, 0.1, 0.1), (0.9, 0.9, 0.9), (0.3, 0.3, 0.3), (0.4, 0.4, 0.4))
    records = search(tmp_path, 4, Notebook(), scores=scores, rule="none", quota_bytes=0).records
    assert [record.checkpoint is not None for record in records] == [True, True, False, False]
    left = {path.parents[1].name for path in tmp_path.rglob("epoch.json")}
    assert left == {"trial-0", "trial-1"}
