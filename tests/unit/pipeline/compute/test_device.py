"""Which device and precision a configuration gives, on this machine and on pretended GPUs."""

import platform
import subprocess
import sys

import pytest
import torch

from components.errors import InputError
from pipeline.compute.device import is_timed, resolve_device
from pipeline.config import ComputeConfig


@pytest.fixture
def gpu(monkeypatch):
    """A CUDA device of some compute capability, which emulates bfloat16 where it has no units for it."""

    def install(*capability: int) -> None:
        monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
        monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: True)
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda *device: capability)

    return install


def precision_of(precision: str, device: str = "auto") -> tuple[str, str]:
    found = resolve_device(ComputeConfig(device=device), precision)
    return found.target.type, found.precision


@pytest.mark.parametrize(
    ("capability", "expected"), [((7, 5), "float32"), ((8, 0), "bfloat16"), ((8, 6), "bfloat16"), ((9, 0), "bfloat16")]
)
def test_auto_takes_bfloat16_only_where_the_gpu_has_units_for_it(gpu, capability, expected) -> None:
    gpu(*capability)
    assert precision_of("auto") == ("cuda", expected)
    assert precision_of("float32") == ("cuda", "float32")
    assert precision_of("auto", "cpu") == ("cpu", "float32")


def test_bfloat16_is_refused_where_a_gpu_would_emulate_it_and_taken_on_a_cpu(gpu) -> None:
    gpu(7, 5)
    with pytest.raises(InputError, match=r"recipe\.precision=bfloat16: .* use float32 or auto"):
        precision_of("bfloat16")
    assert precision_of("bfloat16", "cpu") == ("cpu", "bfloat16")
    gpu(8, 0)
    assert precision_of("bfloat16") == ("cuda", "bfloat16")


@pytest.mark.parametrize(
    ("has", "expected"),
    [
        ({"avx512_bf16": True}, True),
        ({"avx512_bf16": False, "amx_bf16": True}, True),
        ({"neon": True, "bf16": True}, True),
        ({"avx512_f": True, "avx512_bf16": False}, False),
        ({}, False),
    ],
)
def test_steps_are_timed_on_a_cpu_that_has_bfloat16_where_the_precision_is_open(gpu, monkeypatch, has, expected):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: has)
    assert is_timed(ComputeConfig(device="cpu"), "auto") is expected
    assert not is_timed(ComputeConfig(device="cpu"), "float32")
    assert not is_timed(ComputeConfig(device="cpu"), "bfloat16")
    gpu(8, 0)
    assert not is_timed(ComputeConfig(device="auto"), "auto")


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc has these settings")
def test_memory_that_a_batch_freed_is_there_for_the_next() -> None:
    # In a process of its own: glibc's settings are for its main heap, which a thread leaves for good as soon as an
    # allocation fails, as those of other tests do.
    code = """
import resource, torch
from pipeline.compute.device import set_up_process

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    torch.ones(2**24)  # 64 MiB, 16,384 pages
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

print(min(faults() for _ in range(10)))
set_up_process(1)
# The first blocks may still take new pages from the top of the heap, which grows by four of them at a time.
print(min(faults() for _ in range(10)))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    without, kept = map(int, done.stdout.split())
    assert without > 16_000
    assert kept < 1_000
