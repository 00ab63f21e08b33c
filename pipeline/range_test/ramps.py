"""The ramps of the range test, each built like a training, in this process or as tasks of the cluster."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import pandas as pd

from components.optim.optimizers import optimizer_spec
from components.training.ramp import RampStep, held_out_interval, ramp_rates, ramp_schedule, run_ramp
from pipeline.compute.device import loader_workers
from pipeline.console import Advance, Console
from pipeline.sections.learning_rate import RangeTestConfig
from pipeline.sections.recipe import Recipe
from pipeline.training.build import new_learner
from pipeline.training.data import for_selection, held_out_batch, train_loader
from pipeline.training.tasks import Place, run_tasks


@dataclass(frozen=True, kw_only=True)
class RangeTest:
    """One curve: of an optimizer on the recipe's backbone, under the recipe's weight decay."""

    recipe: Recipe
    optimizer: str
    settings: RangeTestConfig
    seed: int

    @property
    def ramp(self) -> tuple[float, float]:
        """The lowest and the highest rate."""
        return self.settings.ramp or optimizer_spec(self.optimizer).ramp

    @property
    def steps(self) -> int:
        """Of a ramp that does not diverge."""
        return len(ramp_rates(*self.ramp, self.settings.steps_per_decade))

    @property
    def title(self) -> str:
        return f"range test {self.optimizer}, weight decay {self.recipe.recipe.weight_decay:g}"


@dataclass(frozen=True, kw_only=True)
class Curve:
    """The result of a test. steps: a row per seed and step, columns of `RampStep`."""

    test: RangeTest
    steps: pd.DataFrame


@dataclass(frozen=True)
class _Ramp:
    """One seed of a test, sent to a worker."""

    test: RangeTest
    number: int
    place: Place


def measure(tests: Sequence[RangeTest], place: Place, console: Console) -> Iterator[Curve]:
    """The curves of the tests, in their order; on a cluster after all ramps, which run in parallel."""
    yield from _measure_here(tests, place, console) if place.share is None else _spread(tests, place, console)


def _measure_here(tests: Sequence[RangeTest], place: Place, console: Console) -> Iterator[Curve]:
    several = len({test.recipe.model.backbone for test in tests}) > 1
    for test in tests:
        title = f"{test.recipe.model.backbone}, {test.title}" if several else test.title
        ramps = [_Ramp(test, number, place) for number in range(test.settings.num_seeds)]
        with console.bar(title, test.steps * len(ramps)) as advance:
            rows = [step for ramp in ramps for step in _shown(ramp, advance)]
        yield Curve(test=test, steps=pd.DataFrame(rows))


def _shown(ramp: _Ramp, advance: Advance) -> list[RampStep]:
    steps = _run(ramp, on_step=lambda step: advance(1, note=f"lr {step.lr:.1e}  loss {step.loss:.3f}"))
    advance(ramp.test.steps - len(steps))  # a ramp ends early where the loss diverges
    return steps


def _spread(tests: Sequence[RangeTest], place: Place, console: Console) -> Iterator[Curve]:
    ramps = [_Ramp(test, number, place) for test in tests for number in range(test.settings.num_seeds)]
    done: dict[RangeTest, dict[int, list[RampStep]]] = defaultdict(dict)
    with console.bar("ramps of the range test", len(ramps)) as advance:
        for ramp, rows in run_tasks(_run, ramps, place):
            done[ramp.test][ramp.number] = rows
            advance(1, note=ramp.test.title)
    for test in tests:
        rows = [row for _, steps in sorted(done[test].items()) for row in steps]
        yield Curve(test=test, steps=pd.DataFrame(rows))


def _run(ramp: _Ramp, on_step: Callable[[RampStep], None] = lambda step: None) -> list[RampStep]:
    """Run one ramp: a new head, a new order of the images, a new augmentation."""
    test, data, compute = ramp.test, for_selection(ramp.place.open()), ramp.place.compute
    rates = ramp_rates(*test.ramp, test.settings.steps_per_decade)
    settings = {"optimizer": test.optimizer, "lr": float(rates[-1]), "ema_decay": None, "grow_from": None}
    recipe = test.recipe.model_copy(update={"recipe": test.recipe.recipe.model_copy(update=settings)})
    seed = test.seed + ramp.number
    learner = new_learner(recipe, data, total_epochs=1, seed=seed, compute=compute, schedule=ramp_schedule(rates))
    held_out = held_out_batch(
        data, size=min(test.settings.held_out_images, recipe.recipe.images_per_step), seed=test.seed
    )
    with train_loader(recipe, data, seed=seed, device=learner.device, workers=loader_workers(compute)) as loader:
        return run_ramp(
            learner,
            loader.epoch,
            held_out,
            rates=rates,
            interval=held_out_interval(test.settings.steps_per_decade),
            num_classes=len(data.classes),
            on_step=on_step,
        )
