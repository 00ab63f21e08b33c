"""Where a final training runs: in this process, or as a task of a Ray cluster. Its keeper is here in either case.

A worker needs no folder that it shares with the driver: what it is to go on from travels with the task, and what it
hands out travels back. One that dies costs the epoch that it was at.
"""

from __future__ import annotations

import contextlib
import functools
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch

from components.cluster import stream_on_cluster
from components.errors import InputError
from components.training.engine import StepRecord
from pipeline.compute.resources import Shares, ray_for, training_shares
from pipeline.compute.shipping import ship
from pipeline.compute.spreading import Place, place_of_work
from pipeline.console import Console
from pipeline.stage import StageContext
from pipeline.training.build import open_data, steps_per_epoch
from pipeline.training.job import Ended, FinalTraining, Saved, State, train_by_epochs
from pipeline.training.keeper import TrainingKeeper

#: How often a training is handed over again after its worker has died.
MAX_DEATHS = 3
Item = Saved | Ended


@dataclass(frozen=True, kw_only=True)
class Job:
    """A training and its keeper. name: in words, unlike any other's."""

    name: str
    training: FinalTraining
    keeper: TrainingKeeper


@dataclass(frozen=True, kw_only=True)
class Task:
    """A job as it is handed to a worker. earlier: what it goes on from."""

    name: str
    training: FinalTraining
    place: Place
    earlier: State | None


def train_to_the_end(
    context: StageContext, training: FinalTraining, keeper: TrainingKeeper, *, known: str = ""
) -> Ended:
    """One training, here or on the configured cluster, with a bar over its steps; how it ended.

    known: what the range test has found, to be said where it failed.

    Raises `InputError` when it diverged and nothing was to be done about it, or before there was an epoch to keep.
    """
    if keeper.ended is None:
        per_epoch = steps_per_epoch(training.recipe, open_data(context.inputs["prepare"].directory))
        epochs, shown = training.train.epochs, keeper.progress.steps_done()
        with context.console.bar("training", per_epoch * epochs, done=shown) as advance:

            def step(record: StepRecord) -> None:
                nonlocal shown
                now = f"epoch {(record.step - 1) // per_epoch + 1}/{epochs}"
                advance(record.step - shown, note=f"{now}  {keeper.progress.note()}".rstrip())
                shown = record.step

            _train_somewhere(context, Job(name="training", training=training, keeper=keeper), step)
    ended = keeper.ended
    assert ended is not None  # the last item of every training
    if ended.failure is not None:
        keeper.reopen()
        raise InputError(ended.failure + known)
    if ended.diverged is not None:
        context.console.warn(f"training diverged in epoch {ended.diverged}; the best epoch before it is kept")
    return ended


def _train_somewhere(context: StageContext, job: Job, on_step: Callable[[StepRecord], None]) -> None:
    def committed(job: Job, item: Item) -> None:
        if item.steps:
            on_step(item.steps[-1])

    with place_of_work(context) as place:
        if place.shares is None:
            train_here(job, place, on_step=on_step)
        else:
            died = functools.partial(say_death, context.console)
            train_on_workers({job.name: job}, place, place.shares, on_item=committed, on_death=died)


@contextlib.contextmanager
def place_of_several(context: StageContext, *, trainings: int) -> Iterator[Place]:
    """Where several trainings run: on the cluster, on a local Ray where several may share this machine's GPUs, and else
    in this process, one after the other.
    """
    record, compute = context.inputs["prepare"], context.compute
    if compute.ray_address is None:
        shares = training_shares(compute)
        if shares.gpus and min(shares.concurrent, trainings) > 1:
            prepared = ship(record, compute=compute)
            with ray_for(compute, shares):
                yield Place(prepared=prepared, compute=compute, threads=shares.cpus, shares=shares)
            return
    with place_of_work(context) as place:
        yield place


def say_death(console: Console, job: Job, error: Exception) -> None:
    """Tell of a worker that died."""
    console.warn(
        f"{job.name}: its worker died ({type(error).__name__}); it goes on elsewhere after epoch "
        f"{job.keeper.progress.epochs_done()}"
    )


def train_here(
    job: Job,
    place: Place,
    *,
    on_step: Callable[[StepRecord], None] = lambda record: None,
    on_item: Callable[[Item], None] = lambda item: None,
) -> None:
    """Train to the end in this process. on_item: called with each item when it is committed."""
    if job.keeper.ended is not None:
        return
    for item in train_by_epochs(job.training, place, earlier=job.keeper.state(), on_step=on_step):
        job.keeper.commit(item)
        on_item(item)


def train_on_workers(
    jobs: Mapping[str, Job],
    place: Place,
    shares: Shares,
    *,
    on_item: Callable[[Job, Item], None],
    on_death: Callable[[Job, Exception], None],
) -> None:
    """Train all to the end on the workers of the current Ray session.

    jobs: by their names. on_item: called when an item is committed. on_death: called when a worker or its node died,
    before the training goes on elsewhere. Raises what killed it when one training has lost too many, and what a
    training itself raises.
    """
    tasks = [_task(job, place) for job in jobs.values() if job.keeper.ended is None]
    deaths: Counter[str] = Counter()
    stream = stream_on_cluster(train_on_worker, tasks, cores=shares.cpus, gpus=shares.gpus, at_once=shares.concurrent)
    for task, outcome in stream:
        job = jobs[task.name]
        if not isinstance(outcome, Exception):
            job.keeper.commit(outcome)
            on_item(job, outcome)
            continue
        if job.keeper.ended is not None:
            continue
        deaths[task.name] += 1
        if deaths[task.name] > MAX_DEATHS:
            outcome.add_note(f"{task.name}: the worker has died {deaths[task.name]} times; what is committed is kept")
            raise outcome
        on_death(job, outcome)
        tasks.append(_task(job, place))


def train_on_worker(task: Task) -> Iterator[Item]:
    """What a worker does: the training's items, with tensors that a driver without a GPU can hold."""
    for item in train_by_epochs(task.training, task.place, earlier=task.earlier):
        yield replace(item, state=_on_cpu(item.state)) if isinstance(item, Saved) else item


def _task(job: Job, place: Place) -> Task:
    return Task(name=job.name, training=job.training, place=place, earlier=job.keeper.state())


def _on_cpu(value: Any) -> Any:  # noqa: ANN401 - a state: tensors, plain values and containers of these
    if isinstance(value, torch.Tensor):
        return value.detach().cpu()
    if isinstance(value, Mapping):
        return {key: _on_cpu(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_on_cpu(item) for item in value)
    return value
