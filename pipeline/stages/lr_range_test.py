"""lr_range_test: for each optimizer of the search space, the range of learning rates in which this model learns.

The result becomes the bounds of the search and, where the recipe says `lr: auto`, the learning rate itself. It holds
for the model, the data and the recipe it was measured with: the stage's fingerprint is keyed on them, and
`conditions.json` names them.
"""

from __future__ import annotations

import contextlib
import itertools
import json
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from typing import Any

import pandas as pd
import torch

from components.data.loader import Batch
from components.optim.lr_bounds import LrBounds, analyse_curves
from components.optim.optimizers import optimizer_spec
from components.optim.weight_decay_test import DecayVerdict, choose_weight_decay
from components.training.engine import Device, Preprocessing
from components.training.ramp import RampStep, ramp_rates, run_ramp
from pipeline.machine import cpu_threads
from pipeline.range_test_report import (
    measured_at,
    report_optimizer,
    report_optimizers,
    report_weight_decays,
    say_conditions,
)
from pipeline.sections.rates import RangeTestConfig
from pipeline.sections.recipe import ModelConfig, Recipe, RecipeConfig
from pipeline.sources import log_lineage
from pipeline.stage import StageContext
from pipeline.training import (
    TrainingData,
    held_out_batch,
    loader_workers,
    loss_of_constant,
    new_loss,
    new_model,
    new_optimizer,
    open_data,
    resolve_device,
    spread_of_constant,
    train_loader,
    use_threads,
)


@dataclass(frozen=True)
class _Test:
    """What all ramps of the stage share."""

    context: StageContext
    data: TrainingData
    recipe: Recipe
    settings: RangeTestConfig
    seed: int

    def under(self, weight_decay: float) -> _Test:
        """The same under another weight decay."""
        changed = self.recipe.recipe.model_copy(update={"weight_decay": weight_decay})
        recipe = self.recipe.model_copy(update={"recipe": changed})
        return _Test(self.context, self.data, recipe, self.settings, self.seed)


def run(
    context: StageContext, *, seed: int, model: ModelConfig, recipe: RecipeConfig, lr_range_test: RangeTestConfig
) -> dict[str, Any]:
    """Run the ramps, analyse them, write curves.parquet, lr_bounds.json and conditions.json.

    With `weight_decays` also weight_decay.json and weight_decay_curves.parquet.
    """
    data = open_data(context.inputs["prepare"].directory)
    log_lineage(context.run, context.inputs["prepare"].directory, used_for="range test")
    test = _Test(context, data, Recipe(model=model, recipe=recipe), lr_range_test, seed)
    use_threads(cpu_threads(context.compute))
    optimizers = lr_range_test.optimizers
    assert optimizers is not None  # resolved when the configuration was loaded
    say_conditions(context.console, test.recipe)
    curves: dict[str, pd.DataFrame] = {}
    bounds: dict[str, LrBounds] = {}
    decays: dict[str, DecayVerdict] = {}
    decay_curves: list[pd.DataFrame] = []
    with context.run.system_metrics():
        for name in optimizers:
            curves[name], bounds[name] = _range_test(test, name)
            report_optimizer(context, data, test.recipe, curves[name], bounds[name])
            if lr_range_test.weight_decays:
                decays[name], more = _weight_decay_test(test, name, curves[name], bounds[name])
                decay_curves.append(more)
    report_optimizers(context, bounds)
    _write_table(context, "curves", [curve.assign(optimizer=name) for name, curve in curves.items()])
    _write(context, "lr_bounds", {name: found.to_dict() for name, found in bounds.items()})
    _write(context, "conditions", measured_at(test.recipe, data, resolve_device(context.compute), optimizers))
    if decays:
        _write_table(context, "weight_decay_curves", decay_curves)
        _write(context, "weight_decay", {name: verdict.to_dict() for name, verdict in decays.items()})
    return {f"lr_suggested_{name}": found.suggested for name, found in bounds.items()} | {
        "range_tests_abstained": sum(found.abstained for found in bounds.values())
    }


