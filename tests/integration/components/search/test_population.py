"""Population-based training on a real Ray: who takes over whose state, and what is known of it afterwards."""

import functools
import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from components.cluster import ray_session
from components.search.course import Course, Limits
from components.search.journal import Journal
from components.search.population import run_population
from components.search.space import Interval, Space
from components.search.trial import Suggestion
from components.search.tuner import TuneSettings

pytestmark = pytest.mark.integration

SPACE = Space(
    (Interval("recipe.lr", 0.0, 1.0, log=False),),
    {"model.backbone": "net", "recipe.optimizer": "sgd", "recipe.batch_size": 8, "recipe.lr": 0.5},
)


class Climber:
    """Climbs by its rate at every epoch, so that the highest rates lead."""

    def __init__(self, suggestion: Suggestion, overrides: dict) -> None:
        self._rate = overrides.get("recipe.lr", 0.5)
        self._epoch, self._height = 0, 0.0
        self._changes = [{"epoch": 0, "overrides": overrides}]
        self._own = overrides

    def next_epoch(self) -> dict:
        self._epoch += 1
        self._height += self._rate
        return {"epoch": self._epoch, "score": self._height, "diverged": False, "changes": self._changes}

    def save(self, folder: Path) -> None:
        state = {"epoch": self._epoch, "height": self._height, "changes": self._changes}
        (folder / "state.json").write_text(json.dumps(state))

    def load(self, folder: Path) -> None:
        state = json.loads((folder / "state.json").read_text())
        self._epoch, self._height, self._changes = state["epoch"], state["height"], state["changes"]
        if self._changes[-1]["overrides"] != self._own:
            self._changes.append({"epoch": self._epoch, "overrides": self._own})

    def close(self) -> None: ...


class Evenly:
    def suggest(self, number: int, history: list) -> Suggestion:
        u = number / 8
        return Suggestion(point={"recipe.lr": u}, overrides={"recipe.lr": u}, epochs=4)


class Silent:
    def started(self, record) -> None: ...
    def reported(self, record, result) -> None: ...
    def ended(self, record, trace) -> None: ...
    def tick(self) -> None: ...


@pytest.fixture(scope="module", autouse=True)
def ray(ray_folder) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_TMPDIR", str(ray_folder))
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        with ray_session(address=None, num_cpus=2, num_gpus=0):
            yield


def population(folder: Path) -> list:
    folder.mkdir()
    course = Course(
        Journal(folder / "journal.jsonl"),
        Evenly(),
        Limits(num_trials=8, seconds=None, gpu_seconds=None, failure_limit=1.0),
        defaults=Suggestion(point={}, overrides={}, epochs=4),
        concurrent=None,
        gpus_per_trial=0,
        unstopped_fraction=0,
        seed=0,
        clock=time.monotonic,
    )
    settings = TuneSettings(
        storage=str(folder),
        checkpoint_epochs=(4,),
        cpus_per_trial=1,
        gpus_per_trial=0,
        timeout=60,
        quota_bytes=1e9,
    )
    run_population(course, functools.partial(Climber), Silent(), settings, space=SPACE, interval=1, seed=3)
    return course.records


def test_the_lowest_take_over_from_the_highest_and_the_course_of_settings_explains_the_score(tmp_path) -> None:
    records = population(tmp_path / "a")
    assert [record.status for record in records] == ["completed"] * 8
    assert [sorted(record.scores) for record in records] == [[1, 2, 3, 4]] * 8
    taken_over = [record for record in records if len(record.changes) > 1]
    assert taken_over
    for record in records[1:]:
        edges = [*(change["epoch"] for change in record.changes), 4]
        rates = [change["overrides"].get("recipe.lr", 0.5) for change in record.changes]
        height = sum(rate * (after - before) for rate, before, after in zip(rates, edges[:-1], edges[1:], strict=True))
        assert record.scores[4] == pytest.approx(height)
    # the lowest rate of all, an eighth, would have climbed to a half
    assert records[1].scores[4] > 1
    assert len(records[0].changes) == 1
    assert records[0].scores[4] == pytest.approx(2.0)


def test_the_same_seed_gives_the_same_population(tmp_path) -> None:
    first, second = population(tmp_path / "a"), population(tmp_path / "b")
    assert [record.changes for record in first] == [record.changes for record in second]
