"""Places to run the real thing in, as a process of its own, and one finished run that the integration tests share.

Nothing heavy is imported here: the unit tests load this file too.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import random
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import time
import urllib.request
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import psutil
import pytest
from filelock import FileLock
from hypothesis import HealthCheck, settings
from preloaded import Forked, Preloaded

# Several of pytest's processes share few cores: two threads of OpenMP beside a busy neighbour take many times as long.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# Ray runs its workers at niceness 15: beside a busy neighbour they would hardly run at all.
AS_NICE_AS_ALL = {"RAY_worker_niceness": "0"}
os.environ.update(AS_NICE_AS_ALL)
# The same examples in every run, however long they take.
settings.register_profile(
    "suite", deadline=None, derandomize=True, database=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("suite")

REPOSITORY = Path(__file__).resolve().parents[1]
#: Seconds after which a process is taken for one that hangs: many times what the longest takes on a busy machine.
HANGS = 900
#: By this variable a test finds again what its process has started, Ray's daemons among it.
MARK = "ESCAPEMENT_TEST"

#: The smoke configuration, shrunk: every stage in about twenty seconds, the same result on any number of cores.
SMALL = {
    "data.source": "generated:count=160,size=48,defect_rate=0.5,parts=54",
    "lr_range_test.num_seeds": 1,
    "lr_range_test.steps_per_decade": 5,
    "lr_range_test.bootstrap_samples": 20,
    "search.num_trials": 2,
    "search.max_epochs": 2,
    "search.confirm": "always",
    "train.epochs": 2,
    "evaluate.bootstrap_samples": 100,
    "promote.bootstrap_samples": 100,
    "promote.gates.min_auroc": 0,
    "promote.gates.max_escape_rate": 1,
    "promote.gates.max_overkill_rate": 1,
    "compute.device": "cpu",
    "compute.num_threads": 1,
    "compute.concurrent_trials": 1,
}


@dataclass(frozen=True)
class Ended:
    """A process that has ended."""

    code: int
    stdout: str
    stderr: str
    #: Names of processes that it left behind and that had to be killed.
    outlived: tuple[str, ...] = ()

    @property
    def summary(self) -> dict[str, Any]:
        """The JSON object on the last line of standard output."""
        return json.loads(self.stdout.splitlines()[-1])

    @property
    def actions(self) -> dict[str, str]:
        """Stage → reused, run or continued."""
        return {stage["name"]: stage["action"] for stage in self.summary["stages"]}

    def stage(self, name: str) -> dict[str, Any]:
        return next(stage for stage in self.summary["stages"] if stage["name"] == name)


@dataclass(frozen=True)
class Workplace:
    """A working directory with its own storage and MLflow store, and the processes that run in it."""

    folder: Path
    ray_folder: Path
    mark: str
    preloaded: Preloaded
    #: Sessions of the processes that were forked: their environment cannot be seen from outside.
    sessions: list[int] = field(default_factory=list)

    @property
    def storage(self) -> Path:
        return self.folder / "storage"

    @property
    def tracking_uri(self) -> str:
        return f"sqlite:///{self.folder / 'mlflow.db'}"

    def environment(self, **changes: str) -> dict[str, str]:
        """What a process here is started with."""
        return {**bare_environment(), "RAY_TMPDIR": str(self.ray_folder), MARK: self.mark, **changes}

    def start(self, *command: str | Path, **environment: str) -> subprocess.Popen[str] | Forked:
        """Start a process as a terminal would: its own group, so that a signal can reach all of it.

        This project's commands and scripts are forked from a process that has imported what they need.
        """
        words, changed = [str(part) for part in command], self.environment(**environment)
        if words[0] == sys.executable and (words[1:3] == ["-m", "pipeline"] or words[1].endswith(".py")):
            forked = self.preloaded.start(words[1:], cwd=self.folder, environment=changed)
            self.sessions.append(forked.pid)
            return forked
        return subprocess.Popen(
            words,
            cwd=self.folder,
            env=changed,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def execute(self, *command: str | Path, timeout: float = HANGS, **environment: str) -> Ended:
        """Run a process to its end."""
        process = self.start(*command, **environment)
        try:
            done = ended(process, timeout=timeout)
        finally:
            outlived = self.end_leftovers()
        return replace(done, outlived=outlived)

    def pipeline(self, command: str, overrides: Mapping[str, Any] | None = None, *options: str) -> list[str]:
        """The command line of a small run."""
        settings = [f"--set={key}={value}" for key, value in {**SMALL, **(overrides or {})}.items()]
        return [sys.executable, "-m", "pipeline", command, "--config", "smoke", *settings, *options, "--json"]

    def run(self, command: str, overrides: Mapping[str, Any] | None = None, *options: str) -> Ended:
        """A small run that has to succeed."""
        done = self.execute(*self.pipeline(command, overrides, *options))
        assert done.code == 0, done.stderr[-4000:]
        return done

    def result(self, done: Ended, stage: str) -> Path:
        """The folder of a stage's result."""
        return self.storage / stage / done.stage(stage)["fingerprint"][:16]

    def let_a_trial_win(self) -> None:
        """Rewrite what the search has found to a recipe other than the defaults, in a file of the same size."""
        (path,) = self.storage.glob("search/*/best.json")
        text = path.read_text(encoding="utf-8")
        best = json.loads(text)
        best |= {"trial": 1, "overrides": {"recipe.lr": best["defaults"]["recipe.lr"] / 2}, "fold_means": None}
        path.write_text(json.dumps(best).ljust(len(text)), encoding="utf-8")

    def client(self) -> Any:
        from mlflow import MlflowClient

        return MlflowClient(self.tracking_uri)

    def runs(self) -> list[Any]:
        """Every MLflow run of every experiment, the oldest first."""
        client = self.client()
        experiments = [experiment.experiment_id for experiment in client.search_experiments()]
        return client.search_runs(experiments, order_by=["attributes.start_time ASC"], max_results=1000)

    def running(self) -> list[str]:
        """Names of the MLflow runs that are RUNNING; none where there is no store."""
        store = self.folder / "mlflow.db"
        if not store.exists():
            return []
        with contextlib.closing(sqlite3.connect(store)) as connection:
            return [name for (name,) in connection.execute("SELECT name FROM runs WHERE status = 'RUNNING'")]

    def leftovers(self) -> list[psutil.Process]:
        """Processes that were started from here and still live."""
        return [process for process in psutil.process_iter() if self._started(process)]

    def _started(self, process: psutil.Process) -> bool:
        try:
            if process.status() == psutil.STATUS_ZOMBIE:
                return False
            return process.environ().get(MARK) == self.mark or os.getsid(process.pid) in self.sessions
        except (psutil.Error, OSError):
            return False  # ended meanwhile, or somebody else's

    def end_leftovers(self, *, patience: float = 60) -> tuple[str, ...]:
        """Ray's daemons follow their driver within seconds; whatever does not is killed. Returns the names of those."""
        wait_until(lambda: not self.leftovers(), timeout=patience, every=0.2, fail=False)
        killed = {}
        for process in self.leftovers():
            with contextlib.suppress(psutil.NoSuchProcess):
                killed[process] = process.name()
                process.kill()
        psutil.wait_procs(killed, timeout=HANGS)
        self.sessions.clear()  # their numbers may become another process's
        return tuple(killed.values())


