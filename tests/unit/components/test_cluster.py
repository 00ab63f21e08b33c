"""Starting and stopping Ray, with Ray itself replaced: a real one is part of the integration tests."""

import signal

import pytest

from components import cluster
from components.cluster import ray_session
from components.errors import InputError


class FakeRay:
    def __init__(self, *, running: bool = False, fault: Exception | None = None) -> None:
        self.running, self.fault = running, fault
        self.calls: list[dict] = []
        self.stopped = 0

    def is_initialized(self) -> bool:
        return self.running

    def init(self, **options) -> None:
        self.calls.append(options)
        signal.signal(signal.SIGTERM, lambda number, frame: None)  # as Ray does
        if self.fault is not None:
            raise self.fault
        self.running = True

    def shutdown(self) -> None:
        self.stopped += 1
        self.running = False


@pytest.fixture
def install(monkeypatch):
    def replace(**options) -> FakeRay:
        fake = FakeRay(**options)
        monkeypatch.setattr(cluster, "ray", fake)
        return fake

    return replace


def test_a_local_ray_gets_what_it_may_use_and_is_stopped_afterwards(install) -> None:
    fake = install()
    with ray_session(address=None, num_cpus=3, num_gpus=1):
        assert fake.running
    assert (fake.calls[0]["num_cpus"], fake.calls[0]["num_gpus"]) == (3, 1)
    assert fake.calls[0]["address"] == "local"  # and not one that RAY_ADDRESS names
    assert fake.stopped == 1


def test_a_cluster_is_told_nothing_about_its_size(install) -> None:
    fake = install()
    with ray_session(address="auto", num_cpus=3, num_gpus=1):
        pass
    assert fake.calls[0]["address"] == "auto"
    assert not {"num_cpus", "num_gpus"} & set(fake.calls[0])


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_ray_is_stopped_when_the_block_fails(install, error) -> None:
    fake = install()
    with pytest.raises(error), ray_session(address=None, num_cpus=1, num_gpus=0):
        raise error
    assert fake.stopped == 1


def test_a_ray_that_runs_already_is_used_and_left_running(install) -> None:
    fake = install(running=True)
    with ray_session(address=None, num_cpus=1, num_gpus=0):
        pass
    assert (fake.calls, fake.stopped) == ([], 0)


@pytest.mark.parametrize("fault", [ConnectionError("no route"), TimeoutError("late"), ValueError("bad address")])
def test_a_cluster_that_cannot_be_reached_is_a_fault_of_the_configuration(install, fault) -> None:
    install(fault=fault)
    with (
        pytest.raises(InputError, match=r"compute\.ray_address=ray://nowhere:1: .*leave the key null"),
        ray_session(address="ray://nowhere:1", num_cpus=1, num_gpus=0),
    ):
        pass


def test_a_fault_inside_the_block_is_not_taken_for_one_of_the_cluster(install) -> None:
    install()
    with pytest.raises(ValueError, match="ours") as caught, ray_session(address="auto", num_cpus=1, num_gpus=0):
        raise ValueError("ours")
    assert not isinstance(caught.value, InputError)


def test_who_hears_a_request_to_end_stays_the_same(install) -> None:
    install()
    before = signal.getsignal(signal.SIGTERM)
    with ray_session(address=None, num_cpus=1, num_gpus=0):
        assert signal.getsignal(signal.SIGTERM) is before
