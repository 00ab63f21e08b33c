"""How trainings share a machine or a cluster: how many at a time, with how many cores and GPUs each."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass

from components.cluster import ray_session
from components.errors import InputError
from pipeline.config import ComputeConfig
from pipeline.machine import cpu_threads


@dataclass(frozen=True, kw_only=True)
class Shares:
    """What each of several trainings gets. `gpus` may be a fraction."""

    concurrent: int
    cpus: int
    gpus: float


def training_shares(compute: ComputeConfig) -> Shares:
    """As many trainings at a time as the GPUs hold, or one per two cores, unless the configuration says otherwise.

    Raises `InputError` where a training asks for more GPUs than there are.
    """
    import torch

    cpus = cpu_threads(compute)
    gpus = torch.cuda.device_count() if compute.device != "cpu" else 0
    per_training = compute.gpus_per_trial
    if per_training is None:
        per_training = 1.0 if gpus else 0.0
    if per_training > gpus and compute.ray_address is None:
        raise InputError(
            f"compute.gpus_per_trial={per_training:g}: this machine has {gpus} GPUs; ask for at most that, or 0"
        )
    concurrent = compute.concurrent_trials
    if concurrent is None:
        # A driver without a GPU of its own may hand its trainings to a cluster that has some.
        concurrent = max(1, int(gpus / per_training) if per_training else cpus // 2)
    return Shares(concurrent=concurrent, cpus=max(1, cpus // concurrent), gpus=per_training)


def ray_for(compute: ComputeConfig, shares: Shares) -> contextlib.AbstractContextManager[None]:
    """A Ray session that holds so many trainings: a local one, or the configured cluster."""
    return ray_session(
        address=compute.ray_address,
        num_cpus=max(cpu_threads(compute), shares.concurrent * shares.cpus),
        num_gpus=int(shares.concurrent * shares.gpus + 0.999),
    )