def bare_environment() -> dict[str, str]:
    """This process's own, without what would lead elsewhere, and offline."""
    strange = ("MLFLOW_", "RAY_", "ESCAPEMENT_")
    kept = {key: value for key, value in os.environ.items() if not key.startswith(strange)}
    return {
        **kept,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{kept.get('PATH', '')}",
        "PYTHONPATH": str(REPOSITORY),
        "HF_HUB_OFFLINE": "1",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "RAY_USAGE_STATS_ENABLED": "0",
        **AS_NICE_AS_ALL,
    }


def ended(process: subprocess.Popen[str] | Forked, *, timeout: float = HANGS) -> Ended:
    """Wait for a process; one that takes too long is killed with its group."""
    try:
        stdout, stderr = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        raise
    return Ended(process.returncode, stdout, stderr)


def wait_until(condition: Callable[[], Any], *, timeout: float = 300, every: float = 0.02, fail: bool = True) -> bool:
    """Ask again and again until it holds."""
    until = time.monotonic() + timeout
    while time.monotonic() < until:
        if condition():
            return True
        time.sleep(every)
    assert not fail, f"still not so after {timeout} s"
    return False


@pytest.fixture(scope="session")
def ray_folder() -> Iterator[Path]:
    """Ray's files for the session. Its sockets need a short path, so it does not lie below pytest's own."""
    folder = Path(tempfile.mkdtemp(prefix="esc-"))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def preloaded() -> Iterator[Preloaded]:
    """What this project's commands and benchmarks are forked from."""
    process = Preloaded(bare_environment())
    yield process
    process.close()


