"""Trains the members of a model: a network without each fold, or the one of the hold-out design.

Each has a folder below the stage's work folder, so that an interrupted stage resumes within a training and repeats no
complete one. Trainings of the confirmation are taken over.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from components.errors import InputError
from components.tracking import ChildRuns
from pipeline.stage import StageContext
from pipeline.training.checkpoints import TrainingStore, copy_training
from pipeline.training.job import Ended, TrainingSpec
from pipeline.training.placement import Job, placement_of_trainings, run_training
from pipeline.training.runs import TAG_ENTRY, TAG_SEED, open_job, train_shown


@dataclass(frozen=True, kw_only=True)
class Trained:
    """A training that has ended. name: of the member. run_id: of the MLflow run that has its metrics."""

    name: str
    spec: TrainingSpec
    store: TrainingStore
    run_id: str

    @property
    def ended(self) -> Ended:
        assert self.store.ended is not None
        return self.store.ended


def train_one(context: StageContext, name: str, spec: TrainingSpec, kept: Kept, *, known: str) -> Trained:
    """Train a single network; its metrics are those of the stage's run. known: see `run_training`."""
    folder = context.work / name
    kept.take(context, name, folder)
    store = TrainingStore(folder, context.run)
    if store.progress.history and store.ended is None:
        context.console.say(f"  resumes after epoch {store.progress.epochs_done()}")
    run_training(context, spec, store, known=known)
    return Trained(name=name, spec=spec, store=store, run_id=kept.runs.get(name, context.run.id))


def train_folds(
    context: StageContext, specs: Mapping[str, TrainingSpec], kept: Kept, *, title: str, known: str
) -> list[Trained]:
    """Train several networks, beside each other where the machine or the cluster can, each with a run of its own.

    Raises InputError if one failed; the others are kept, and the failed one starts again the next time.
    """
    trained: list[Trained] = []
    left: dict[str, TrainingSpec] = {}
    for name, spec in specs.items():
        folder = context.work / name
        kept.take(context, name, folder)
        if name in kept.runs:
            trained.append(Trained(name=name, spec=spec, store=TrainingStore(folder), run_id=kept.runs[name]))
        else:
            left[name] = spec
    if left:
        epochs = next(iter(left.values())).epochs
        with placement_of_trainings(context, trainings=len(left)) as place:

            def jobs() -> Iterator[Job]:
                runs = ChildRuns(context.tracker, context.run, TAG_ENTRY, TAG_SEED)
                for name, spec in left.items():
                    job = open_job(runs, name, spec, context.work / name, stage="member")
                    trained.append(Trained(name=name, spec=spec, store=job.store, run_id=job.run_id))
                    yield job

            train_shown(context, title, jobs(), place, trainings=len(left), epochs=epochs)
    failed = [one for one in trained if one.ended.failure is not None]
    for one in failed:
        one.store.discard()
    if failed:
        raise InputError(f"{failed[0].name}: {failed[0].ended.failure}{known}")
    return sorted(trained, key=lambda one: list(specs).index(one.name))


@dataclass(frozen=True, kw_only=True)
class Kept:
    """Trainings of the confirmation: a folder with one for each member, and their MLflow runs."""

    folder: Path
    runs: Mapping[str, str]

    def take(self, context: StageContext, name: str, folder: Path) -> None:
        """Copy the training of a member, if there is one."""
        if name not in self.runs:
            return
        copy_training(self.folder / name, folder)
        context.console.say(
            f"  {name}: takes over the training of the stage confirm (run {self.runs[name]}), of the same recipe and "
            "seed"
        )
