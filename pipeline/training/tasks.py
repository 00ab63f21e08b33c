"""The tasks of a stage that trains: in this process one after the other, or as tasks of the configured cluster.

Each task then has a training's share of cores and GPUs, so that it runs where the GPUs are.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

from pipeline.compute.device import set_up_process
from pipeline.compute.resources import TrainingShare, cpu_threads, training_session
from pipeline.compute.shipping import Prepared, local_folder, ship
from pipeline.config import ComputeConfig
from pipeline.stage import StageContext
from pipeline.training.data import TrainingData, open_data

T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where and with what a task works; small to send. share: None for this process."""

    prepared: Prepared
    compute: ComputeConfig
    threads: int
    share: TrainingShare | None

    def open(self) -> TrainingData:
        """The data on the machine that this is called on, whose process gets the task's threads."""
        set_up_process(self.threads)
        return open_data(local_folder(self.prepared))


@contextlib.contextmanager
def task_placement(context: StageContext) -> Iterator[Place]:
    """This process, or for the length of the block the cluster, with the prepared data within its reach."""
    record, compute = context.inputs["prepare"], context.compute
    if compute.ray_address is None:
        prepared = ship(record, compute=compute)
        yield Place(prepared=prepared, compute=compute, threads=cpu_threads(compute), share=None)
        return
    with training_session(compute) as share:
        prepared = ship(record, compute=compute)
        yield Place(prepared=prepared, compute=compute, threads=share.cpus, share=share)


def run_tasks(function: Callable[[T], R], tasks: Sequence[T], place: Place) -> Iterator[tuple[T, R]]:
    """Each task with its result: here in their order, on a cluster as they come. What a task raises is raised here."""
    if place.share is None:
        for task in tasks:
            yield task, function(task)
        return
    from components.cluster import run_on_cluster

    share = place.share
    for task, outcome in run_on_cluster(function, tasks, cores=share.cpus, gpus=share.gpus, at_once=share.concurrent):
        if isinstance(outcome, Exception):
            raise outcome
        yield task, outcome
