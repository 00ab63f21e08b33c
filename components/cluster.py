"""Starting and stopping Ray, its nodes, and spreading plain tasks over it. The only `ray.init` of the project."""

from __future__ import annotations

import contextlib
import gc
import itertools
import json
import logging
import os
import secrets
import signal
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from components.errors import InputError
from components.home import check_writable, ray_folder

T = TypeVar("T")
R = TypeVar("R")

_QUEUED_PER_CORE = 2
#: Items that a stream has ready, and the cluster keeps in memory, before the caller asks for them.
_ITEMS_AHEAD = 2


def _have_token() -> None:
    """Ray guards a local session with a token that it keeps in the user's home; without a home, in the environment."""
    if os.environ.get("RAY_AUTH_TOKEN") or os.environ.get("RAY_AUTH_TOKEN_PATH"):
        return
    try:
        folder = Path.home() / ".ray"
        if os.access(folder / "auth_token", os.R_OK):
            return
        folder.mkdir(parents=True, exist_ok=True)
        check_writable(folder)
    except (OSError, RuntimeError):  # no home that can be written, or none at all
        os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)


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
            folder, moved = ray_folder()
            _have_token()
            ray.init(
                address="local",  # without it, RAY_ADDRESS or a Ray that runs on this machine would be joined
                num_cpus=num_cpus,
                num_gpus=num_gpus,
                include_dashboard=False,
                log_to_driver=False,
                logging_level=logging.ERROR,
                _temp_dir=str(folder),
                # What does not fit into memory may be large: it goes where temporary files were asked to go.
                object_spilling_directory=tempfile.gettempdir() if moved else None,
            )
        else:
            ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
    except InputError:
        raise
    except (OSError, ValueError, RuntimeError, AssertionError) as error:
        if address is None:
            raise InputError(
                f"compute.ray_address=null: Ray does not start on this machine ({error}); free memory and room for its "
                "files, set RAY_TMPDIR and HOME to folders that you may write, or give the address of a cluster"
            ) from error
        raise InputError(
            f"compute.ray_address={address}: {address} cannot be reached ({error}); "
            "start the cluster, or leave the key null to run on this machine"
        ) from error
    finally:
        if threading.current_thread() is threading.main_thread() and on_request_to_end is not None:
            signal.signal(signal.SIGTERM, on_request_to_end)  # Ray has put its own in place
    try:
        yield
    finally:
        # Tune leaves handles of actors in reference cycles. Collected after the shutdown, in whatever thread, they make
        # Ray end this process: "The core worker has already been shutdown".
        gc.collect()
        ray.shutdown()


def cluster_cores() -> int:
    """Cores of the cluster of the current `ray_session`."""
    return max(1, int(ray.cluster_resources().get("CPU", 1)))


def map_on_cluster(function: Callable[[T], R], tasks: Sequence[T]) -> Iterator[R]:
    """Apply a function to each task, on a core each, anywhere in the cluster of the current `ray_session`.

    Results come in any order, and what a task raises is raised here. A node that dies costs its tasks, which are done
    again elsewhere, so the function has to bear being called twice.
    """
    for _, outcome in run_on_cluster(function, tasks, cores=1, gpus=0, at_once=_QUEUED_PER_CORE * cluster_cores()):
        if isinstance(outcome, Exception):
            raise outcome
        yield outcome


def run_on_cluster(
    function: Callable[[T], R], tasks: Sequence[T], *, cores: float, gpus: float, at_once: int
) -> Iterator[tuple[T, R | Exception]]:
    """The same for tasks that take several cores or (a share of) a GPU each, and where one that fails stops no other.

    Each task comes back with its result, or with the error that it raised or that its worker died of. at_once: tasks
    that run at the same time, at most. When the caller stops, running tasks are cancelled.
    """
    remote = ray.remote(num_cpus=cores, num_gpus=gpus, max_retries=3)(function)
    under_way: dict[ray.ObjectRef[R], T] = {}
    left = iter(tasks)
    try:
        while True:
            for task in itertools.islice(left, at_once - len(under_way)):
                under_way[remote.remote(task)] = task
            if not under_way:
                return
            done, _ = ray.wait(list(under_way))
            for reference in done:
                yield under_way.pop(reference), _outcome(reference)
    finally:
        _cancel(under_way)


