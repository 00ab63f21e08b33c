"""Tasks spread over the cores of this machine."""

import multiprocessing
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from typing import Protocol, TypeVar

from components.errors import InputError

T = TypeVar("T")
R = TypeVar("R")


class MapTasks(Protocol):
    """Applies a function to each task and yields the results as they come, in any order."""

    def __call__(self, function: Callable[[T], R], tasks: Sequence[T], /) -> Iterator[R]: ...


_QUEUED_PER_WORKER = 4
_ALONE_SECONDS = 1.0


def on_cores(workers: int) -> MapTasks:
    """A process for each core: decoding holds Python's lock for too much of its time for threads.

    The processes are spawned, not forked: a fork would copy the locks of threads (MLflow's, BLAS') that are not there
    in the copy. Starting them takes a second or two, so the first second of work is done here, and with it all of a
    small job, as is a job for a single worker. What a task raises is raised here, and the rest is cancelled; a worker
    that dies is an InputError about memory.
    """

    def run(function: Callable[[T], R], tasks: Sequence[T]) -> Iterator[R]:
        started, rest = time.monotonic(), deque(tasks)
        while rest and (time.monotonic() - started < _ALONE_SECONDS or workers == 1 or len(rest) == 1):
            yield function(rest.popleft())
        if not rest:
            return
        count = min(workers, len(rest))
        with ProcessPoolExecutor(count, mp_context=multiprocessing.get_context("spawn")) as pool:
            waiting: set[Future[R]] = set()
            try:
                for task in rest:
                    waiting.add(pool.submit(function, task))
                    if len(waiting) >= _QUEUED_PER_WORKER * count:
                        done, waiting = wait(waiting, return_when=FIRST_COMPLETED)
                        yield from (future.result() for future in done)
                while waiting:
                    done, waiting = wait(waiting, return_when=FIRST_COMPLETED)
                    yield from (future.result() for future in done)
            except BrokenProcessPool as error:
                raise InputError(
                    f"compute.num_threads: one of {count} processes that decode images could not start or was killed, "
                    "mostly for want of memory; use fewer, or take the largest images out of data.source"
                ) from error
            finally:
                for future in waiting:
                    future.cancel()

    return run
