"""What a comparison will cost, from a few real steps, before it begins."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

from pipeline.comparison.trainings import Training
from pipeline.config import ComputeConfig
from pipeline.sections.recipe import Recipe
from pipeline.training.build import TrainingData, loader_workers, new_learner, run_epochs
from pipeline.training.checkpoints import ENDED_FILE

#: Steps that are timed, after one that is not: the first is slower.
TIMED_STEPS = 4
#: Validation images at most that are scored to time an evaluation.
TIMED_IMAGES = 256


@dataclass(frozen=True, kw_only=True)
class Pace:
    """Seconds per image that is trained on, per image that is scored, and to build the model of a training."""

    training: float
    scoring: float
    start: float


def measure_pace(recipe: Recipe, data: TrainingData, *, seed: int, compute: ComputeConfig) -> Pace:
    """Train a few batches and score a part of the validation split, the way it will be done, and take the time."""
    few = _excerpt(data, train=(1 + TIMED_STEPS) * recipe.recipe.batch_size, val=TIMED_IMAGES, seed=seed)
    started = time.perf_counter()
    learner = new_learner(recipe, few, total_epochs=1, seed=seed, compute=compute)
    start = time.perf_counter() - started
    learner.fetch_every = 1  # so that a step has ended when its record comes
    stamps: list[float] = []
    epochs = run_epochs(
        learner,
        recipe,
        few,
        until=1,
        workers=loader_workers(compute),
        on_steps=lambda records: stamps.append(time.perf_counter()),
    )
    next(epochs)
    scored = time.perf_counter() - stamps[-1]
    epochs.close()  # and its workers with it
    # A split of a single batch has nothing but the slow first step; its whole epoch is an upper estimate of it.
    step = float(np.median(np.diff(stamps))) if len(stamps) > 1 else scored
    return Pace(training=step / recipe.recipe.batch_size, scoring=scored / len(few.split("val")), start=start)


def missing(trainings: Sequence[Training], work: Path) -> list[Training]:
    """Those of which no result stands. A full one counts at any factor: which it will be is not known yet."""
    return [training for training in trainings if not any(work.glob(f"{_pattern(training)}/{ENDED_FILE}"))]


def images_of(trainings: Sequence[Training], data: TrainingData) -> int:
    """Images that the trainings see, augmented ones counted each time."""
    return sum(training.epochs for training in trainings) * len(data.split("train"))


def seconds_of(trainings: Sequence[Training], data: TrainingData, pace: Pace, *, at_a_time: int) -> float:
    """How long the trainings take. What workers take from each other is not in it."""
    epochs = sum(training.epochs for training in trainings)
    one_epoch = len(data.split("train")) * pace.training + len(data.split("val")) * pace.scoring
    return (epochs * one_epoch + len(trainings) * pace.start) / max(1, min(at_a_time, len(trainings)))


def _pattern(training: Training) -> str:
    return f"full-{training.entry}-x*-seed{training.seed}" if training.phase == "full" else training.key


def _excerpt(data: TrainingData, *, train: int, val: int, seed: int) -> TrainingData:
    """The same data with fewer rows; a row of each class is kept, since class weights need one."""
    mixed = data.manifest.sample(frac=1, random_state=seed)
    parts = []
    for split, size in (("train", train), ("val", val)):
        rows = mixed[mixed["split"] == split]
        each = rows.groupby("label", sort=False).head(1)
        rest = rows.drop(each.index).head(max(0, size - len(each)))
        parts.append(pd.concat([each, rest]))
    return replace(data, manifest=pd.concat(parts))