@pytest.fixture(scope="session")
def open_workplace(ray_folder: Path, preloaded: Preloaded) -> Iterator[Callable[[Path], Workplace]]:
    """Makes workplaces, and sees to it that nothing started in them outlives the session."""
    opened: list[Workplace] = []

    def make(folder: Path) -> Workplace:
        opened.append(Workplace(folder, ray_folder, uuid.uuid4().hex, preloaded))
        return opened[-1]

    yield make
    for workplace in opened:
        workplace.end_leftovers(patience=0)


@pytest.fixture
def workplace(tmp_path: Path, open_workplace: Callable[[Path], Workplace]) -> Iterator[Workplace]:
    """An empty one."""
    place = open_workplace(tmp_path)
    yield place
    place.end_leftovers(patience=0)


@pytest.fixture(scope="session")
def finished(
    tmp_path_factory: pytest.TempPathFactory, worker_id: str, open_workplace: Callable[[Path], Workplace]
) -> tuple[Workplace, Ended]:
    """One finished run and where it was made, for tests that only look. All of pytest's processes share it."""
    own = tmp_path_factory.getbasetemp()
    shared = own if worker_id == "master" else own.parent
    place, told = open_workplace(shared / "finished"), shared / "finished.json"
    with FileLock(shared / "finished.lock"):
        if not told.exists():
            place.folder.mkdir(exist_ok=True)
            told.write_text(json.dumps(asdict(place.run("run"))), encoding="utf-8")
        done = json.loads(told.read_text(encoding="utf-8"))
    return place, Ended(**done | {"outlived": tuple(done["outlived"])})


@pytest.fixture(scope="session")
def copy_finished_to(
    finished: tuple[Workplace, Ended], open_workplace: Callable[[Path], Workplace]
) -> Callable[..., Workplace]:
    """Copies the finished run's storage and MLflow store to a folder, without the results of some stages."""
    from components.artifact_place import relocate

    original, _ = finished

    def copy(folder: Path, *without: str) -> Workplace:
        place = open_workplace(folder)
        shutil.copytree(original.storage, place.storage, ignore=shutil.ignore_patterns("*.lock"))
        shutil.copy2(original.folder / "mlflow.db", place.folder / "mlflow.db")
        relocate(place.tracking_uri)
        for stage in without:
            shutil.rmtree(place.storage / stage)
        return place

    return copy


@pytest.fixture
def copy_of_finished(tmp_path: Path, copy_finished_to: Callable[..., Workplace]) -> Callable[..., Workplace]:
    """The same, to a folder of the test's own: `copy_of_finished(*without)`."""
    return functools.partial(copy_finished_to, tmp_path)


@pytest.fixture(scope="session")
def waiting() -> Callable[..., bool]:
    """`wait_until`, for tests, which cannot import this file."""
    return wait_until


@pytest.fixture(scope="session")
def ending() -> Callable[..., Ended]:
    """`ended`, for tests, which cannot import this file."""
    return ended


@pytest.fixture(scope="session")
def unused_port() -> Callable[[], int]:
    """Finds a port that nothing listens on. Those that the system and Ray give away by themselves are left out."""

    def find() -> int:
        while True:
            port = random.randrange(20_000, 32_768)
            with socket.socket() as probe, contextlib.suppress(OSError):
                probe.bind(("127.0.0.1", port))
                return port

    return find


@pytest.fixture(scope="session")
def until_served() -> Callable[[str, subprocess.Popen[str]], None]:
    """Waits until a server, which must not end before, answers at an address: `until_served(url, process)`."""

    def answers(url: str) -> bool:
        try:
            with urllib.request.urlopen(url, timeout=5):
                return True
        except OSError:
            return False

    def wait(url: str, process: subprocess.Popen[str]) -> None:
        wait_until(lambda: process.poll() is not None or answers(url), every=0.2)
        assert process.poll() is None, f"the server has ended: {(process.communicate()[1] or '')[-4000:]}"

    return wait
