"""The device of this process, its precision, and how many threads and loader processes it gets."""

from __future__ import annotations

import ctypes
import platform

import cv2
import torch

from components.errors import InputError
from components.training.engine import Device
from pipeline.config import ComputeConfig
from pipeline.sections.time import seconds_of

#: Compute capability from which a CUDA GPU has bfloat16 units (Ampere).
BFLOAT16_CAPABILITY = (8, 0)
#: What a CPU has that computes in bfloat16 by itself, as torch names it: x86 AVX-512 and AMX, ARM NEON and SVE.
BFLOAT16_UNITS = ("avx512_bf16", "amx_bf16", "bf16", "sve_bf16")
#: Seconds of a budget from which on two of them may go to timing bfloat16 on a CPU; float32 with less.
LEAST_TO_TIME = 180.0
#: For mallopt(3), by number: no block is mapped by itself (M_MMAP_MAX), up to 2 GiB at the top of the heap stay
#: (M_TRIM_THRESHOLD), which grows by 256 MiB at a time (M_TOP_PAD).
GLIBC_SETTINGS = {-4: 0, -1: 2**31 - 1, -2: 2**28}


def resolve_target(compute: ComputeConfig) -> torch.device:
    """The device to use. Raises `InputError` if it does not exist."""
    available = torch.cuda.is_available()
    if compute.device == "cuda" and not available:
        raise InputError("compute.device=cuda: this machine has no CUDA device; use auto or cpu")
    return torch.device("cuda" if available and compute.device != "cpu" else "cpu")


def lacks_bfloat16(target: torch.device) -> bool:
    """Whether the device is a GPU without bfloat16 units; `torch.cuda.is_bf16_supported` also accepts emulation."""
    return target.type == "cuda" and torch.cuda.get_device_capability() < BFLOAT16_CAPABILITY


def is_timed(compute: ComputeConfig, precision: str, budget: str | None = None) -> bool:
    """Whether timed steps decide on the precision: that is left open, and a CPU computes in bfloat16 by itself."""
    if budget is not None and seconds_of(budget) < LEAST_TO_TIME:
        return False
    if precision != "auto" or resolve_target(compute).type != "cpu":
        return False
    has = torch.cpu.get_capabilities()
    return any(has.get(unit, False) for unit in BFLOAT16_UNITS)


def resolve_device(compute: ComputeConfig, precision: str) -> Device:
    """The device and the precision of a training. precision: `recipe.precision`, explicit where `choose_precision` has
    timed it.

    Raises `InputError` for a device that does not exist or would emulate bfloat16.
    """
    target = resolve_target(compute)
    if precision == "auto":
        native = target.type == "cuda" and not lacks_bfloat16(target)
        return Device(target, "bfloat16" if native else "float32")
    if precision == "bfloat16" and lacks_bfloat16(target):
        raise InputError(
            "recipe.precision=bfloat16: this GPU has no bfloat16 units and would emulate them, slower than float32; "
            "use float32 or auto"
        )
    return Device(target, precision)


def set_up_process(threads: int) -> None:
    """Limit the CPU threads of this process, and let it keep memory that is freed, for the next batch.

    OpenCV gets a single thread: the images are too small for more.
    """
    torch.set_num_threads(threads)
    cv2.setNumThreads(0)
    _keep_freed_memory()


def _keep_freed_memory() -> None:
    """By glibc's settings, where it is the C library.

    It gives large blocks back to the system as soon as they are freed, and each batch then faults their pages in again:
    a fifth of the time of a training step on a CPU, half of that of a large batch in evaluation.
    """
    if platform.libc_ver()[0] == "glibc":
        for setting, value in GLIBC_SETTINGS.items():
            ctypes.CDLL(None).mallopt(setting, value)


def loader_workers(compute: ComputeConfig) -> int:
    """Number of processes that prepare batches; 0 on a CPU, whose cores the training needs itself."""
    if compute.loader_workers is not None:
        return compute.loader_workers
    if resolve_target(compute).type == "cpu":
        return 0
    # The threads of this process are its share of the cores, see `set_up_process`.
    return max(0, min(8, torch.get_num_threads() - 1))
