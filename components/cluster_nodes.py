"""The nodes of a Ray cluster: what they offer, and what each of them says when it is asked something."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import TypeVar

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from components.cluster import ray_session

T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True)
class Node:
    """A node, and how many cores and GPUs its tasks may have. name: Ray's own."""

    name: str
    cpus: int
    gpus: int


def live_nodes() -> list[Node]:
    """The nodes of the cluster of the current `ray_session` that are alive, in a fixed order."""
    alive = {record["NodeID"]: record["Resources"] for record in ray.nodes() if record["Alive"]}
    return [Node(name, int(offer.get("CPU", 0)), int(offer.get("GPU", 0))) for name, offer in sorted(alive.items())]


def own_node() -> str:
    """Name of the node that this process runs on."""
    return ray.get_runtime_context().get_node_id()


def ask_each_node(function: Callable[[T], R], question: T, *, patience: float) -> dict[str, R | None]:
    """What the function answers on each node, by its name; None where a node died or took more than `patience` seconds.

    It takes no core, so that a busy node answers as well. What the function raises is raised here.
    """
    remote = ray.remote(num_cpus=0, max_retries=0)(function)
    asked = {
        remote.options(scheduling_strategy=NodeAffinitySchedulingStrategy(node.name, soft=False)).remote(question): node
        for node in live_nodes()
    }
    done, late = ray.wait(list(asked), num_returns=len(asked), timeout=patience)
    for reference in late:
        ray.cancel(reference)
    answers: dict[str, R | None] = {asked[reference].name: None for reference in late}
    for reference in done:
        try:
            answers[asked[reference].name] = ray.get(reference)
        except ray.exceptions.RayTaskError:
            raise
        except ray.exceptions.RayError:  # the node has gone
            answers[asked[reference].name] = None
    return answers


def describe_cluster(address: str) -> str:
    """The nodes of the cluster at that address, as JSON: said by a process that is started to see whether it answers.

    Raises `InputError` when the cluster cannot be reached.
    """
    with ray_session(address=address, num_cpus=1, num_gpus=0):
        return json.dumps([asdict(node) for node in live_nodes()])
