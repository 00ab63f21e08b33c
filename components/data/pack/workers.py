"""Tasks spread over the cores of this machine."""

import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from typing import TypeVar

from components.errors import InputError

T = TypeVar("T")
R = TypeVar("R")

MapTasks = Callable[[Callable[[T], R], Sequence[T]], Iterator[R]]
"""Applies a function to each task and yields the results as they come, in any order."""

_QUEUED_PER_WORKER = 4


def in_this_process(function: Callable[[T], R], tasks: Sequence[T]) -> Iterator[R]:
    """One after the other."""
    yield from map(function, tasks)


def on_cores(workers: int) -> MapTasks:
    """A process for each core: decoding holds Python's lock for too much of its time for threads.

    The processes are spawned, not forked: a fork would copy the locks of threads (MLflow's, BLAS') that are not there
    in the copy. A single worker or task stays in this process. What a task raises is raised here, and the rest is
    cancelled; a worker that is killed is an InputError about memory.
    """

    def run(function: Callable[[T], R], tasks: Sequence[T]) -> Iterator[R]:
        count = min(workers, len(tasks))
        if count <= 1:
            yield from in_this_process(function, tasks)
            return
        with ProcessPoolExecutor(count, mp_context=multiprocessing.get_context("spawn")) as pool:
            remaining = iter(tasks)
            waiting: set[Future[R]] = set()
            try:
                for task in remaining:
                    waiting.add(pool.submit(function, task))
                    if len(waiting) >= _QUEUED_PER_WORKER * count:
                        done, waiting = wait(waiting, return_when=FIRST_COMPLETED)
                        yield from (future.result() for future in done)
                while waiting:
                    done, waiting = wait(waiting, return_when=FIRST_COMPLETED)
                    yield from (future.result() for future in done)
            except BrokenProcessPool as error:
                raise InputError(
                    f"compute.num_threads: one of {count} processes that decode images was killed, mostly for want "
                    "of memory; use fewer, or take the largest images out of data.source"
                ) from error
            finally:
                for future in waiting:
                    future.cancel()

    return run
