"""Starting and stopping Ray, with Ray itself replaced: a real one is part of the integration tests."""

import json
import os
import signal
import tempfile
import weakref
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import pytest
import ray

from components import cluster, home
from components.cluster import (
    Node,
    ask_each_node,
    describe_cluster,
    live_nodes,
    map_on_cluster,
    ray_session,
    run_on_cluster,
    stream_on_cluster,
)
from components.errors import InputError


@pytest.fixture(autouse=True)
def temporary_files(monkeypatch, tmp_path_factory):
    """A short path, whatever the machine has; gone after the test."""
    tmp_path_factory.getbasetemp()  # which pytest makes where temporary files belong at that moment
    for name in ("RAY_TMPDIR", "TMPDIR", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
        monkeypatch.setenv(name, "")  # put back afterwards, whatever is set meanwhile
        monkeypatch.delenv(name)
    with tempfile.TemporaryDirectory(dir="/tmp", prefix="r") as folder:
        monkeypatch.setattr(tempfile, "tempdir", folder)
        monkeypatch.setenv("TMPDIR", folder)
        yield Path(folder)


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


class Handle:
    itself: "Handle"


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


def test_nothing_is_left_in_reference_cycles_when_ray_stops(install) -> None:
    """A handle of an actor that is collected later makes Ray end the process."""
    fake = install()
    with ray_session(address=None, num_cpus=1, num_gpus=0):
        handle = Handle()
        handle.itself = handle
        left = weakref.ref(handle, lambda _: collected.append(fake.running))
        collected: list[bool] = []
        del handle
        assert left() is not None
    assert collected == [True]


def test_a_cluster_is_told_nothing_about_its_size(install) -> None:
    fake = install()
    with ray_session(address="auto", num_cpus=3, num_gpus=1):
        pass
    assert fake.calls[0]["address"] == "auto"
    assert not {"num_cpus", "num_gpus"} & set(fake.calls[0])


def test_ray_keeps_its_files_with_other_temporary_ones(temporary_files) -> None:
    assert home.ray_folder() == (temporary_files / "ray", "")


def test_a_folder_too_long_for_rays_sockets_is_left_for_a_short_one_and_said(monkeypatch, temporary_files) -> None:
    pid = len(str(os.getpid()))
    # /session_…_PID/sockets/plasma_store: 36 + PID + 21 bytes of the 107 that there are
    for length, fits in ((107 - 57 - pid, True), (108 - 57 - pid, False)):
        parent = temporary_files / ("x" * (length - len(str(temporary_files)) - len("//ray")))
        monkeypatch.setenv("RAY_TMPDIR", str(parent))
        folder, note = home.ray_folder()
        if fits:
            assert (folder, note) == (parent / "ray", "")
        else:
            assert folder == temporary_files / f"ray-{os.getuid()}"
            assert note == f"Ray's files lie in {folder}, since {parent}/ray is 1 characters too long for its sockets"


def test_without_a_folder_for_ray_the_variable_to_set_is_named(monkeypatch) -> None:
    monkeypatch.setattr(home, "_folder_fault", lambda folder: "cannot be written (Permission denied)")
    with pytest.raises(
        InputError, match=r"^RAY_TMPDIR=\(not set\): Ray cannot start, .*; set it to a folder with a short"
    ):
        home.ray_folder()


def test_a_user_without_a_home_gets_rays_token_from_the_environment(monkeypatch, install, tmp_path) -> None:
    install()
    monkeypatch.setenv("HOME", str(tmp_path))
    with ray_session(address=None, num_cpus=1, num_gpus=0):
        assert "RAY_AUTH_TOKEN" not in os.environ
    monkeypatch.setenv("HOME", "/proc/nowhere")
    with ray_session(address=None, num_cpus=1, num_gpus=0):
        assert len(os.environ["RAY_AUTH_TOKEN"]) == 64


def test_a_local_ray_that_does_not_start_is_no_traceback(install) -> None:
    install(fault=OSError("AF_UNIX path length"))
    with (
        pytest.raises(InputError, match=r"Ray does not start on this machine \(AF_UNIX.*set RAY_TMPDIR and HOME"),
        ray_session(address=None, num_cpus=1, num_gpus=0),
    ):
        pass


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


def test_who_hears_a_request_to_end_stays_the_same_where_ray_does_not_start(install) -> None:
    install(fault=OSError("no memory"))
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(InputError, match="no memory"), ray_session(address=None, num_cpus=1, num_gpus=0):
        pass
    assert signal.getsignal(signal.SIGTERM) is before


class Workers:
    """Stands for a Ray whose workers do a task when they are waited for."""

    class exceptions:  # noqa: N801 - Ray's own name
        RayError = ray.exceptions.RayError
        RayTaskError = ray.exceptions.RayTaskError

    def __init__(self) -> None:
        self.asked: dict = {}
        self.most = self.under_way = 0
        self.running = True
        self.cancelled: list = []

    def is_initialized(self) -> bool:
        return self.running

    def remote(self, **options):
        self.asked = options
        return lambda function: SimpleNamespace(remote=lambda task: self._submit(function, task))

    def _submit(self, function, task):
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        return function, task

    def wait(self, waiting):
        self.under_way -= 1
        return [waiting[-1]], waiting[:-1]

    def get(self, reference):
        function, task = reference
        try:
            return function(task)
        except ArithmeticError as error:
            raise ray.exceptions.RayTaskError("halve", "in the worker", error) from error

    def cancel(self, reference) -> None:
        self.cancelled.append(reference)

    def cluster_resources(self) -> dict:
        return {"CPU": 2}


def inverse(number: int) -> float:
    return 1 / number


def test_a_task_that_fails_comes_back_with_its_own_error_and_stops_no_other(monkeypatch) -> None:
    workers = Workers()
    monkeypatch.setattr(cluster, "ray", workers)
    settled = dict(run_on_cluster(inverse, [1, 0, 2, 4], cores=2, gpus=0.5, at_once=2))
    assert {task: outcome for task, outcome in settled.items() if task} == {1: 1.0, 2: 0.5, 4: 0.25}
    assert type(settled[0]) is ZeroDivisionError
    assert settled[0].__notes__ == ["in the worker"]
    assert workers.most == 2
    assert (workers.asked["num_cpus"], workers.asked["num_gpus"]) == (2, 0.5)


def test_what_a_mapped_task_raises_is_raised_and_the_rest_cancelled(monkeypatch) -> None:
    workers = Workers()
    monkeypatch.setattr(cluster, "ray", workers)
    assert sorted(map_on_cluster(inverse, [1, 2, 4])) == [0.25, 0.5, 1.0]
    with pytest.raises(ZeroDivisionError):
        list(map_on_cluster(inverse, [1, 2, 4, 0]))
    assert len(workers.cancelled) == 3


class Streams(Workers):
    """Stands for a Ray whose workers make an item when their stream is waited for; a lamp that goes out kills one."""

    def _submit(self, function, task):
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        return self._references(function(task))

    def _references(self, items):
        while True:
            try:
                yield next(items)
            except StopIteration:
                break
            except OSError:
                yield ray.exceptions.WorkerCrashedError()
                break
            except ArithmeticError as error:
                yield ray.exceptions.RayTaskError("halves", "in the worker", error)
                break
        self.under_way -= 1

    def wait(self, waiting):
        return [waiting[0]], waiting[1:]

    def get(self, reference):
        if isinstance(reference, Exception):
            raise reference
        return reference


def halves(task: list) -> Iterator[float]:
    for number in task:
        if number is None:
            raise OSError("the lamp went out")
        yield 2 / number


def test_items_come_with_their_task_from_so_many_streams_at_a_time(monkeypatch) -> None:
    workers = Streams()
    monkeypatch.setattr(cluster, "ray", workers)
    tasks = [[1, 2], [4], [8, 1]]
    items = list(stream_on_cluster(halves, tasks, cores=2, gpus=0.5, at_once=2))
    assert [item for task, item in items if task is tasks[0]] == [2.0, 1.0]
    assert [item for task, item in items if task is tasks[1]] == [0.5]
    assert [item for task, item in items if task is tasks[2]] == [0.25, 2.0]
    assert workers.most == 2
    assert (workers.asked["num_cpus"], workers.asked["num_gpus"], workers.asked["max_retries"]) == (2, 0.5, 0)
    assert workers.cancelled == []


def test_a_worker_that_dies_is_the_last_of_its_task_and_what_is_appended_is_done_as_well(monkeypatch) -> None:
    monkeypatch.setattr(cluster, "ray", Streams())
    tasks = [[1, None, 4], [8]]
    seen = []
    for task, item in stream_on_cluster(halves, tasks, cores=1, gpus=0, at_once=1):
        seen.append(item)
        if isinstance(item, Exception):
            tasks.append(task[2:])
    assert [type(item) for item in seen] == [float, ray.exceptions.WorkerCrashedError, float, float]
    assert [item for item in seen if not isinstance(item, Exception)] == [2.0, 0.25, 0.5]


def test_what_a_stream_raises_is_raised_and_the_others_are_cancelled(monkeypatch) -> None:
    workers = Streams()
    monkeypatch.setattr(cluster, "ray", workers)
    stream = stream_on_cluster(halves, [[1, 0], [1, 1, 1]], cores=1, gpus=0, at_once=2)
    assert next(stream) == ([1, 0], 2.0)
    with pytest.raises(ZeroDivisionError) as caught:
        list(stream)
    assert caught.value.__notes__ == ["in the worker"]
    assert len(workers.cancelled) == 2


def test_when_nobody_asks_any_more_what_is_under_way_is_cancelled(monkeypatch) -> None:
    workers = Streams()
    monkeypatch.setattr(cluster, "ray", workers)
    stream = stream_on_cluster(halves, [[1, 1], [1, 1], [1, 1]], cores=1, gpus=0, at_once=2)
    next(stream)
    stream.close()
    assert len(workers.cancelled) == 2


def test_what_is_closed_after_its_session_starts_no_other_to_cancel_in(monkeypatch) -> None:
    workers = Streams()
    monkeypatch.setattr(cluster, "ray", workers)
    stream = stream_on_cluster(halves, [[1, 1]], cores=1, gpus=0, at_once=1)
    results = run_on_cluster(iter, [[1], [2]], cores=1, gpus=0, at_once=2)
    next(stream), next(results)
    workers.running = False
    stream.close(), results.close()
    assert workers.cancelled == []


def offer(name: str, *, alive: bool = True, **resources: float) -> dict:
    return {"NodeID": name, "Alive": alive, "Resources": resources}


class Nodes:
    """Stands for a Ray of nodes that answer with their names, are late, or die when they are asked."""

    exceptions = ray.exceptions

    def __init__(self, *offers: dict, late: tuple[str, ...] = (), dying: tuple[str, ...] = ()) -> None:
        self.offers, self.late, self.dying = offers, late, dying
        self.asked: dict = {}
        self.cancelled: list[str] = []

    def nodes(self) -> list[dict]:
        return list(self.offers)

    def get_runtime_context(self) -> SimpleNamespace:
        return SimpleNamespace(get_node_id=lambda: "a")

    def remote(self, **options):
        self.asked = options

        def wrap(function):
            def on(node):
                return SimpleNamespace(remote=lambda question: (node, function, question))

            return SimpleNamespace(options=lambda scheduling_strategy: on(scheduling_strategy))

        return wrap

    def wait(self, references, *, num_returns, timeout):
        assert (num_returns, timeout) == (len(references), 5)
        late = [reference for reference in references if reference[0] in self.late]
        return [reference for reference in references if reference not in late], late

    def get(self, reference):
        node, function, question = reference
        if node in self.dying:
            raise ray.exceptions.NodeDiedError(node)
        try:
            return function(f"{node}{question}")
        except ArithmeticError as error:
            raise ray.exceptions.RayTaskError("f", "in the worker", error) from error

    def cancel(self, reference) -> None:
        self.cancelled.append(reference[0])


@pytest.fixture
def install_nodes(monkeypatch):
    def replace(*offers: dict, **options) -> Nodes:
        fake = Nodes(*offers, **options)
        monkeypatch.setattr(cluster, "ray", fake)
        monkeypatch.setattr(cluster, "NodeAffinitySchedulingStrategy", lambda name, soft: name)
        return fake

    return replace


def test_the_nodes_are_those_that_live_with_what_they_offer(install_nodes) -> None:
    install_nodes(offer("b", CPU=4.0, GPU=2.0), offer("c", alive=False, CPU=8.0), offer("a", memory=1e9))
    assert live_nodes() == [Node("a", 0, 0), Node("b", 4, 2)]


def test_a_node_that_is_late_or_dies_has_no_answer_and_holds_up_no_other(install_nodes) -> None:
    fake = install_nodes(offer("a"), offer("b"), offer("c"), late=("b",), dying=("c",))
    assert ask_each_node(str.upper, "?", patience=5) == {"a": "A?", "b": None, "c": None}
    assert fake.cancelled == ["b"]
    assert fake.asked["num_cpus"] == 0


def divide(question: str) -> float:
    return 1 / 0


def test_what_is_wrong_with_the_question_is_raised(install_nodes) -> None:
    install_nodes(offer("a"))
    with pytest.raises(ray.exceptions.RayTaskError):
        ask_each_node(divide, "?", patience=5)


def test_a_cluster_is_described_as_json(install_nodes, monkeypatch) -> None:
    install_nodes(offer("a", CPU=2.0))
    monkeypatch.setattr(cluster, "ray_session", lambda **options: nullcontext())
    assert json.loads(describe_cluster("auto")) == [{"name": "a", "cpus": 2, "gpus": 0}]
