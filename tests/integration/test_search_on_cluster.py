"""The whole search on a Ray cluster of three nodes on this machine, one of which is killed in mid-trial.

Nothing stops trials early, so that their scores do not depend on the order in which they end.
"""

import json
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import psutil
import pytest
from ray.cluster_utils import Cluster

pytestmark = pytest.mark.integration

SEARCH = {
    "search.num_trials": 4,
    "search.max_epochs": 24,
    "search.grace_epochs": 2,
    "search.scheduler": "none",
    "search.sampler": "random",
    "compute.concurrent_trials": 2,
}


@dataclass
class Nodes:
    """A head that trains nothing, and two workers of one core each."""

    cluster: Cluster
    workers: list

    @property
    def address(self) -> str:
        return self.cluster.address

    def kill_one_that_trains(self) -> None:
        """End a node at once, with the worker that is in the midst of a trial on it."""
        node = next(node for node in self.workers if _trains(node))
        self.cluster.remove_node(node, allow_graceful=False)


def _trains(node) -> bool:
    raylets = [process.pid for name, process in node.live_processes() if name == "raylet"]
    children = [child for pid in raylets for child in psutil.Process(pid).children(recursive=True)]
    return any("ray::_Inner" in " ".join(child.cmdline()) for child in children)


@pytest.fixture
def nodes() -> Iterator[Nodes]:
    # A folder right below the system's: the path of a Unix socket is cut at 107 bytes.
    folder = Path(tempfile.mkdtemp(prefix="esc-"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_TMPDIR", str(folder))
        # A Ray that was started in this process before has turned on tokens, which the command line knows nothing of.
        patch.delenv("RAY_AUTH_MODE", raising=False)
        (folder / "ray").mkdir()
        cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
        workers = [cluster.add_node(num_cpus=1) for _ in range(2)]
        try:
            yield Nodes(cluster, workers)
        finally:
            cluster.shutdown()
            shutil.rmtree(folder, ignore_errors=True)


def scores(folder: Path) -> pd.DataFrame:
    table = pd.read_parquet(folder / "scores.parquet")
    return table.drop(columns="seconds").sort_values(["trial", "epoch"], ignore_index=True)


def events(place) -> list[dict]:
    found = list(place.storage.glob("search/*/unfinished/journal.jsonl"))
    lines = found[0].read_text().splitlines() if found else []
    return [json.loads(line) for line in lines if line.endswith("}")]


def test_a_node_that_is_killed_in_mid_trial_costs_nothing_but_time(copy_finished_to, nodes, tmp_path, waiting, ending):
    alone, place = (copy_finished_to(tmp_path / name, "search", "confirm", "train") for name in ("alone", "cluster"))
    undisturbed = alone.run("search", SEARCH | {"compute.concurrent_trials": 1})

    on_cluster = SEARCH | {"compute.ray_address": nodes.address}
    # Workers fetch the data even though they see the folder: they need no shared file system for it.
    process = place.start(*place.pipeline("search", on_cluster), ESCAPEMENT_SHIP_DATA="always")

    def in_the_midst() -> bool:
        saved = {event["trial"] for event in events(place) if event["event"] == "saved"}
        ended = {event["trial"] for event in events(place) if event["event"] == "ended"}
        return bool(saved - ended) or process.poll() is not None

    waiting(in_the_midst)
    assert process.poll() is None, process.communicate()[1][-4000:]
    nodes.kill_one_that_trains()
    done = ending(process, timeout=400)
    assert done.code == 0, done.stderr[-4000:]

    table = pd.read_parquet(place.result(done, "search") / "trials.parquet")
    assert table["status"].tolist() == ["completed"] * 4
    expected = scores(alone.result(undisturbed, "search"))
    pd.testing.assert_frame_equal(scores(place.result(done, "search")), expected)
    best = [
        json.loads((where.result(ended, "search") / "best.json").read_text())["overrides"]
        for where, ended in ((alone, undisturbed), (place, done))
    ]
    assert best[0] == best[1]
    assert place.running() == []
    place.end_leftovers()
