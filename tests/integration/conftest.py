"""A Ray cluster of three nodes on this machine, to which tests connect as to any other."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
from ray.cluster_utils import Cluster

# A local Ray turns on tokens for its process, a cluster for tests knows nothing of them, and what comes first in a
# process stays. Processes of their own have Ray's default.
os.environ["RAY_AUTH_MODE"] = "disabled"


@dataclass(frozen=True)
class Nodes:
    """A head without cores, and two nodes of one core each."""

    cluster: Cluster

    @property
    def address(self) -> str:
        return self.cluster.address

    def kill_one_at(self, work: str) -> bool:
        """End a node at once (SIGKILL), one with a process at this work: a part of its command line.

        Returns whether there was one. To be asked again: a worker's command line changes with each call to it.
        """
        node = next((node for node in self.cluster.worker_nodes if _is_at(node, work)), None)
        if node is not None:
            self.cluster.remove_node(node, allow_graceful=False)
        return node is not None


def _is_at(node, work: str) -> bool:
    raylets = [process.pid for name, process in node.live_processes() if name == "raylet"]
    children = [child for pid in raylets for child in psutil.Process(pid).children(recursive=True)]
    return any(work in _command_line(child) for child in children)


def _command_line(process: psutil.Process) -> str:
    """Nothing for one that has just ended."""
    try:
        return " ".join(process.cmdline())
    except psutil.NoSuchProcess:
        return ""


@pytest.fixture
def nodes() -> Iterator[Nodes]:
    # A folder right below the system's: the path of a Unix socket is cut at 107 bytes.
    folder = Path(tempfile.mkdtemp(prefix="esc-"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_TMPDIR", str(folder))
        (folder / "ray").mkdir()
        cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
        for _ in range(2):
            cluster.add_node(num_cpus=1)
        try:
            yield Nodes(cluster)
        finally:
            cluster.shutdown()
            shutil.rmtree(folder, ignore_errors=True)
