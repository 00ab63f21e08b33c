"""A real MLflow server that goes away in mid-search and comes back: nothing that was to be logged is lost."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator

import pandas as pd
import pytest

pytestmark = pytest.mark.integration

NOT_AVAILABLE = "the tracking server is not available"
SEARCH = {"search.num_trials": 4, "search.max_epochs": 12, "search.scheduler": "none", "search.grace_epochs": 4}


class Server:
    """An MLflow server on this machine, which can be killed and started again."""

    def __init__(self, place, port: int, until_served) -> None:
        self._place, self._port, self._until_served = place, port, until_served
        self.uri = f"http://127.0.0.1:{port}"
        self._process: subprocess.Popen | None = None

    def start(self) -> None:
        folder = self._place.folder
        command = [
            *(sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(self._port)),
            *("--backend-store-uri", f"sqlite:///{folder / 'mlflow.db'}"),
            *("--artifacts-destination", str(folder / "artifacts"), "--workers", "1"),
        ]
        environment = self._place.environment(MLFLOW_SERVER_ENABLE_JOB_EXECUTION="false")
        self._process = subprocess.Popen(
            command, cwd=folder, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            start_new_session=True,
        )  # fmt: skip
        self._until_served(f"{self.uri}/health", self._process)

    def kill(self) -> None:
        assert self._process is not None
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()


@pytest.fixture
def server(workplace, unused_port, until_served) -> Iterator[Server]:
    made = Server(workplace, unused_port(), until_served)
    made.start()
    yield made
    made.kill()


def test_a_server_that_is_away_in_mid_search_gets_everything_when_it_is_back(workplace, server, waiting, ending):
    settings = SEARCH | {"tracking.uri": server.uri}
    # A search bears an hour without its server; MLflow's own attempts are kept short, so that the test need not wait.
    environment = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2", "MLFLOW_HTTP_REQUEST_TIMEOUT": "10"}
    process = workplace.start(*workplace.pipeline("search", settings), **environment)

    def first_trial_ended() -> bool:
        journals = list(workplace.storage.glob("search/*/unfinished/journal.jsonl"))
        return process.poll() is not None or (bool(journals) and '"ended"' in journals[0].read_text())

    waiting(first_trial_ended)
    assert process.poll() is None, process.communicate()[1][-4000:]
    server.kill()
    waiting(lambda: NOT_AVAILABLE in process.stderr or process.poll() is not None)
    assert process.poll() is None, process.communicate()[1][-4000:]
    server.start()
    done = ending(process)
    assert done.code == 0, done.stderr[-4000:]

    scores = pd.read_parquet(workplace.result(done, "search") / "scores.parquet")
    stage = done.stage("search")["run_id"]
    trials = [run for run in workplace.runs() if run.data.tags.get("mlflow.parentRunId") == stage]
    assert sorted(int(run.data.tags["escapement.trial"]) for run in trials) == [0, 1, 2, 3]
    for run in trials:
        own = scores[scores["trial"] == int(run.data.tags["escapement.trial"])]
        history = workplace.client().get_metric_history(run.info.run_id, "val_score")
        assert sorted((entry.step, entry.value) for entry in history) == list(
            zip(own["epoch"], own["score"], strict=True)
        )
        assert run.info.status == "FINISHED"
    assert workplace.running() == []
