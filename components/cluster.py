"""Starting and stopping Ray, and spreading plain tasks over it. The only `ray.init` of the project."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

import ray

from components.errors import InputError

T = TypeVar("T")
R = TypeVar("R")

_QUEUED_PER_CORE = 2


@contextlib.contextmanager
def ray_session(*, address: str | None, num_cpus: int, num_gpus: int) -> Iterator[None]:
    """Ray for the length of the block: a local one, or the cluster at `address`. Its log stays out of the terminal.

    Raises `InputError` when the cluster cannot be reached.
    """
    if ray.is_initialized():
        yield
        return
    os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    on_request_to_end = signal.getsignal(signal.SIGTERM)
    try:
        if address is None:
            ray.init(
                address="local",  # without it, RAY_ADDRESS or a Ray that runs on this machine would be joined
                num_cpus=num_cpus,
                num_gpus=num_gpus,
                include_dashboard=False,
                log_to_driver=False,
                logging_level=logging.ERROR,
            )
        else:
            ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
    except (ConnectionError, TimeoutError, ValueError, RuntimeError) as error:
        where = address if address is not None else "a local Ray"
        raise InputError(
            f"compute.ray_address={address}: {where} cannot be reached ({error}); "
            "start the cluster, or leave the key null to run on this machine"
        ) from error
    if threading.current_thread() is threading.main_thread() and on_request_to_end is not None:
        signal.signal(signal.SIGTERM, on_request_to_end)  # Ray has put its own in place
    try:
        yield
    finally:
        ray.shutdown()


def cluster_cores() -> int:
    """Cores of the cluster of the current `ray_session`."""
    return max(1, int(ray.cluster_resources().get("CPU", 1)))


def map_on_cluster(function: Callable[[T], R], tasks: Sequence[T]) -> Iterator[R]:
    """Apply a function to each task, on a core each, anywhere in the cluster of the current `ray_session`.

    Results come in any order, and what a task raises is raised here. A node that dies costs its tasks, which are done
    again elsewhere, so the function has to bear being called twice.
    """
    remote = ray.remote(num_cpus=1, max_retries=3)(function)
    in_flight = _QUEUED_PER_CORE * cluster_cores()
    waiting: list[ray.ObjectRef] = []
    try:
        for task in tasks:
            waiting.append(remote.remote(task))
            if len(waiting) >= in_flight:
                done, waiting = ray.wait(waiting)
                yield from ray.get(done)
        while waiting:
            done, waiting = ray.wait(waiting)
            yield from ray.get(done)
    finally:
        for reference in waiting:
            ray.cancel(reference)
