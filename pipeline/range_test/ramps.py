"""The ramps of the range test, each built as a training is: here step by step, or one task of the cluster each."""

from __future__ import annotations

import contextlib
import itertools
from collections import defaultdict
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass

import pandas as pd
import torch

from components.data.loader import Batch
from components.optim.optimizers import optimizer_spec
from components.training.engine import Device
from components.training.ramp import RampStep, ramp_rates, run_ramp
from pipeline.compute.spreading import Place, perform
from pipeline.console import Console
from pipeline.sections.learning_rate import RangeTestConfig
from pipeline.sections.recipe import Recipe
from pipeline.training.build import (
    TrainingData,
    held_out_batch,
    loader_workers,
    new_loss,
    new_model,
    new_optimizer,
    preprocessing_for,
    resolve_device,
    train_loader,
)


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
    """What a test recorded. steps: a row per seed and step, columns of `RampStep`. device: what it ran on."""

    test: RangeTest
    steps: pd.DataFrame
    device: Device


@dataclass(frozen=True)
class _Ramp:
    """One seed of a test, as it is handed to a worker."""

    test: RangeTest
    number: int
    place: Place


def measure(tests: Sequence[RangeTest], place: Place, console: Console) -> Iterator[Curve]:
    """The curves of the tests, in their order; on a cluster after all ramps, which run beside each other there."""
    yield from _measure_here(tests, place, console) if place.shares is None else _spread(tests, place, console)


def _measure_here(tests: Sequence[RangeTest], place: Place, console: Console) -> Iterator[Curve]:
    data, device = place.open(), resolve_device(place.compute, tests[0].recipe.recipe.precision)
    several = len({test.recipe.model.backbone for test in tests}) > 1
    for test in tests:
        rows: list[RampStep] = []
        title = f"{test.recipe.model.backbone}, {test.title}" if several else test.title
        with console.bar(title, test.steps * test.settings.num_seeds) as advance:
            for number in range(test.settings.num_seeds):
                before = len(rows)
                with _steps(_Ramp(test, number, place), data, device) as ramp:
                    for step in ramp:
                        rows.append(step)
                        advance(1, note=f"lr {step.lr:.1e}  loss {step.loss:.3f}")
                advance(test.steps - (len(rows) - before))  # a ramp ends early where the loss diverges
        yield Curve(test=test, steps=pd.DataFrame(rows), device=device)


def _spread(tests: Sequence[RangeTest], place: Place, console: Console) -> Iterator[Curve]:
    ramps = [_Ramp(test, number, place) for test in tests for number in range(test.settings.num_seeds)]
    done: dict[RangeTest, dict[int, list[RampStep]]] = defaultdict(dict)
    devices: dict[RangeTest, Device] = {}
    with console.bar("ramps of the range test", len(ramps)) as advance:
        for ramp, (rows, device) in perform(_run, ramps, place):
            done[ramp.test][ramp.number] = rows
            devices[ramp.test] = device
            advance(1, note=ramp.test.title)
    for test in tests:
        rows = [row for _, steps in sorted(done[test].items()) for row in steps]
        yield Curve(test=test, steps=pd.DataFrame(rows), device=devices[test])


def _run(ramp: _Ramp) -> tuple[list[RampStep], Device]:
    """A whole ramp, in a worker."""
    data = ramp.place.open()
    device = resolve_device(ramp.place.compute, ramp.test.recipe.recipe.precision)
    with _steps(ramp, data, device) as steps:
        return list(steps), device


@contextlib.contextmanager
def _steps(ramp: _Ramp, data: TrainingData, device: Device) -> Iterator[Iterator[RampStep]]:
    """One ramp: a new head, a new order of the images, a new augmentation. At the end its batches are closed."""
    test, recipe, seed = ramp.test, ramp.test.recipe, ramp.test.seed + ramp.number
    low, high = test.ramp
    workers = loader_workers(ramp.place.compute)
    size = min(test.settings.held_out_images, recipe.recipe.batch_size)
    built = new_model(recipe, data, seed=seed)
    preprocessing = preprocessing_for(built, recipe)
    with contextlib.closing(_endless(recipe, data, seed=seed, device=device, workers=workers)) as batches:
        yield run_ramp(
            built.model.to(device.target, memory_format=torch.channels_last),  # type: ignore[call-overload]
            lambda module, lr: new_optimizer(recipe, module, lr=lr, optimizer=test.optimizer),
            new_loss(recipe, data),
            batches,
            held_out_batch(data, size=size, seed=test.seed),
            low=low,
            high=high,
            steps_per_decade=test.settings.steps_per_decade,
            seed=seed,
            device=device.target,
            forward=lambda module, batch: device.forward(module, batch, preprocessing),
            clip_grad_norm=recipe.recipe.clip_grad_norm,
        )


def _endless(recipe: Recipe, data: TrainingData, *, seed: int, device: Device, workers: int) -> Generator[Batch]:
    with train_loader(recipe, data, seed=seed, device=device, workers=workers) as loader:
        for epoch in itertools.count():
            yield from loader.epoch(epoch)
