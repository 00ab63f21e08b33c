"""Checkpoints in an object store, which speaks S3 on this machine: no folder is shared, and nothing is lost."""

import functools
import json
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from components.cluster import ray_session
from components.search.checkpoints import fetch
from components.search.journal import Journal
from components.search.state import Limits, SearchState
from components.search.trial import Suggestion
from components.search.tuner import TuneSettings, run_trials

pytestmark = pytest.mark.integration


class Counter:
    """Counts its epochs. At epoch 3 of trial 1 its worker is killed, the first time."""

    def __init__(self, suggestion: Suggestion, *, notes: Path) -> None:
        self._number, self._notes, self._epoch = suggestion.point["trial"], notes, 0

    def next_epoch(self) -> dict:
        self._epoch += 1
        with self._notes.open("a") as file:
            file.write(f"{self._number} {self._epoch}\n")
        if (self._number, self._epoch) == (1, 3) and self._notes.read_text().count("1 3\n") == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        return {"epoch": self._epoch, "score": 0.1 * self._epoch, "diverged": False}

    def save(self, folder: Path) -> None:
        (folder / "epoch.json").write_text(json.dumps(self._epoch))

    def load(self, folder: Path) -> None:
        self._epoch = json.loads((folder / "epoch.json").read_text())

    def close(self) -> None: ...


class InOrder:
    def suggest(self, number: int, history: list) -> Suggestion:
        return plain(number)


def plain(number: int) -> Suggestion:
    return Suggestion(point={"trial": number}, overrides={}, epochs=4)


class Interrupting:
    """Breaks the search off at an epoch of a trial."""

    def __init__(self, at: tuple[int, int] | None) -> None:
        self._at = at

    def started(self, record) -> None: ...

    def reported(self, record, result) -> None:
        if (record.number, record.epochs) == self._at:
            raise KeyboardInterrupt

    def ended(self, record, trace) -> None: ...


@pytest.fixture(scope="module")
def store() -> Iterator[str]:
    """The URI of a bucket of a server on this machine."""
    server = pytest.importorskip("moto.server").ThreadedMotoServer(port=0, verbose=False)
    server.start()
    _, port = server.get_host_and_port()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ACCESS_KEY_ID", "key")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
        uri = f"s3://trials?endpoint_override=127.0.0.1:{port}&scheme=http&region=us-east-1&allow_bucket_creation=true"
        import pyarrow.fs

        system, path = pyarrow.fs.FileSystem.from_uri(uri)
        system.create_dir(path)
        yield uri
    server.stop()


@pytest.fixture(scope="module")
def ray(store, ray_folder) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_TMPDIR", str(ray_folder))
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        with ray_session(address=None, num_cpus=3, num_gpus=0):
            yield


def search(folder: Path, store: str, *, interrupt_at: tuple[int, int] | None = None) -> list:
    state = SearchState(
        Journal(folder / "journal.jsonl"),
        InOrder(),
        Limits(num_trials=2, seconds=None, gpu_seconds=None, failure_limit=1.0),
        defaults=plain(0),
        concurrent=1,
        gpus_per_trial=0,
        unstopped_fraction=0,
        seed=0,
        clock=time.monotonic,
    )
    settings = TuneSettings(
        storage=store.replace("trials?", "trials/search?"),
        checkpoint_epochs=(1, 2),
        cpus_per_trial=1,
        gpus_per_trial=0,
        timeout=60,
        quota_bytes=1e9,
    )
    opener = functools.partial(Counter, notes=folder / "notes")
    run_trials(state, opener, [Interrupting(interrupt_at)], settings, rule=None)
    return state.records


def test_a_killed_worker_and_an_interrupted_search_go_on_from_the_store(ray, store, tmp_path) -> None:
    with pytest.raises(KeyboardInterrupt):
        search(tmp_path, store, interrupt_at=(0, 3))
    records = search(tmp_path, store)
    assert [record.status for record in records] == ["completed", "completed"]
    assert (tmp_path / "notes").read_text().split("\n")[:-1] == [
        *("0 1", "0 2", "0 3", "0 3", "0 4"),  # interrupted after its third epoch, saved after its second
        *("1 1", "1 2", "1 3", "1 3", "1 4"),  # killed in its third
    ]
    assert not list(tmp_path.rglob("epoch.json"))
    (kept,) = fetch(records[1].checkpoint, ("epoch.json",), tmp_path)
    assert json.loads(kept.read_text()) == 4