def stream_on_cluster(
    function: Callable[[T], Iterator[R]], tasks: list[T], *, cores: float, gpus: float, at_once: int
) -> Iterator[tuple[T, R | Exception]]:
    """What a generator function yields on the workers, item by item as it comes, from several tasks at a time.

    Each item comes with its task. A task whose worker or node died comes with that error, which is its last: it is not
    repeated by itself, but the caller may append to `tasks` at any time, for instance the same task, resumed. What
    the function itself raises is raised here. A worker is at most a few items ahead of the caller, which holds only
    these in memory. When the caller stops, running tasks are cancelled.
    """
    options: dict[str, Any] = {
        "num_cpus": cores,
        "num_gpus": gpus,
        "max_retries": 0,  # Ray would begin anew, and give the first items again
        "num_returns": "streaming",
        "_generator_backpressure_num_objects": _ITEMS_AHEAD,
    }
    remote = ray.remote(**options)(function)
    under_way: dict[Any, T] = {}  # by the stream of its items
    begun = 0
    try:
        while True:
            while begun < len(tasks) and len(under_way) < at_once:
                under_way[remote.remote(tasks[begun])] = tasks[begun]
                begun += 1
            if not under_way:
                return
            ready: list[Any] = ray.wait(list(under_way))[0]
            for stream in ready:
                reference = next(stream, None)
                if reference is None:
                    del under_way[stream]
                    continue
                item, died = _item(reference)
                task = under_way.pop(stream) if died is not None else under_way[stream]
                yield task, died if died is not None else item
    finally:
        _cancel(under_way)


def _cancel(references: Iterable[Any]) -> None:
    """Stop tasks, unless their session has ended and they with it: the call would start another Ray."""
    if ray.is_initialized():
        for reference in references:
            ray.cancel(reference)


def _item(reference: ray.ObjectRef[Any]) -> tuple[Any, Exception | None]:
    """An item of a stream, or what its worker died of. What the task raised is raised."""
    try:
        return ray.get(reference), None
    except ray.exceptions.RayTaskError as error:
        raise _cause(error) from None
    except ray.exceptions.RayError as error:
        return None, error


def _outcome(reference: ray.ObjectRef[R]) -> R | Exception:
    try:
        return ray.get(reference)
    except ray.exceptions.RayTaskError as error:
        return _cause(error)
    except ray.exceptions.RayError as error:  # the worker died
        return error


def _cause(error: ray.exceptions.RayTaskError) -> Exception:
    """What the task itself raised, with a note of where in the worker that was."""
    cause = error.cause
    if not isinstance(cause, Exception):
        return error
    # Its text holds the worker's traceback; the attribute of that name is gone where Ray has merged the two errors.
    cause.add_note(str(error))
    return cause


@dataclass(frozen=True)
class Node:
    """A node, and how many cores and GPUs its tasks may have. name: Ray's own."""

    name: str
    cpus: int
    gpus: int


def live_nodes() -> list[Node]:
    """The nodes of the cluster of the current `ray_session` that are alive, in a fixed order."""
    alive = {record["NodeID"]: record["Resources"] for record in ray.nodes() if record["Alive"]}
    return [Node(name, int(offer.get("CPU", 0)), int(offer.get("GPU", 0))) for name, offer in sorted(alive.items())]


def own_node() -> str:
    """Name of the node that this process runs on."""
    return ray.get_runtime_context().get_node_id()


def ask_each_node(function: Callable[[T], R], question: T, *, patience: float) -> dict[str, R | None]:
    """What the function answers on each node, by its name; None where a node died or took more than `patience` seconds.

    It takes no core, so that a busy node answers as well. What the function raises is raised here.
    """
    remote = ray.remote(num_cpus=0, max_retries=0)(function)
    asked = {
        remote.options(scheduling_strategy=NodeAffinitySchedulingStrategy(node.name, soft=False)).remote(question): node
        for node in live_nodes()
    }
    done, late = ray.wait(list(asked), num_returns=len(asked), timeout=patience)
    for reference in late:
        ray.cancel(reference)
    answers: dict[str, R | None] = {asked[reference].name: None for reference in late}
    for reference in done:
        try:
            answers[asked[reference].name] = ray.get(reference)
        except ray.exceptions.RayTaskError:
            raise
        except ray.exceptions.RayError:  # the node has gone
            answers[asked[reference].name] = None
    return answers


def describe_cluster(address: str) -> str:
    """The nodes of the cluster at that address, as JSON: said by a process that is started to see whether it answers.

    Raises `InputError` when the cluster cannot be reached.
    """
    with ray_session(address=address, num_cpus=1, num_gpus=0):
        return json.dumps([asdict(node) for node in live_nodes()])
