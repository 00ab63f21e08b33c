"""The pipeline as a job of a Ray cluster, submitted as the documentation has it."""

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

pytest.importorskip("ray.dashboard.modules.job.cli", reason="needs ray[default]")
pytestmark = pytest.mark.integration

REPOSITORY = Path(__file__).parents[2]
RAY = Path(sys.executable).parent / "ray"
#: Whether Ray asks for a token depends on what this user has done before; here it never does.
OPEN = {"RAY_AUTH_MODE": "disabled"}


@dataclass
class Head:
    """A head node of two cores, started as on any machine: in a process of its own, with its own ports."""

    place: object
    folder: Path
    dashboard: int
    process: subprocess.Popen

    def answers(self) -> bool:
        done = subprocess.run(
            [RAY, "job", "list", "--address", f"http://127.0.0.1:{self.dashboard}"],
            env=self.place.environment(**OPEN), capture_output=True, text=True,
        )  # fmt: skip
        return done.returncode == 0


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


@pytest.fixture
def head(workplace, waiting) -> Iterator[Head]:
    folder = Path(tempfile.mkdtemp(prefix="esc-"))
    dashboard = free_port()
    command = [
        *(RAY, "start", "--head", "--block", "--num-cpus", "2", "--temp-dir", str(folder)),
        *("--port", str(free_port()), "--dashboard-host", "127.0.0.1", "--dashboard-port", str(dashboard)),
        *("--dashboard-agent-listen-port", str(free_port()), "--dashboard-agent-grpc-port", str(free_port())),
        *("--include-dashboard", "true", "--disable-usage-stats", "--node-ip-address", "127.0.0.1"),
    ]
    process = subprocess.Popen(
        command, env=workplace.environment(**OPEN), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        start_new_session=True,
    )  # fmt: skip
    made = Head(workplace, folder, dashboard, process)
    try:
        waiting(made.answers, timeout=90, every=1.0)
        yield made
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        workplace.end_leftovers()
        shutil.rmtree(folder, ignore_errors=True)


def test_a_submitted_job_runs_the_pipeline_on_the_cluster(workplace, head):
    overrides = {
        "compute.ray_address": "auto",
        "storage.root": workplace.storage,
        "tracking.uri": workplace.tracking_uri,
        "search.confirm_seeds": 0,
    }
    pipeline = workplace.pipeline("run", overrides)
    command = [RAY, "job", "submit", "--address", f"http://127.0.0.1:{head.dashboard}", "--working-dir", REPOSITORY]
    done = workplace.execute(*command, "--", *pipeline, timeout=400, **OPEN)
    assert done.code == 0, done.stdout[-4000:]
    assert re.search(r"succeeded", done.stdout, flags=re.IGNORECASE)
    (record,) = workplace.storage.glob("train/*/stage.json")
    assert (record.parent / "model" / "MLmodel").is_file()
    waited = time.monotonic() + 10
    while workplace.running() and time.monotonic() < waited:
        time.sleep(0.2)
    assert workplace.running() == []
