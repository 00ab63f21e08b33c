"""How trainings share a machine: never more than there is, and what the configuration asks for."""

import pytest
import torch

from components.errors import InputError
from pipeline.config import ComputeConfig
from pipeline.resources import training_shares


@pytest.fixture
def gpus(monkeypatch):
    return lambda count: monkeypatch.setattr(torch.cuda, "device_count", lambda: count)


def shares(**compute) -> tuple[int, int, float]:
    found = training_shares(ComputeConfig(**compute))
    return found.concurrent, found.cpus, found.gpus


@pytest.mark.parametrize(("threads", "expected"), [(1, (1, 1, 0)), (2, (1, 2, 0)), (5, (2, 2, 0)), (16, (8, 2, 0))])
def test_without_gpus_a_training_has_two_cores(gpus, threads, expected) -> None:
    gpus(0)
    assert shares(num_threads=threads) == expected


def test_with_gpus_there_is_a_training_on_each(gpus) -> None:
    gpus(2)
    assert shares(num_threads=16) == (2, 8, 1)
    assert shares(num_threads=16, gpus_per_trial=0.5) == (4, 4, 0.5)
    assert shares(num_threads=16, device="cpu") == (8, 2, 0)


def test_the_configuration_has_the_last_word_on_how_many_at_a_time(gpus) -> None:
    gpus(0)
    assert shares(num_threads=2, concurrent_trials=4) == (4, 1, 0)
    assert shares(num_threads=8, concurrent_trials=1) == (1, 8, 0)


def test_more_gpus_than_there_are_are_refused_unless_a_cluster_may_have_them(gpus) -> None:
    gpus(0)
    with pytest.raises(InputError, match=r"compute\.gpus_per_trial=1: this machine has 0 GPUs; ask for at most that"):
        shares(gpus_per_trial=1.0)
    assert shares(num_threads=4, gpus_per_trial=1.0, ray_address="ray://elsewhere:1") == (1, 4, 1)
