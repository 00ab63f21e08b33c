"""Tasks spread over the cores of this machine."""

import math
import multiprocessing
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from typing import Protocol, TypeVar

from components.errors import InputError

T = TypeVar("T")
R = TypeVar("R")


class MapTasks(Protocol):
    """Applies a function to each task and yields the results as they come, in any order."""

    def __call__(self, function: Callable[[T], R], tasks: Sequence[T], /) -> Iterator[R]: ...


_QUEUED_PER_WORKER = 4
_THREADS_SECONDS = 4.0


def on_cores(workers: int) -> MapTasks:
    """Threads for the first seconds, then a process for each core.

    Decoding leaves Python's lock alone for about two thirds of its time: enough for two threads, too little for one on
    each core. The processes are spawned, not forked: a fork would copy the locks of threads (MLflow's, BLAS') that are
    not there in the copy. Starting one takes a second or two of a core, in which a small job is done. What a task
    raises is raised here, and the rest is cancelled; a worker that dies is an InputError about memory.
    """

    def run(function: Callable[[T], R], tasks: Sequence[T]) -> Iterator[R]:
        rest = deque(tasks)
        until = math.inf if workers == 1 else time.monotonic() + _THREADS_SECONDS
        with ThreadPoolExecutor(workers) as threads:
            yield from _spread(threads, function, rest, queued=workers, until=until)
        if not rest:
            return
        count = min(workers, len(rest))
        with ProcessPoolExecutor(count, mp_context=multiprocessing.get_context("spawn")) as pool:
            try:
                yield from _spread(pool, function, rest, queued=_QUEUED_PER_WORKER * count)
            except BrokenProcessPool as error:
                raise InputError(
                    f"compute.num_threads: one of {count} processes that decode images could not start or was killed, "
                    "mostly for want of memory; use fewer, or take the largest images out of data.source"
                ) from error

    return run


def _spread(
    pool: Executor, function: Callable[[T], R], rest: deque[T], *, queued: int, until: float = math.inf
) -> Iterator[R]:
    """Take tasks from the rest and yield their results; so many are with the pool at a time, none is new after `until`.

    until: by `time.monotonic`.
    """
    waiting: set[Future[R]] = set()
    try:
        while True:
            while rest and len(waiting) < queued and time.monotonic() < until:
                waiting.add(pool.submit(function, rest.popleft()))
            if not waiting:
                return
            done, waiting = wait(waiting, return_when=FIRST_COMPLETED)
            yield from (future.result() for future in done)
    finally:
        for future in waiting:
            future.cancel()
