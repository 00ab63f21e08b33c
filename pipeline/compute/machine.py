"""What this machine offers, asked without importing torch."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import psutil

if TYPE_CHECKING:
    from pipeline.config import ComputeConfig


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
