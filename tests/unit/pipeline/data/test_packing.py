"""Who decodes the images: this machine's cores, or a cluster whose nodes can write to the storage."""

from contextlib import contextmanager
from types import SimpleNamespace

import pytest

from components import cluster
from pipeline.config import ComputeConfig
from pipeline.data import packing


@pytest.fixture
def workers(monkeypatch, tmp_path):
    """How many workers there are, and whether they are the cluster's, where its nodes see the storage or do not."""
    events: list[str] = []

    @contextmanager
    def session(**options):
        events.append("joined")
        yield
        events.append("left")

    monkeypatch.setattr(cluster, "ray_session", session)
    monkeypatch.setattr(cluster, "cluster_cores", lambda: 12)

    def ask(*, seen: bool, **compute) -> tuple[int, bool, list[str], list[str]]:
        said: list[str] = []
        monkeypatch.setattr(
            packing, "seen_by_nodes", lambda path, text: seen and text == path.read_text(encoding="utf-8")
        )
        context = SimpleNamespace(
            compute=ComputeConfig(num_threads=3, **compute),
            work=tmp_path,
            run=SimpleNamespace(id="run-7"),
            console=SimpleNamespace(say=said.append),
        )
        with packing._workers(context) as (count, map_tasks):  # type: ignore[arg-type]
            found = count, map_tasks is cluster.map_on_cluster, list(events)
        return (*found, said)

    return ask


def test_without_a_cluster_this_machine_decodes(workers) -> None:
    assert workers(seen=False) == (3, False, [], [])


def test_nodes_that_see_the_storage_decode(workers) -> None:
    assert workers(seen=True, ray_address="auto") == (12, True, ["joined"], [])


def test_where_a_node_does_not_see_the_storage_this_machine_decodes_and_says_so(workers) -> None:
    count, on_cluster, events, (said,) = workers(seen=False, ray_address="auto")
    assert (count, on_cluster, events) == (3, False, ["joined", "left"])
    assert "images are decoded on this machine" in said
