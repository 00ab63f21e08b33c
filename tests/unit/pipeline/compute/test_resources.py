"""How trainings share a machine or a cluster: never more than there is, and what the configuration asks for."""

import json
import socket
import subprocess

import pytest
import torch

from components import cluster
from components.errors import InputError
from pipeline.compute import resources
from pipeline.compute.resources import TrainingShare, check_compute, driver_compute, ray_for, share_out
from pipeline.config import ComputeConfig


@pytest.fixture
def gpus(monkeypatch):
    return lambda count: monkeypatch.setattr(torch.cuda, "device_count", lambda: count)


def shares(**compute) -> tuple[int, int, float]:
    found = check_compute(ComputeConfig(**compute))
    return found.concurrent, found.cpus, found.gpus


# --- this machine


@pytest.mark.parametrize(("threads", "expected"), [(1, (1, 1, 0)), (2, (1, 2, 0)), (5, (2, 2, 0)), (16, (8, 2, 0))])
def test_without_gpus_a_training_has_two_cores(gpus, threads, expected) -> None:
    gpus(0)
    assert shares(num_threads=threads) == expected


def test_with_gpus_there_is_a_training_on_each(gpus) -> None:
    gpus(2)
    assert shares(num_threads=16) == (2, 8, 1)
    assert shares(num_threads=16, gpus_per_trial=0.5) == (4, 4, 0.5)
    assert shares(num_threads=16, device="cpu") == (8, 2, 0)


def test_a_share_of_a_gpu_is_never_made_up_of_parts_of_two(gpus) -> None:
    gpus(2)
    assert shares(num_threads=16, gpus_per_trial=0.4) == (4, 4, 0.4)  # two on each; a fifth would need 0.2 + 0.2


@pytest.mark.parametrize(
    ("concurrent", "gpus_each", "held"), [(2, 0, 0), (3, 1, 3), (2, 2, 4), (4, 0.5, 2), (8, 0.35, 4), (5, 0.35, 3)]
)
def test_a_local_ray_has_the_gpus_that_so_many_trainings_need(monkeypatch, concurrent, gpus_each, held) -> None:
    monkeypatch.setattr(cluster, "ray_session", lambda **given: given)
    given = ray_for(ComputeConfig(num_threads=1), TrainingShare(concurrent=concurrent, cpus=2, gpus=gpus_each))
    assert given == {"address": None, "num_cpus": 2 * concurrent, "num_gpus": held}


def test_the_driver_of_a_cluster_takes_the_device_that_it_has() -> None:
    assert driver_compute(ComputeConfig(device="cuda", ray_address="auto")).device == "auto"
    assert driver_compute(ComputeConfig(device="cuda")).device == "cuda"


def test_the_configuration_has_the_last_word_on_how_many_at_a_time(gpus) -> None:
    gpus(0)
    assert shares(num_threads=4, concurrent_trials=4) == (4, 1, 0)
    assert shares(num_threads=8, concurrent_trials=1) == (1, 8, 0)
    assert shares(num_threads=16, concurrent_trials=3) == (3, 5, 0)


@pytest.mark.parametrize(
    ("count", "compute", "said"),
    [
        (0, {"gpus_per_trial": 1.0}, "compute.gpus_per_trial=1: this machine has 0 GPUs; ask for at most that"),
        (1, {"gpus_per_trial": 2.0}, "compute.gpus_per_trial=2: this machine has 1 GPUs"),
        (4, {"gpus_per_trial": 1.5}, "compute.gpus_per_trial=1.5: only part of one GPU can be shared"),
        (1, {"gpus_per_trial": 1.0, "device": "cpu"}, "compute.device=cpu leaves GPUs alone"),
        (0, {"device": "cuda"}, "compute.device=cuda: this machine has no GPU; use auto or cpu"),
        (
            0,
            {"num_threads": 2, "concurrent_trials": 3},
            "compute.concurrent_trials=3: this machine holds 2 at a time under compute.num_threads=2, with a core each",
        ),
        (
            2,
            {"num_threads": 16, "concurrent_trials": 3},
            "compute.concurrent_trials=3: this machine holds 2 at a time under compute.num_threads=16, with a core and "
            "1 GPU each",
        ),
    ],
)
def test_what_this_machine_cannot_give_is_refused_beforehand(gpus, count, compute, said) -> None:
    gpus(count)
    with pytest.raises(InputError) as refused:
        check_compute(ComputeConfig(**compute))
    assert str(refused.value).startswith(said) or said in str(refused.value)


def test_what_this_machine_can_give_is_not_refused(gpus) -> None:
    gpus(1)
    check_compute(ComputeConfig(num_threads=2, gpus_per_trial=0.5, concurrent_trials=2))


# --- a cluster


def on(*nodes: tuple[int, int], **compute) -> tuple[int, int, float]:
    """The shares on a cluster of nodes with so many (cores, GPUs)."""
    found = share_out(ComputeConfig(ray_address="head:6379", **compute), nodes)
    return found.concurrent, found.cpus, found.gpus


