"""The pipeline as a job of a Ray cluster, submitted as the documentation has it."""

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
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

    def takes_jobs(self) -> bool:
        """Whether it starts one; its list of jobs is there long before."""
        done = subprocess.run(
            [RAY, "job", "submit", "--address", f"http://127.0.0.1:{self.dashboard}", "--no-wait", "--", "true"],
            env=self.place.environment(**OPEN), capture_output=True, text=True,
        )  # fmt: skip
        return done.returncode == 0


@pytest.fixture
def head(tmp_path, open_workplace, waiting, unused_port) -> Iterator[Head]:
    place = open_workplace(tmp_path / "head")  # of its own: what is run in the test's does not wait for the head's end
    folder = Path(tempfile.mkdtemp(prefix="esc-"))
    dashboard = unused_port()
    command = [
        *(RAY, "start", "--head", "--block", "--num-cpus", "2", "--temp-dir", str(folder)),
        *("--port", str(unused_port()), "--dashboard-host", "127.0.0.1", "--dashboard-port", str(dashboard)),
        *("--dashboard-agent-listen-port", str(unused_port()), "--dashboard-agent-grpc-port", str(unused_port())),
        *("--include-dashboard", "true", "--disable-usage-stats", "--node-ip-address", "127.0.0.1"),
    ]
    process = subprocess.Popen(
        command, env=place.environment(**OPEN), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        start_new_session=True,
    )  # fmt: skip
    made = Head(place, folder, dashboard, process)
    try:
        waiting(made.takes_jobs, every=1.0)
        yield made
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        place.end_leftovers(patience=0)
        shutil.rmtree(folder, ignore_errors=True)


def test_a_submitted_job_runs_the_pipeline_on_the_cluster(workplace, head, waiting):
    overrides = {
        "compute.ray_address": "auto",
        "storage.root": workplace.storage,
        "tracking.uri": workplace.tracking_uri,
        "search.confirm": "never",
        "train.epochs": 1,
    }
    pipeline = workplace.pipeline("run", overrides)
    command = [RAY, "job", "submit", "--address", f"http://127.0.0.1:{head.dashboard}", "--working-dir", REPOSITORY]
    done = workplace.execute(*command, "--", *pipeline, **OPEN)
    assert done.code == 0, done.stdout[-4000:]
    assert re.search(r"succeeded", done.stdout, flags=re.IGNORECASE)
    (record,) = workplace.storage.glob("deliver/*/stage.json")
    assert (record.parent / "model" / "MLmodel").is_file()
    waiting(lambda: workplace.running() == [], every=0.2)
