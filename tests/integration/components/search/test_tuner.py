"""A real Ray, small sessions: how trials end, what the observer is told, and what an interrupted search repeats."""

import functools
import json
import math
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from components.cluster import ray_session
from components.search.tuner import TuneSettings, run_trials, rung_epochs

pytestmark = pytest.mark.integration

#: The score of each trial after each of at most three epochs; None diverges, a text is raised.
SCORES: tuple[tuple[float | str | None, ...], ...] = (
    (0.5, 0.55, 0.6),  # 0: the defaults
    (0.8, 0.85, 0.9),
    (0.1, 0.1, 0.1),  # no match for the first two at the rung after epoch 1
    (0.95, None),
    (0.96, "the lamp went out"),
    (math.nan,),
)


class Script:
    """Plays the scores of its trial, and notes in a file every epoch that it was asked for."""

    def __init__(self, index: int, notes: Path, seconds: float) -> None:
        self._index, self._notes, self._seconds, self._epoch = index, notes, seconds, 0

    def next_epoch(self) -> dict:
        time.sleep(self._seconds)
        outcome = SCORES[self._index][self._epoch]
        self._epoch += 1
        with self._notes.open("a") as file:
            file.write(f"{self._index} {self._epoch}\n")
        if isinstance(outcome, str):
            raise RuntimeError(outcome)
        return {"score": math.nan if outcome is None else outcome, "diverged": outcome is None, "extra": 7}

    def save(self, path: Path) -> None:
        path.write_text(json.dumps(self._epoch))

    def load(self, path: Path) -> None:
        self._epoch = json.loads(path.read_text())


class Notebook:
    """An observer that writes down what it is told; it may break off the search."""

    def __init__(self, *, interrupt_at: tuple[int, int] | None = None) -> None:
        self.told: list[tuple] = []
        self._interrupt_at = interrupt_at

    def started(self, index: int) -> None:
        self.told.append(("started", index))

    def reported(self, index: int, result: dict) -> None:
        self.told.append(("reported", index, result["training_iteration"], result["score"], result["extra"]))
        if (index, result["training_iteration"]) == self._interrupt_at:
            raise KeyboardInterrupt

    def ended(self, index: int, status: str, message: str) -> None:
        self.told.append(("ended", index, status, message))

    def about(self, index: int) -> list[str]:
        return [entry[0] for entry in self.told if entry[1] == index]


@pytest.fixture(scope="module", autouse=True)
def ray(ray_folder) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_TMPDIR", str(ray_folder))
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        # an interrupted search leaves its worker to the next one's garbage collector: a core to spare
        with ray_session(address=None, num_cpus=3, num_gpus=0):
            yield


def settings(folder: Path) -> TuneSettings:
    return TuneSettings(
        storage=folder,
        max_epochs=3,
        grace_epochs=1,
        reduction_factor=3,
        concurrent=1,
        cpus_per_trial=1,
        gpus_per_trial=0,
    )


def opener(folder: Path, *, seconds: float = 0.0) -> functools.partial:
    return functools.partial(Script, notes=folder / "notes", seconds=seconds)


def epochs_asked_for(folder: Path) -> list[tuple[int, int]]:
    return [tuple(int(part) for part in line.split()) for line in (folder / "notes").read_text().splitlines()]


def test_rungs_multiply_up_to_the_last_epoch(tmp_path) -> None:
    assert rung_epochs(settings(tmp_path)) == (1, 3)


def test_trials_end_in_their_own_ways_and_the_observer_hears_of_each_once(tmp_path) -> None:
    notebook = Notebook()
    results = run_trials(len(SCORES), opener(tmp_path), notebook, settings(tmp_path))
    assert [result.index for result in results] == list(range(len(SCORES)))
    assert [result.status for result in results] == [
        "completed",
        "completed",
        "stopped",
        "diverged",
        "failed",
        "diverged",
    ]
    assert [result.epochs for result in results] == [3, 3, 1, 2, 1, 1]
    assert [result.score for result in results] == [0.6, 0.9, 0.1, None, None, None]
    assert [result.scores for result in results] == [SCORES[0], SCORES[1], (0.1,), (0.95,), (0.96,), ()]
    assert [result.message for result in results][:4] == [""] * 4
    assert "the lamp went out" in results[4].message
    assert all(result.seconds >= 0 for result in results)
    assert epochs_asked_for(tmp_path).count((2, 2)) == 0

    assert notebook.about(0) == ["started", "reported", "reported", "reported", "ended"]
    assert notebook.about(2) == ["started", "reported", "ended"]
    assert notebook.about(4) == ["started", "reported", "ended"]
    assert ("reported", 3, 2, 0.0, 7) in notebook.told  # what diverged is told with the worst score
    ends = {entry[1]: entry[2] for entry in notebook.told if entry[0] == "ended"}
    assert ends == {result.index: result.status for result in results}
    assert [entry[1] for entry in notebook.told if entry[0] == "ended"] == list(range(len(SCORES)))


def test_an_interrupted_search_goes_on_without_repeating_what_is_done(tmp_path) -> None:
    first = Notebook(interrupt_at=(2, 1))
    with pytest.raises(KeyboardInterrupt):
        run_trials(4, opener(tmp_path, seconds=0.7), first, settings(tmp_path))
    done = {entry[1] for entry in first.told if entry[0] == "ended"}
    assert done == {0, 1}
    before = epochs_asked_for(tmp_path)

    second = Notebook()
    results = run_trials(4, opener(tmp_path), second, settings(tmp_path))
    # trial 2 begins anew, and is still held against the trials that ended before the interruption
    assert [result.status for result in results] == ["completed", "completed", "stopped", "diverged"]
    assert [result.score for result in results][:2] == [0.6, 0.9]
    assert [result.scores for result in results] == [SCORES[0], SCORES[1], (0.1,), (0.95,)]
    again = epochs_asked_for(tmp_path)[len(before) :]
    assert not {index for index, _ in again} & done
    assert {entry[1] for entry in second.told} == {2, 3}


def test_a_finished_search_that_is_asked_for_again_trains_nothing(tmp_path) -> None:
    expected = run_trials(2, opener(tmp_path), Notebook(), settings(tmp_path))
    before = epochs_asked_for(tmp_path)
    again = run_trials(2, opener(tmp_path), Notebook(), settings(tmp_path))
    assert epochs_asked_for(tmp_path) == before
    assert [(r.index, r.status, r.score) for r in again] == [(r.index, r.status, r.score) for r in expected]