@pytest.mark.parametrize(
    ("nodes", "expected"),
    [
        ([(4, 0), (4, 0)], (4, 2, 0)),
        ([(1, 0), (1, 0), (1, 0)], (3, 1, 0)),
        ([(1, 0), (4, 0)], (5, 1, 0)),  # what the smallest holds
        ([(0, 0), (8, 0)], (4, 2, 0)),  # a head without cores takes no part
        ([(8, 1), (32, 4)], (5, 8, 1)),
        ([(16, 0), (8, 2)], (2, 4, 1)),  # where there are GPUs, they are what trainings run on
    ],
)
def test_a_training_gets_what_every_node_that_takes_part_can_give(nodes, expected) -> None:
    assert on(*nodes) == expected


def test_a_cluster_that_lost_nodes_in_mid_run_holds_fewer_at_a_time() -> None:
    asked = ComputeConfig(ray_address="head:6379", num_threads=1, concurrent_trials=2)
    assert share_out(asked, [(1, 0), (1, 0)], checked=True) == TrainingShare(concurrent=2, cpus=1, gpus=0)
    assert share_out(asked, [(1, 0)], checked=True) == TrainingShare(concurrent=1, cpus=1, gpus=0)
    with pytest.raises(InputError, match="offers no core"):
        share_out(asked, [], checked=True)


def test_so_many_at_a_time_get_as_many_cores_as_nodes_can_give_them() -> None:
    assert on((4, 0), (4, 0), concurrent_trials=1) == (1, 4, 0)
    assert on((4, 0), (4, 0), concurrent_trials=3) == (3, 2, 0)
    assert on((4, 0), (4, 0), concurrent_trials=8) == (8, 1, 0)
    assert on((16, 2), (16, 2), concurrent_trials=4, gpus_per_trial=1.0) == (4, 8, 1)


def test_the_number_of_threads_limits_each_node() -> None:
    assert on((8, 0), (8, 0), num_threads=2) == (2, 2, 0)


@pytest.mark.parametrize(
    ("nodes", "compute", "said"),
    [
        ([(4, 1), (4, 1)], {"gpus_per_trial": 2.0}, "the largest node of the cluster has 1 GPUs"),
        ([(4, 0)], {"device": "cuda"}, "compute.device=cuda: the largest node of the cluster has no GPU"),
        ([(2, 0), (2, 0)], {"concurrent_trials": 5}, "the cluster at head:6379 holds 4 at a time"),
        ([(8, 1), (8, 1)], {"concurrent_trials": 3}, "holds 2 at a time, with a core and 1 GPU each"),
        ([(0, 0)], {}, "compute.ray_address=head:6379: the cluster at head:6379 offers no core"),
    ],
)
def test_what_no_node_can_give_is_refused(nodes, compute, said) -> None:
    with pytest.raises(InputError) as refused:
        on(*nodes, **compute)
    assert said in str(refused.value)


# --- whether it answers


def test_a_port_where_nothing_listens_is_told() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound, and nobody listens
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(InputError, match=rf"compute\.ray_address={address}: the cluster cannot be reached"):
            check_compute(ComputeConfig(ray_address=address))


def answering(monkeypatch, **answer) -> list:
    """Stands for the process that asks a cluster; what it was started with."""
    asked: list = []

    def run(command, **options):
        asked.append(command)
        if "error" in answer:
            raise answer["error"]
        return subprocess.CompletedProcess(command, **{"returncode": 0, "stdout": "", "stderr": "", **answer})

    monkeypatch.setattr(resources.subprocess, "run", run)
    return asked


def test_a_cluster_is_asked_for_its_nodes(monkeypatch) -> None:
    nodes = [{"name": "a", "cpus": 2, "gpus": 0}]
    asked = answering(monkeypatch, stdout=f"noise\n{json.dumps(nodes)}")
    check_compute(ComputeConfig(ray_address="auto"))
    assert asked[0][-1] == "auto"
    with pytest.raises(InputError, match=r"compute\.concurrent_trials=3: the cluster at auto holds 2 at a time"):
        check_compute(ComputeConfig(ray_address="auto", concurrent_trials=3))


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ({"returncode": 1, "stderr": "Traceback\nOSError: no memory\n"}, "OSError: no memory"),
        ({"returncode": -6}, "exit code -6"),
        ({"error": subprocess.TimeoutExpired("python", 180)}, "no answer in 180 s"),
    ],
)
def test_a_cluster_that_does_not_answer_is_a_fault_of_the_configuration(monkeypatch, answer, said) -> None:
    answering(monkeypatch, **answer)
    with pytest.raises(InputError) as refused:
        check_compute(ComputeConfig(ray_address="auto"))
    assert str(refused.value).startswith("compute.ray_address=auto: the cluster cannot be reached (")
    assert said in str(refused.value)
    assert "leave the key null" in str(refused.value)


def test_what_ray_says_of_an_address_is_said_once(monkeypatch) -> None:
    answering(
        monkeypatch, returncode=1, stderr="Traceback\ncomponents.errors.InputError: compute.ray_address=x: bad\n it is"
    )
    with pytest.raises(InputError, match=r"^compute\.ray_address=x: bad it is$"):
        check_compute(ComputeConfig(ray_address="x"))
