"""What this machine offers, and how trainings share it or a cluster: how many at a time, with how many cores and GPUs.

A request that cannot be met is refused before anything starts.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

import components
from components.errors import InputError
from pipeline.config import ComputeConfig

#: Cores and GPUs that a machine has for trainings.
Offer = tuple[int, int]
#: How long the port of a cluster may take to answer, and then the cluster.
PORT_SECONDS, CLUSTER_SECONDS = 5.0, 180.0
_ASK = "import sys; from components.cluster import describe_cluster as ask; sys.stdout.write(ask(sys.argv[1]))"


@dataclass(frozen=True, kw_only=True)
class TrainingShare:
    """What each of `concurrent` trainings gets; `gpus` may be a fraction."""

    concurrent: int
    cpus: int
    gpus: float


def ray_for(compute: ComputeConfig, share: TrainingShare) -> contextlib.AbstractContextManager[None]:
    """A local Ray session that holds so many trainings."""
    from components.cluster import ray_session

    return ray_session(
        address=None,
        num_cpus=max(cpu_threads(compute), share.concurrent * share.cpus),
        num_gpus=_gpus_for(share),
    )


@contextlib.contextmanager
def training_session(compute: ComputeConfig) -> Iterator[TrainingShare]:
    """A Ray session, local or of the cluster, and how trainings share it."""
    from components.cluster import ray_session

    if compute.ray_address is None:
        share = check_compute(compute)
        with ray_for(compute, share):
            yield share
        return
    with ray_session(address=compute.ray_address, num_cpus=1, num_gpus=0):
        yield share_out(compute, _live_offers(), checked=True)


def check_compute(compute: ComputeConfig) -> TrainingShare:
    """How trainings will share this machine, or the cluster. Raises `InputError` for what it cannot give."""
    offers = [_this_machine(compute)] if compute.ray_address is None else _ask_cluster(compute.ray_address)
    return share_out(compute, offers)


def share_out(compute: ComputeConfig, offers: Sequence[Offer], *, checked: bool = False) -> TrainingShare:
    """As many trainings at a time as the GPUs hold, or one per two cores, unless the configuration says otherwise.

    Each gets the same share, such that every node which takes part holds one at least. `compute.num_threads` limits
    the cores that are used of each node. checked: the run has begun, and what it asked for was there; a cluster that
    has lost nodes since gets as many trainings at a time as the others hold. Raises `InputError` for GPUs that are not
    there, and, unless checked, for more trainings at a time than there are cores or GPUs.
    """
    gpus = _gpus_each(compute, max((count for _, count in offers), default=0))
    offers = [(min(cpus, compute.num_threads or cpus), count) for cpus, count in offers]
    # By node: its cores, and the trainings that its GPUs hold (as many as it has cores where they need none).
    places = [(cpus, _held(count, gpus) if gpus else cpus) for cpus, count in offers]
    places = [(cpus, held) for cpus, held in places if cpus and held]
    if compute.concurrent_trials is None:
        wanted = [held if gpus else max(1, cpus // 2) for cpus, held in places]
        each = max(1, min((cpus // count for (cpus, _), count in zip(places, wanted, strict=True)), default=1))
        concurrent = _room(places, each)
    else:
        concurrent = min(compute.concurrent_trials, _room(places, 1)) if checked else compute.concurrent_trials
        each = next(
            (n for n in range(max((cpus for cpus, _ in offers), default=1), 1, -1) if _room(places, n) >= concurrent), 1
        )
    if not concurrent or concurrent > _room(places, each):
        raise InputError(_too_many(compute, concurrent, _room(places, each), gpus))
    return TrainingShare(concurrent=concurrent, cpus=each, gpus=gpus)


def _gpus_each(compute: ComputeConfig, most: int) -> float:
    """What a training asks for. A node that is too small for it takes no part, but one has to be large enough.

    most: GPUs of the largest node.
    """
    where = "this machine" if compute.ray_address is None else "the largest node of the cluster"
    if compute.device == "cuda" and not most:
        raise InputError(f"compute.device=cuda: {where} has no GPU; use auto or cpu")
    if compute.device == "cpu" and compute.gpus_per_trial:
        raise InputError(
            f"compute.gpus_per_trial={compute.gpus_per_trial:g}: compute.device=cpu leaves GPUs alone; use auto, or "
            "ask for 0 GPUs"
        )
    if compute.gpus_per_trial is None:
        return 1.0 if most and compute.device != "cpu" else 0.0
    if compute.gpus_per_trial > most:
        raise InputError(
            f"compute.gpus_per_trial={compute.gpus_per_trial:g}: {where} has {most} GPUs; ask for at most that, or 0"
        )
    if compute.gpus_per_trial > 1 and compute.gpus_per_trial % 1:
        raise InputError(
            f"compute.gpus_per_trial={compute.gpus_per_trial:g}: only part of one GPU can be shared; ask for a whole "
            "number of them, or for less than 1"
        )
    return compute.gpus_per_trial


def _held(gpus: int, share: float) -> int:
    """Trainings that a node's GPUs hold; none is spread over parts of two."""
    return int(gpus // share) if share >= 1 else gpus * int(1 / share + 1e-9)


def _gpus_for(share: TrainingShare) -> int:
    """The number of GPUs that so many trainings need, the inverse of `_held`."""
    if share.gpus >= 1 or not share.gpus:
        return round(share.concurrent * share.gpus)
    return math.ceil(share.concurrent / _held(1, share.gpus))


def _room(places: Sequence[tuple[int, int]], cpus: int) -> int:
    """Trainings that run at a time with so many cores each."""
    return sum(min(held, available // cpus) for available, held in places)


def _too_many(compute: ComputeConfig, concurrent: int, room: int, gpus: float) -> str:
    where = "this machine" if compute.ray_address is None else f"the cluster at {compute.ray_address}"
    if not room:
        return f"compute.ray_address={compute.ray_address}: {where} offers no core to work on; add a node that does"
    need = f"with a core and {gpus:g} GPU each" if gpus else "with a core each"
    limit = "" if compute.num_threads is None else f" under compute.num_threads={compute.num_threads}"
    return (
        f"compute.concurrent_trials={concurrent}: {where} holds {room} at a time{limit}, {need}; ask for at most that, "
        "or null for as many as suit it"
    )


def _this_machine(compute: ComputeConfig) -> Offer:
    import torch

    return cpu_threads(compute), torch.cuda.device_count()


def _live_offers() -> list[Offer]:
    """Of the nodes of the current Ray session."""
    from components.cluster import live_nodes

    return [(node.cpus, node.gpus) for node in live_nodes()]


def _ask_cluster(address: str) -> list[Offer]:
    """The offers of its nodes, asked by another process, which can time out: Ray waits most of a minute."""
    import ray

    if ray.is_initialized():
        return _live_offers()
    _check_port(address)
    search = os.pathsep.join([str(Path(components.__file__).parents[1]), os.environ.get("PYTHONPATH", "")])
    try:
        done = subprocess.run(
            [sys.executable, "-c", _ASK, address],
            env={**os.environ, "PYTHONPATH": search.rstrip(os.pathsep)},
            capture_output=True,
            text=True,
            timeout=CLUSTER_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise _unreachable(address, f"no answer in {CLUSTER_SECONDS:.0f} s") from error
    if done.returncode:
        _, refused, message = done.stderr.rpartition(f"{InputError.__name__}: ")
        if refused:
            raise InputError(" ".join(message.split()))
        said = [line for line in done.stderr.splitlines() if line.strip()] or [f"exit code {done.returncode}"]
        raise _unreachable(address, said[-1])
    return [(node["cpus"], node["gpus"]) for node in json.loads(done.stdout.splitlines()[-1])]


def _check_port(address: str) -> None:
    host, separator, port = address.rpartition(":")
    if not separator or not port.isdigit():
        return  # `auto`, or what Ray itself has to make sense of
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=PORT_SECONDS).close()
    except OSError as error:
        raise _unreachable(address, f"nothing listens there: {error}") from error


def _unreachable(address: str, reason: str) -> InputError:
    return InputError(
        f"compute.ray_address={address}: the cluster cannot be reached ({reason}); start it, correct the address, or "
        "leave the key null to run on this machine"
    )


def cpu_count() -> int:
    """Cores that this process may use (a container or a batch system may allow fewer than there are)."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def cpu_threads(compute: ComputeConfig) -> int:
    """Cores to use: those that were asked for, or all."""
    return compute.num_threads or cpu_count()


def driver_compute(compute: ComputeConfig) -> ComputeConfig:
    """What the driver itself works with: on a cluster `compute.device` is the trainings', and it may have no GPU."""
    return compute if compute.ray_address is None else compute.model_copy(update={"device": "auto"})


def memory_bytes() -> int:
    """Memory of this machine."""
    return int(psutil.virtual_memory().total)
