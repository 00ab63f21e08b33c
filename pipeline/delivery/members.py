"""Trains the members of a model: a network without each fold, the one of the hold-out design, or one on all images.

Each has a folder in the stage's result, so that an interrupted stage resumes within a training and repeats no complete
one. Trainings of the confirmation are taken over.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from components.errors import InputError
from components.optim.range_test.bounds import describe_rates, read_backbone_bounds
from components.tracking import ChildRuns
from pipeline.sections.recipe import Recipe
from pipeline.stage import StageContext
from pipeline.training.checkpoints import TrainingStore, copy_training
from pipeline.training.confirmed import KEPT
from pipeline.training.job import Ended, TrainingSpec
from pipeline.training.placement import Job, placement_of_trainings, run_training
from pipeline.training.runs import TAG_ENTRY, TAG_SEED, open_job, train_shown

#: Folder of a result with its trainings, a folder for each member.
MEMBERS = "members"


@dataclass(frozen=True, kw_only=True)
class Trained:
    """A training that has ended. name: of the member. fold: see `TrainingSpec`. trained_in: the stage. run_id: of the
    MLflow run that has its metrics.
    """

    name: str
    fold: int | Literal["all"] | None
    seed: int
    trained_in: str
    run_id: str
    store: TrainingStore

    @property
    def ended(self) -> Ended:
        assert self.store.ended is not None
        return self.store.ended


def train_one(context: StageContext, name: str, spec: TrainingSpec, kept: Mapping[str, str]) -> Trained:
    """Train a single network in the stage train; its metrics are those of the stage's run. kept: see `Confirmed`."""
    if name in kept:
        _take_over(context, name, kept[name])
    store = TrainingStore(_folder(context, name), context.run)
    if store.progress.history and store.ended is None:
        context.console.say(f"  resumes after epoch {store.progress.epochs_done()}")
    run_training(context, spec, store, known=range_test_says(context, spec.recipe))
    return _trained(name, spec, kept, store, stage="train", run_id=context.run.id)


def train_members(
    context: StageContext, specs: Mapping[str, TrainingSpec], kept: Mapping[str, str], *, stage: str
) -> list[Trained]:
    """Train several networks, beside each other where the machine or the cluster can, each with a run of its own.

    kept: see `Confirmed`. stage: the name of this one. Raises InputError if one failed; the others are kept, and the
    failed one starts again the next time.
    """
    trained: dict[str, Trained] = {}
    left: dict[str, TrainingSpec] = {}
    for name, spec in specs.items():
        if name in kept:
            _take_over(context, name, kept[name])
            trained[name] = _trained(name, spec, kept, TrainingStore(_folder(context, name)), stage=stage)
        else:
            left[name] = spec
    if left:
        epochs = next(iter(left.values())).epochs
        with placement_of_trainings(context, trainings=len(left)) as place:

            def jobs() -> Iterator[Job]:
                runs = ChildRuns(context.tracker, context.run, TAG_ENTRY, TAG_SEED)
                for name, spec in in_time(context, left, at_once=1 if place.share is None else place.share.concurrent):
                    job = open_job(runs, name, spec, _folder(context, name), stage="member")
                    trained[name] = _trained(name, spec, kept, job.store, stage=stage, run_id=job.run_id)
                    yield job

            train_shown(context, "training", jobs(), place, trainings=len(left), epochs=epochs)
    failed = [one for one in trained.values() if one.ended.failure is not None]
    for one in failed:
        one.store.discard()
    if failed:
        known = range_test_says(context, specs[failed[0].name].recipe)
        raise InputError(f"{failed[0].name}: {failed[0].ended.failure}{known}")
    return [trained[name] for name in specs if name in trained]


def in_time(
    context: StageContext, specs: Mapping[str, TrainingSpec], *, at_once: int
) -> Iterator[tuple[str, TrainingSpec]]:
    """The trainings, each with its share of the time that is left where the run has a budget; at_once: of them.

    Trainings for which no time is left are dropped, but not the first.
    """
    begins = time.time()
    for number, (name, spec) in enumerate(specs.items()):
        if context.ends_at is None:
            yield name, spec
            continue
        if at_once == 1:
            begins = time.time()
        rounds = math.ceil((len(specs) - number) / at_once)
        if number and begins >= context.ends_at:
            context.console.warn(f"no time is left for {name} and the networks after it (budget)")
            return
        yield name, replace(spec, ends_at=begins + (context.ends_at - begins) / rounds)
        if (number + 1) % at_once == 0:
            begins += (context.ends_at - begins) / rounds


def range_test_says(context: StageContext, recipe: Recipe) -> str:
    """The range test's result for the recipe's optimizer, to append to a message; empty if it was not tested."""
    found = read_backbone_bounds(context.input("lr_range_test", "backbone_bounds.json"))
    bounds = found.get((recipe.model.backbone, recipe.recipe.optimizer))
    return "" if bounds is None else f" ({describe_rates(bounds)})"


def _take_over(context: StageContext, name: str, run_id: str) -> None:
    """Copy the training that the confirmation has kept."""
    copy_training(context.inputs["confirm"].directory / KEPT / name, _folder(context, name))
    context.console.say(
        f"  {name}: takes over the training of the stage confirm (run {run_id}), of the same recipe and seed"
    )


def _trained(
    name: str, spec: TrainingSpec, kept: Mapping[str, str], store: TrainingStore, *, stage: str, run_id: str = ""
) -> Trained:
    """run_id: of a training that was not taken over."""
    where, run_id = ("confirm", kept[name]) if name in kept else (stage, run_id)
    return Trained(name=name, fold=spec.fold, seed=spec.seed, trained_in=where, run_id=run_id, store=store)


def _folder(context: StageContext, name: str) -> Path:
    return context.directory / MEMBERS / name
