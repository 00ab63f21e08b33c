"""The precision of trainings on a CPU: bfloat16 where a few timed steps show that it pays.

Decided once, before the first training: all later ones, on whatever machine, have the same, and so has the model that
is served. A faster inference alone is no reason, since a model is calibrated in the precision that it is trained in.
"""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from components.data.loader import eval_batches
from components.training.engine import train_epochs
from pipeline.compute.device import is_timed
from pipeline.config import ComputeConfig
from pipeline.console import Console
from pipeline.overriding import override
from pipeline.sections.recipe import Recipe
from pipeline.training.build import new_learner
from pipeline.training.data import TrainingData
from pipeline.training.tasks import Place, run_tasks

Precision = Literal["auto", "float32", "bfloat16"]
#: bfloat16 is taken from this share of the time of a step in float32 on: not for less than the timing may err by.
PAYS = 0.85
#: Images of a timed step at most: with 8 the share is within a tenth of that with 32, at a quarter of the time.
TIMED_IMAGES = 8
#: Steps that are timed in each precision, after one that is not: the first is slower. Fewer, one at least, where these
#: seconds are over.
TIMED_STEPS, TIMED_SECONDS = 5, 2.0
#: A rate that changes no weight much, since only the time counts.
ANY_RATE = 1e-6


@dataclass(frozen=True, kw_only=True)
class PrecisionChoice:
    """precision: `auto` where each device has its own. share: of the time of a training step in float32 that one in
    bfloat16 takes; None where nothing was timed."""

    precision: Precision
    share: float | None = None

    def say(self, console: Console) -> None:
        """What was timed, if anything was, and what follows."""
        if self.share is not None:
            console.say(
                f"  {self.precision}: a training step in bfloat16 takes {self.share:.2f} of its time in float32"
            )


def choose_precision(
    recipe: Recipe, data: TrainingData, *, seed: int, compute: ComputeConfig, timed: bool = True
) -> PrecisionChoice:
    """For trainings of the recipe on a machine like this. Only steps on a CPU that has bfloat16 natively are timed.

    timed: False for float32 on such a CPU, without timing.
    """
    if not is_timed(compute, recipe.recipe.precision):
        return PrecisionChoice(precision=recipe.recipe.precision)
    if not timed:
        return PrecisionChoice(precision="float32")
    share = bfloat16_share(recipe, data, seed=seed, compute=compute)
    return PrecisionChoice(precision="bfloat16" if share <= PAYS else "float32", share=share)


def choose_where_trained(recipe: Recipe, place: Place, console: Console, *, seed: int) -> PrecisionChoice:
    """The same in a task, which runs where trainings do; says what was timed."""
    ((_, choice),) = run_tasks(_choose, [(recipe, place, seed)], place)
    choice.say(console)
    return choice


def _choose(task: tuple[Recipe, Place, int]) -> PrecisionChoice:
    recipe, place, seed = task
    return choose_precision(recipe, place.open(), seed=seed, compute=place.compute)


def bfloat16_share(recipe: Recipe, data: TrainingData, *, seed: int, compute: ComputeConfig) -> float:
    """Median time of a training step at full size in bfloat16, as a share of that in float32; they take turns."""
    timed = override(recipe, {"recipe.lr": ANY_RATE, "recipe.grow_from": None, "recipe.freeze_epochs": 0})
    learner = new_learner(timed, data, total_epochs=2 * (1 + TIMED_STEPS), seed=seed, compute=compute)
    train = data.split("train")
    size = min(TIMED_IMAGES, recipe.recipe.images_per_step, len(train))
    (batch,) = eval_batches(train.take(np.arange(size)), batch_size=size)

    def seconds(precision: Precision) -> float:
        learner.device = replace(learner.device, precision=precision)
        started = time.perf_counter()
        next(
            train_epochs(
                learner,
                until=learner.epoch + 1,
                batches=lambda epoch: [batch],
                evaluate=None,
                on_steps=lambda records: None,
                watcher=None,
            )
        )
        return time.perf_counter() - started

    both: tuple[Precision, Precision] = ("float32", "bfloat16")
    times = {precision: [seconds(precision)] for precision in both}
    ends_at = time.perf_counter() + TIMED_SECONDS
    for number in range(TIMED_STEPS):
        if number and time.perf_counter() > ends_at:
            break
        for precision, own in times.items():
            own.append(seconds(precision))
    return statistics.median(times["bfloat16"][1:]) / statistics.median(times["float32"][1:])
