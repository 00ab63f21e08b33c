"""How long a training takes, from a few real steps, before it begins."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from pipeline.compute.device import loader_workers
from pipeline.config import ComputeConfig
from pipeline.sections.recipe import Recipe
from pipeline.training.build import new_learner, run_epochs
from pipeline.training.data import TrainingData

#: Steps that are timed, after one that is not: the first is slower.
TIMED_STEPS = 4
#: Held-out images at most that are scored to time an evaluation.
TIMED_IMAGES = 256


@dataclass(frozen=True, kw_only=True)
class Pace:
    """Seconds per image that is trained on, per image that is scored, and to build the model of a training."""

    training: float
    scoring: float
    start: float

    def epoch(self, data: TrainingData) -> float:
        """Seconds of an epoch with its evaluation."""
        return len(data.split("train")) * self.training + len(data.split("val")) * self.scoring


def measure_pace(recipe: Recipe, data: TrainingData, *, seed: int, compute: ComputeConfig) -> Pace:
    """Time the training of a few batches at full size, and the evaluation of a part of the images that are held out."""
    recipe = recipe.model_copy(update={"recipe": recipe.recipe.model_copy(update={"grow_from": None})})
    few = _excerpt(data, train=(1 + TIMED_STEPS) * recipe.recipe.images_per_step, val=TIMED_IMAGES, seed=seed)
    started = time.perf_counter()
    learner = new_learner(recipe, few, total_epochs=1, seed=seed, compute=compute)
    start = time.perf_counter() - started
    learner.fetch_every = 1  # so that a step is complete when its record comes
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
    epochs.close()  # ends its worker processes
    # A split of a single batch has only the slow first step; the time of the evaluation is then the estimate.
    step = float(np.median(np.diff(stamps))) if len(stamps) > 1 else scored
    return Pace(training=step / recipe.recipe.images_per_step, scoring=scored / len(few.split("val")), start=start)


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
