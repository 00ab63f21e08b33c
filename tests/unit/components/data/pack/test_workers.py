"""Tasks over processes: all of them, once each, and errors that arrive."""

import os

import pytest

from components.data.pack.workers import in_this_process, on_cores
from components.errors import InputError


def double(number):
    return 2 * number


def name_of_process(_):
    return os.getpid()


def fail_on_three(number):
    if number == 3:
        raise FileNotFoundError("three")
    return number


def die(_):
    os._exit(1)


def test_one_worker_stays_in_this_process():
    assert list(on_cores(1)(name_of_process, [1, 2, 3])) == [os.getpid()] * 3


def test_one_task_stays_in_this_process():
    assert list(on_cores(4)(name_of_process, [1])) == [os.getpid()]


def test_a_small_job_is_done_before_processes_would_have_started():
    assert list(on_cores(4)(name_of_process, [1, 2, 3])) == [os.getpid()] * 3


def test_no_task_is_no_result():
    assert list(on_cores(4)(double, [])) == list(in_this_process(double, [])) == []


@pytest.mark.slow
def test_several_workers_do_every_task_once_elsewhere(at_once):
    assert sorted(on_cores(2)(double, list(range(20)))) == list(range(0, 40, 2))
    assert os.getpid() not in set(on_cores(2)(name_of_process, [1, 2]))


@pytest.mark.slow
def test_what_a_task_raises_is_raised_here(at_once):
    with pytest.raises(FileNotFoundError, match="three"):
        list(on_cores(2)(fail_on_three, list(range(20))))


@pytest.mark.slow
def test_a_worker_that_is_killed_is_said_to_be(at_once):
    with pytest.raises(InputError, match="memory"):
        list(on_cores(2)(die, [1, 2]))