def _range_test(test: _Test, optimizer: str) -> tuple[pd.DataFrame, LrBounds]:
    curve = _curves(test, optimizer)
    found = analyse_curves(
        curve,
        constant_loss=loss_of_constant(test.recipe, test.data),
        constant_spread=spread_of_constant(test.recipe, test.data),
        spec=optimizer_spec(optimizer),
        bootstrap_samples=test.settings.bootstrap_samples,
        seed=test.seed,
    )
    return curve, found


def _weight_decay_test(
    test: _Test, optimizer: str, curve: pd.DataFrame, found: LrBounds
) -> tuple[DecayVerdict, pd.DataFrame]:
    """The test under each weight decay; that under the recipe's own has been made already."""
    own = test.recipe.recipe.weight_decay
    made = {
        decay: (curve, found) if decay == own else _range_test(test.under(decay), optimizer)
        for decay in sorted(test.settings.weight_decays)
    }
    verdict = choose_weight_decay({decay: bounds for decay, (_, bounds) in made.items()}, optimizer=optimizer)
    curves = [one.assign(optimizer=optimizer, weight_decay=decay) for decay, (one, _) in made.items()]
    table = pd.concat(curves, ignore_index=True)
    report_weight_decays(test.context, verdict, table, {d: bounds.suggested for d, (_, bounds) in made.items()})
    return verdict, table


def _curves(test: _Test, optimizer: str) -> pd.DataFrame:
    """One ramp per seed: a new head, a new order of the images, a new augmentation."""
    low, high = test.settings.ramp or optimizer_spec(optimizer).ramp
    device = resolve_device(test.context.compute)
    size = min(test.settings.held_out_images, test.recipe.recipe.batch_size)
    held_out = held_out_batch(test.data, size=size, seed=test.seed)
    steps = len(ramp_rates(low, high, test.settings.steps_per_decade))
    rows: list[RampStep] = []
    title = f"range test {optimizer}, weight decay {test.recipe.recipe.weight_decay:g}"
    with test.context.console.bar(title, steps * test.settings.num_seeds) as advance:
        for number in range(test.settings.num_seeds):
            before = len(rows)
            with _ramp(test, optimizer, (low, high), held_out, device, test.seed + number) as ramp:
                for step in ramp:
                    rows.append(step)
                    advance(1, note=f"lr {step.lr:.1e}  loss {step.loss:.3f}")
            advance(steps - (len(rows) - before))  # a ramp ends early where the loss diverges
    return pd.DataFrame(rows)


@contextlib.contextmanager
def _ramp(
    test: _Test, optimizer: str, ramp: tuple[float, float], held_out: Batch, device: Device, seed: int
) -> Iterator[Iterator[RampStep]]:
    """One ramp, built as a training is; at the end its batches are closed."""
    workers = loader_workers(test.context.compute)
    built = new_model(test.recipe, test.data, seed=seed)
    preprocessing = Preprocessing.from_unit_scale(built.preprocessing.mean, built.preprocessing.std)
    with contextlib.closing(_endless(test.recipe, test.data, seed=seed, device=device, workers=workers)) as batches:
        yield run_ramp(
            built.model.to(device.target, memory_format=torch.channels_last),  # type: ignore[call-overload]
            lambda module, lr: new_optimizer(test.recipe, module, lr=lr, optimizer=optimizer),
            new_loss(test.recipe, test.data),
            batches,
            held_out,
            low=ramp[0],
            high=ramp[1],
            steps_per_decade=test.settings.steps_per_decade,
            seed=seed,
            device=device.target,
            forward=lambda module, batch: device.forward(module, batch, preprocessing),
            clip_grad_norm=test.recipe.recipe.clip_grad_norm,
        )


def _endless(recipe: Recipe, data: TrainingData, *, seed: int, device: Device, workers: int) -> Generator[Batch]:
    with train_loader(recipe, data, seed=seed, device=device, workers=workers) as loader:
        for epoch in itertools.count():
            yield from loader.epoch(epoch)


def _write(context: StageContext, name: str, values: dict[str, Any]) -> None:
    path = context.directory / f"{name}.json"
    path.write_text(json.dumps(values, indent=2), encoding="utf-8")
    context.run.log_artifact(path)


def _write_table(context: StageContext, name: str, parts: list[pd.DataFrame]) -> None:
    path = context.directory / f"{name}.parquet"
    pd.concat(parts, ignore_index=True).to_parquet(path, index=False)
    context.run.log_artifact(path)
