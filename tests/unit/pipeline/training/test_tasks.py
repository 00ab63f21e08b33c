"""Where the tasks of a stage run: here one by one, or handed to a cluster with a training's share of it."""

from contextlib import contextmanager
from types import SimpleNamespace

import pytest
import torch

from components import cluster
from pipeline.compute.resources import TrainingShare
from pipeline.compute.shipping import Prepared
from pipeline.config import ComputeConfig
from pipeline.training import tasks
from pipeline.training.tasks import Place, run_tasks, task_placement

PREPARED = Prepared(None, "one")


def place(share: TrainingShare | None) -> Place:
    return Place(prepared=PREPARED, compute=ComputeConfig(), threads=1, share=share)


def inverse(number: int) -> float:
    return 1 / number


@pytest.fixture
def handed(monkeypatch) -> dict:
    """How tasks are handed to a cluster that settles the last one first."""
    seen: dict = {"ended": False}

    def settle(function, tasks, **options):
        seen.update(options)
        try:
            for task in reversed(tasks):
                try:
                    yield task, function(task)
                except ArithmeticError as error:
                    yield task, error
        finally:
            seen["ended"] = True

    monkeypatch.setattr(cluster, "run_on_cluster", settle)
    return seen


def test_here_tasks_are_done_in_their_order(handed) -> None:
    assert list(run_tasks(inverse, [1, 2, 4], place(None))) == [(1, 1.0), (2, 0.5), (4, 0.25)]
    assert "cores" not in handed


def test_on_a_cluster_each_task_has_a_trainings_share(handed) -> None:
    share = TrainingShare(concurrent=3, cpus=2, gpus=0.5)
    assert list(run_tasks(inverse, [1, 2, 4], place(share))) == [(4, 0.25), (2, 0.5), (1, 1.0)]
    assert handed == {"cores": 2, "gpus": 0.5, "at_once": 3, "ended": True}


@pytest.mark.parametrize("share", [None, TrainingShare(concurrent=1, cpus=1, gpus=0)])
def test_what_a_task_raises_is_raised_and_the_rest_ended(handed, share) -> None:
    with pytest.raises(ZeroDivisionError):
        list(run_tasks(inverse, [0, 1], place(share)))
    assert handed["ended"] == (share is not None)


def context(**compute) -> SimpleNamespace:
    return SimpleNamespace(inputs={"prepare": "record"}, compute=ComputeConfig(**compute))


@pytest.fixture
def session(monkeypatch) -> list[str]:
    """What happens in which order."""
    events: list[str] = []

    @contextmanager
    def open_session(compute):
        events.append("joined")
        yield TrainingShare(concurrent=2, cpus=3, gpus=0)
        events.append("left")

    monkeypatch.setattr(tasks, "training_session", open_session)
    monkeypatch.setattr(tasks, "ship", lambda record, *, compute: events.append("shipped") or PREPARED)
    return events


def test_without_a_cluster_a_stage_works_in_its_own_process(session) -> None:
    with task_placement(context(num_threads=5)) as found:
        assert (found.share, found.threads, found.prepared) == (None, 5, PREPARED)
    assert session == ["shipped"]


def test_the_data_are_shipped_within_the_session_of_the_workers(session) -> None:
    with task_placement(context(ray_address="auto")) as found:
        assert (found.share, found.threads) == (TrainingShare(concurrent=2, cpus=3, gpus=0), 3)
    assert session == ["joined", "shipped", "left"]


def test_whoever_opens_the_data_gets_the_threads_of_its_task(monkeypatch, tmp_path) -> None:
    before = torch.get_num_threads()
    monkeypatch.setattr(tasks, "local_folder", lambda prepared: tmp_path)
    monkeypatch.setattr(tasks, "open_data", lambda folder: (folder, torch.get_num_threads()))
    try:
        assert place(None).open() == (tmp_path, 1)
    finally:
        torch.set_num_threads(before)
