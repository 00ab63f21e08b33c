"""What a start asks of a tracking store that is full of other people's runs, over the same in an empty one.

    python benchmarks/tracking.py --json

A start looks for the runs of killed processes (`Tracker.reap`), and for what is below a run (`Tracker.children`), as it
looks for the interrupted run of a stage. Foreign runs are written into the tables of a SQLite store, a fiftieth of them
running, once in 500 experiments of their own and once in the very experiment of the project. Each ratio compares the
fastest of some repeats. `--server` asks through `mlflow server` instead of opening the file, and takes the time
of the clock in place of the processor's.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import socket
import sqlite3
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

from components.tracking import Tracker

EXPERIMENTS = 500
RUNNING = 50
"""Every such run is running."""
TAGS = {"mlflow.user": "x", "mlflow.source.type": "LOCAL", "mlflow.runName": "r", "mlflow.parentRunId": "f" * 32}


def main() -> None:
    arguments = _arguments()
    result: dict[str, float | int | bool] = {"foreign_runs": arguments.runs, "server": arguments.server}
    clock = time.perf_counter if arguments.server else time.process_time
    for kind in ("elsewhere", "own_experiment"):
        with tempfile.TemporaryDirectory(prefix="escapement-bench-") as folder, contextlib.chdir(folder):
            file = Path(folder, "mlflow.db")
            Tracker.connect(f"sqlite:///{file}", experiment="castings")
            with _served(file) if arguments.server else contextlib.nullcontext(f"sqlite:///{file}") as uri:
                tracker = Tracker.connect(uri, experiment="castings")
                empty = _seconds(tracker, arguments.repeats, clock)
                _fill(file, arguments.runs, tracker.experiment_id if kind == "own_experiment" else None)
                full = _seconds(tracker, arguments.repeats, clock)
        result |= {f"{kind}_empty_seconds": empty, f"{kind}_full_seconds": full, f"{kind}_ratio": full / empty}
    if arguments.json:
        print(json.dumps(result))
    else:
        for name, value in result.items():
            print(f"{name:32} {value:.4g}")


def _seconds(tracker: Tracker, repeats: int, clock: Callable[[], float]) -> float:
    """The fastest of some starts' searches."""
    root = tracker.start_root("benchmark", {})
    tracker.reap()  # the first is slower
    times = []
    for _ in range(repeats):
        started = clock()
        tracker.reap()
        tracker.children(root)
        times.append(clock() - started)
    root.finish()
    return min(times)


def _fill(file: Path, runs: int, experiment: str | None) -> None:
    """Write foreign runs, with MLflow's usual tags, into the store's tables."""
    now = int(time.time() * 1000)
    with contextlib.closing(sqlite3.connect(file)) as store, store:
        if experiment is None:
            rows = [(1000 + n, f"foreign{n}", "/nowhere", "active", now, now, "default") for n in range(EXPERIMENTS)]
            store.executemany(
                "INSERT INTO experiments (experiment_id, name, artifact_location, lifecycle_stage, creation_time, "
                "last_update_time, workspace) VALUES (?, ?, ?, ?, ?, ?, ?)",
                rows,
            )
        entries = [
            (
                f"{n:032x}",
                "FINISHED" if n % RUNNING else "RUNNING",
                now,
                "active",
                experiment or 1000 + n % EXPERIMENTS,
            )
            for n in range(runs)
        ]
        store.executemany(
            "INSERT INTO runs (run_uuid, status, start_time, lifecycle_stage, experiment_id, artifact_uri) "
            "VALUES (?, ?, ?, ?, ?, '/nowhere')",
            entries,
        )
        store.executemany(
            "INSERT INTO tags (key, value, run_uuid) VALUES (?, ?, ?)",
            ((key, value, entry[0]) for entry in entries for key, value in TAGS.items()),
        )


@contextlib.contextmanager
def _served(file: Path) -> Iterator[str]:
    """The address of an MLflow server on the store."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "mlflow", "server", "--port", str(port), "--workers", "1"]
    command += ["--backend-store-uri", f"sqlite:///{file}"]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    environment = os.environ | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    server = subprocess.Popen(command, env=environment, start_new_session=True, **quiet)
    try:
        uri, until = f"http://127.0.0.1:{port}", time.monotonic() + 120
        while time.monotonic() < until:
            with contextlib.suppress(OSError), urllib.request.urlopen(f"{uri}/health", timeout=2):
                break
            time.sleep(0.5)
        yield uri
    finally:
        os.killpg(server.pid, 15)
        server.wait()


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--runs", type=int, default=50_000, help="foreign runs")
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--server", action="store_true", help="ask through an MLflow server")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    return parser.parse_args()


if __name__ == "__main__":
    main()
