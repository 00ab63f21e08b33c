"""Tasks over threads and processes: all of them, once each, and errors that arrive."""

import os
import threading

import pytest

from components.data.pack.workers import on_cores
from components.errors import InputError

# Spawned processes need functions that they can import, whichever way pytest has imported this file: `abs` and `eval`.
WHO = "__import__('os').getpid()"
DIE = "__import__('os')._exit(1)"
FAIL = "open('three')"


def test_one_worker_stays_in_this_process():
    assert list(on_cores(1)(eval, [WHO] * 3)) == [os.getpid()] * 3


def test_one_task_stays_in_this_process():
    assert list(on_cores(4)(eval, [WHO])) == [os.getpid()]


def test_a_small_job_is_done_before_processes_would_have_started():
    assert list(on_cores(4)(eval, [WHO] * 3)) == [os.getpid()] * 3


def test_a_small_job_is_spread_over_threads():
    together = threading.Barrier(2, timeout=10)  # which one alone would not pass
    assert sorted(on_cores(2)(lambda task: together.wait(), range(2))) == [0, 1]


def test_what_a_task_raises_in_a_thread_is_raised_here():
    with pytest.raises(FileNotFoundError, match="three"):
        list(on_cores(2)(eval, [WHO, FAIL, WHO]))


def test_no_task_is_no_result():
    assert list(on_cores(4)(abs, [])) == []


@pytest.mark.slow
def test_several_workers_do_every_task_once_elsewhere(at_once):
    assert sorted(on_cores(2)(abs, list(range(-20, 0)))) == list(range(1, 21))
    assert os.getpid() not in set(on_cores(2)(eval, [WHO] * 2))


@pytest.mark.slow
def test_what_a_task_raises_is_raised_here(at_once):
    with pytest.raises(FileNotFoundError, match="three"):
        list(on_cores(2)(eval, [*[WHO] * 9, FAIL, *[WHO] * 9]))


@pytest.mark.slow
def test_a_worker_that_is_killed_is_said_to_be(at_once):
    with pytest.raises(InputError, match="memory"):
        list(on_cores(2)(eval, [DIE] * 2))
