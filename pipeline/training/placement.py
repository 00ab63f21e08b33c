"""Runs trainings in this process, or as tasks of a Ray cluster. The driver has their stores in either case.

A worker shares no folder with the driver: the task contains the state to resume from, and the events are sent back. A
lost worker costs its current epoch.
"""

from __future__ import annotations

import contextlib
import traceback
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from components.display import counted
from components.errors import InputError
from components.training.checkpoint import on_cpu
from components.training.engine import StepRecord
from pipeline.compute.resources import check_compute, ray_for
from pipeline.compute.shipping import ship
from pipeline.stage import StageContext
from pipeline.training.checkpoints import TrainingStore
from pipeline.training.data import open_data, steps_per_epoch
from pipeline.training.job import Ended, Event, OnSteps, Saved, State, TrainingSpec, data_of, train
from pipeline.training.tasks import Place, task_placement

#: How often a training is restarted on another worker after its worker was lost.
MAX_WORKER_LOSSES = 3


@dataclass(frozen=True, kw_only=True)
class Job:
    """A training and its store. name: unique, for messages. run_id: of its MLflow run, if it has one."""

    name: str
    spec: TrainingSpec
    store: TrainingStore
    run_id: str = ""


@dataclass(frozen=True, kw_only=True)
class Task:
    """A job as it is sent to a worker. earlier: the state to resume from."""

    name: str
    spec: TrainingSpec
    place: Place
    earlier: State | None


@dataclass(frozen=True, kw_only=True)
class Failed:
    """The exception of a training."""

    error: Exception


def run_training(context: StageContext, spec: TrainingSpec, store: TrainingStore, *, known: str = "") -> Ended:
    """Run one training, here or on the configured cluster, with a progress bar; how it ended.

    known: the range test's result, which is added to the message of a failure. Raises `InputError` if the training
    failed (see `Ended.failure`).
    """
    if store.ended is None:
        data = data_of(spec.fold, open_data(context.inputs["prepare"].directory))
        per_epoch = steps_per_epoch(spec.recipe, data)
        shown = store.progress.steps_done()
        with (
            context.console.bar("training", per_epoch * spec.epochs, done=shown) as advance,
            task_placement(context) as place,
        ):

            def steps_made(records: Sequence[StepRecord]) -> None:
                nonlocal shown
                step = records[-1].step
                now = f"epoch {(step - 1) // per_epoch + 1}/{spec.epochs}"
                advance(step - shown, note=f"{now}  {store.progress.note()}".rstrip())
                shown = step

            def on_event(job: Job, event: Event) -> None:
                if event.steps:
                    steps_made(event.steps)

            job = Job(name="training", spec=spec, store=store)
            train_all([job], place, warn=context.console.warn, on_event=on_event, on_steps=steps_made)
    ended = store.ended
    assert ended is not None  # the last event of every training
    if ended.failure is not None:
        store.discard()
        raise InputError(ended.failure + known)
    if ended.reason == "diverged":
        context.console.warn(f"training diverged in epoch {ended.epoch}; the best epoch before it is kept")
    return ended


@contextlib.contextmanager
def placement_of_trainings(context: StageContext, *, trainings: int) -> Iterator[Place]:
    """The placement of several trainings: the cluster, a local Ray session if this machine's GPUs hold several, or this
    process, one after another.
    """
    record, compute = context.inputs["prepare"], context.compute
    if compute.ray_address is None:
        share = check_compute(compute)
        if share.gpus and min(share.concurrent, trainings) > 1:
            prepared = ship(record, compute=compute)
            with ray_for(compute, share):
                yield Place(prepared=prepared, compute=compute, threads=share.cpus, share=share)
            return
    with task_placement(context) as place:
        yield place


def train_all(
    jobs: Iterable[Job],
    place: Place,
    *,
    warn: Callable[[str], None],
    on_event: Callable[[Job, Event], None],
    on_steps: OnSteps = lambda records: None,
) -> None:
    """Run all trainings, here one after another, or on the workers of the current Ray session.

    jobs: in this process each is requested when the one before it has ended. warn: called when a worker is lost.
    on_event: called when an event is saved. on_steps: called after steps, in this process only. A training that fails,
    or loses too many workers, does not stop the others; the first error is raised at the end.
    """
    left = (job for job in jobs if job.store.ended is None)
    outcomes = _train_here(left, place, on_steps) if place.share is None else _train_on_workers(list(left), place, warn)
    failed: list[tuple[Job, Exception]] = []
    for job, outcome in outcomes:
        if isinstance(outcome, Failed):
            failed.append((job, outcome.error))
        else:
            job.store.save(outcome)
            on_event(job, outcome)
    if failed:
        job, error = failed[0]
        error.add_note(
            f"{counted(len(failed), 'training')} failed, the first: {job.name}; all others are "
            "kept, and the same command resumes the failed ones"
        )
        raise error


def _train_here(jobs: Iterable[Job], place: Place, on_steps: OnSteps) -> Iterator[tuple[Job, Event | Failed]]:
    for job in jobs:
        try:
            for event in train(job.spec, place, earlier=job.store.state(), on_steps=on_steps):
                yield job, event
        except Exception as error:  # noqa: BLE001 - raised when the others have ended
            yield job, Failed(error=error)


def _train_on_workers(
    jobs: Sequence[Job], place: Place, warn: Callable[[str], None]
) -> Iterator[tuple[Job, Event | Failed]]:
    from components.cluster import stream_on_cluster  # Ray takes a second, and one training at a time does without

    share = place.share
    assert share is not None
    by_name = {job.name: job for job in jobs}
    tasks = [_task(job, place) for job in jobs]
    deaths: Counter[str] = Counter()
    stream = stream_on_cluster(train_on_worker, tasks, cores=share.cpus, gpus=share.gpus, at_once=share.concurrent)
    for task, outcome in stream:
        job, store = by_name[task.name], by_name[task.name].store
        if not isinstance(outcome, Exception):
            yield job, outcome
        elif store.ended is None:
            deaths[job.name] += 1
            if deaths[job.name] > MAX_WORKER_LOSSES:
                outcome.add_note(f"{job.name}: its worker was lost {deaths[job.name]} times; saved epochs are kept")
                yield job, Failed(error=outcome)
                continue
            lost = f"its worker was lost ({type(outcome).__name__})"
            warn(f"{job.name}: {lost}; it resumes on another one after epoch {store.progress.epochs_done()}")
            tasks.append(_task(job, place))


def train_on_worker(task: Task) -> Iterator[Event | Failed]:
    """The events of a training, with tensors on the CPU, for a driver without a GPU."""
    try:
        for event in train(task.spec, task.place, earlier=task.earlier):
            yield replace(event, state=on_cpu(event.state)) if isinstance(event, Saved) else event
    except Exception as error:  # noqa: BLE001 - the driver raises it when the other trainings have ended
        error.add_note(traceback.format_exc())
        yield Failed(error=error)


def _task(job: Job, place: Place) -> Task:
    return Task(name=job.name, spec=job.spec, place=place, earlier=job.store.state())
