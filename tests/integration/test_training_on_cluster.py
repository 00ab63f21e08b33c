"""Trainings without a fold as tasks of a real Ray: several at a time, and what a worker that is killed costs."""

import os
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from components.cluster import map_on_cluster, ray_session
from components.errors import InputError
from components.metric_writer import MetricWriter
from pipeline.compute.resources import TrainingShare
from pipeline.compute.shipping import ship
from pipeline.config import ComputeConfig
from pipeline.sections.learning_rate import MonitorConfig
from pipeline.sections.recipe import ModelConfig, Recipe, RecipeConfig
from pipeline.stage import read_record
from pipeline.training import placement
from pipeline.training.checkpoints import TrainingStore
from pipeline.training.job import Ended, Event, Saved, TrainingSpec, left_out
from pipeline.training.placement import Failed, Job, Task, train_all, train_on_worker
from pipeline.training.tasks import Place

pytestmark = pytest.mark.integration

COMPUTE = ComputeConfig(device="cpu", num_threads=1)
SHARE = TrainingShare(concurrent=2, cpus=1, gpus=0)
EPOCHS = 4


@pytest.fixture(scope="module")
def place(finished) -> Place:
    """The prepared images of the shared run."""
    workplace, done = finished
    record = read_record(workplace.result(done, "prepare"))
    assert record is not None
    return Place(prepared=ship(record, compute=COMPUTE), compute=COMPUTE, threads=1, share=SHARE)


@pytest.fixture(scope="module", autouse=True)
def ray(ray_folder) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_TMPDIR", str(ray_folder))
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        with ray_session(address=None, num_cpus=3, num_gpus=0):
            yield


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


class Run(MetricWriter):
    """Notes how often an epoch is logged."""

    def __init__(self) -> None:
        self.epochs: list[int] = []

    def log_metrics(self, metrics: dict, *, step: int = 0) -> None:
        self.epochs.append(step)

    def logged_steps(self, metric: str) -> set[int]:
        return set(self.epochs)


def spec(fold: int) -> TrainingSpec:
    recipe = RecipeConfig(lr=0.01, batch_size=16, objective="auroc")
    whole = TrainingSpec(
        recipe=Recipe(model=ModelConfig(backbone="test_efficientnet", weights="none"), recipe=recipe),
        seed=0,
        epochs=EPOCHS,
        monitor=MonitorConfig(action="observe"),
    )
    return left_out(whole, fold)


def job(folder: Path, fold: int) -> Job:
    return Job(name=f"fold {fold}", spec=spec(fold), store=TrainingStore(folder / str(fold), Run()))


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory, place) -> dict[str, Job]:
    """The trainings without one of two folds, one after the other in this process."""
    jobs = [job(tmp_path_factory.mktemp("undisturbed"), fold) for fold in (0, 1)]
    train_all(jobs, replace(place, share=None), warn=pytest.fail, on_event=lambda *a: None)
    return {one.name: one for one in jobs}


def assert_same(jobs: dict[str, Job], others: dict[str, Job]) -> None:
    for name, one in jobs.items():
        mine, theirs = one.store, others[name].store
        assert mine.steps() == theirs.steps()
        assert [r.metrics for r in mine.progress.history] == [r.metrics for r in theirs.progress.history]
        assert mine.ended == theirs.ended
        for key, value in theirs.best().weights.items():
            assert torch.equal(mine.best().weights[key], value), key
        assert np.array_equal(mine.best().val_logits, theirs.best().val_logits)
        assert np.array_equal(mine.best().views, theirs.best().views)


@pytest.fixture
def workers(tmp_path, monkeypatch) -> Callable[[], list[int]]:
    """The processes of the trainings so far. A training begins when two have a worker: one after the other, none would.

    The workers write their numbers down themselves: the name that Ray gives to a process changes at every moment.
    """
    folder = tmp_path / "workers"
    folder.mkdir()

    def meet_and_train(task: Task) -> Iterator[Event | Failed]:
        (folder / str(os.getpid())).touch()
        until = time.monotonic() + 120
        while len(list(folder.iterdir())) < SHARE.concurrent:
            assert time.monotonic() < until, "no other training runs beside this one"
            time.sleep(0.02)
        yield from train_on_worker(task)

    monkeypatch.setattr(placement, "train_on_worker", meet_and_train)
    return lambda: [int(path.name) for path in folder.iterdir()]


def test_trainings_beside_each_other_give_the_weights_of_trainings_in_process(
    tmp_path, place, undisturbed, workers
) -> None:
    jobs = {one.name: one for one in (job(tmp_path, fold) for fold in (0, 1))}
    seen = []

    def note(one: Job, event: Event) -> None:
        seen.append((one.name, event.epoch.epoch if isinstance(event, Saved) else "end"))

    train_all(list(jobs.values()), place, warn=pytest.fail, on_event=note)
    for name in jobs:
        assert [what for who, what in seen if who == name] == [1, 2, 3, 4, "end"]
    assert len(workers()) == 2
    assert_same(jobs, undisturbed)


def test_a_training_whose_worker_is_killed_ends_with_the_same_weights(tmp_path, place, undisturbed, workers) -> None:
    jobs = {one.name: one for one in (job(tmp_path, fold) for fold in (0, 1))}
    killed, died = [], []

    def note(one: Job, event: Event) -> None:
        if not killed:
            assert not isinstance(event, Ended)
            assert event.epoch.epoch == 1
            for process in workers():
                os.kill(process, signal.SIGKILL)
                killed.append(process)

    train_all(list(jobs.values()), place, warn=died.append, on_event=note)
    assert len(killed) == len(died) == 2
    assert all("its worker was lost" in line for line in died)
    assert_same(jobs, undisturbed)
    for one in jobs.values():
        assert one.store.writer.epochs == [1, 2, 3, 4]  # none twice


def test_what_a_training_raises_is_what_the_caller_hears(tmp_path, place) -> None:
    one = job(tmp_path, 0)
    unknown = spec(0).recipe.model_copy(update={"model": ModelConfig(backbone="no_such_net", weights="none")})
    one = replace(one, spec=replace(one.spec, recipe=unknown))
    with pytest.raises(InputError, match="no_such_net") as caught:
        train_all([one], place, warn=pytest.fail, on_event=lambda *a: pytest.fail("no event"))
    assert type(caught.value) is InputError
    assert "train_on_worker" in caught.value.__notes__[0]  # where in the worker


def test_what_a_plain_task_raises_is_what_the_caller_hears_as_well() -> None:
    def inverse(number: int) -> float:
        return 1 / number

    with pytest.raises(ZeroDivisionError) as caught:
        list(map_on_cluster(inverse, [0]))
    assert "in inverse" in caught.value.__notes__[0]
