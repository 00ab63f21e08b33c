"""lr_range_test: for each optimizer of the search space, the range of learning rates in which this model learns.

The result becomes the bounds of the search and, where the recipe says `lr: auto`, the learning rate itself.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
import torch

from components.data.loader import Batch, ImageSet, eval_batches
from components.optim.lr_bounds import LrBounds, analyse_curves
from components.optim.optimizers import OPTIMIZERS, OptimizerSpec, build_optimizer
from components.report.figures import range_test_figure
from components.training.engine import Device, Preprocessing
from components.training.ramp import ramp_rates, recycling_warning, run_ramp
from pipeline.config import ModelConfig, RangeTestConfig, Recipe, RecipeConfig
from pipeline.machine import cpu_threads
from pipeline.sources import log_lineage
from pipeline.stage import StageContext
from pipeline.training import (
    TrainingData,
    loader_workers,
    loss_of_constant,
    new_loss,
    new_model,
    open_data,
    resolve_device,
    train_loader,
    use_threads,
)


def run(
    context: StageContext, *, seed: int, model: ModelConfig, recipe: RecipeConfig, lr_range_test: RangeTestConfig
) -> dict[str, Any]:
    """Run the ramps, analyse them, write curves.parquet and lr_bounds.json."""
    data = open_data(context.inputs["prepare"].directory)
    log_lineage(context.run, context.inputs["prepare"].directory, used_for="range test")
    plan = Recipe(model=model, recipe=recipe)
    use_threads(cpu_threads(context.compute))
    optimizers = lr_range_test.optimizers
    assert optimizers is not None  # resolved when the configuration was loaded
    curves, bounds = [], {}
    with context.run.system_metrics():
        for name in optimizers:
            curve = _curves(context, data, plan, lr_range_test, OPTIMIZERS[name], seed)
            bounds[name] = analyse_curves(
                curve,
                constant_loss=loss_of_constant(plan, data),
                spec=OPTIMIZERS[name],
                bootstrap_samples=lr_range_test.bootstrap_samples,
                seed=seed,
            )
            curves.append(curve.assign(optimizer=name))
            _report(context, plan, data, curve, bounds[name])
    pd.concat(curves, ignore_index=True).to_parquet(context.directory / "curves.parquet", index=False)
    result = json.dumps({name: found.to_dict() for name, found in bounds.items()}, indent=2)
    (context.directory / "lr_bounds.json").write_text(result, encoding="utf-8")
    context.run.log_artifact(context.directory / "lr_bounds.json")
    context.run.log_artifact(context.directory / "curves.parquet")
    return {f"lr_suggested_{name}": found.suggested for name, found in bounds.items()} | {
        "range_tests_abstained": sum(found.abstained for found in bounds.values())
    }


def _curves(
    context: StageContext,
    data: TrainingData,
    plan: Recipe,
    settings: RangeTestConfig,
    spec: OptimizerSpec,
    seed: int,
) -> pd.DataFrame:
    """One ramp per seed: a new head, a new order of the images, a new augmentation."""
    low, high = spec.ramp
    device = resolve_device(context.compute)
    held_out = _held_out(data.split("val"), settings.held_out_images, seed)
    steps = len(ramp_rates(low, high, settings.steps_per_decade))
    rows = []
    workers = loader_workers(context.compute)
    with context.console.bar(f"range test {spec.name}", steps * settings.num_seeds) as advance:
        for number in range(settings.num_seeds):
            run_seed = seed + number
            built = new_model(plan, data, seed=run_seed)
            preprocessing = Preprocessing.from_unit_scale(built.preprocessing.mean, built.preprocessing.std)
            ramp = run_ramp(
                built.model.to(device.target, memory_format=torch.channels_last),  # type: ignore[call-overload]
                lambda module, lr: build_optimizer(
                    module,
                    name=spec.name,
                    lr=lr,
                    weight_decay=plan.recipe.weight_decay,
                    layer_decay=plan.recipe.layer_decay,
                ),
                new_loss(plan, data).to(device.target),
                _endless(plan, data, seed=run_seed, device=device, workers=workers),
                held_out,
                low=low,
                high=high,
                steps_per_decade=settings.steps_per_decade,
                seed=run_seed,
                device=device.target,
                forward=lambda module, batch, p=preprocessing: device.forward(module, batch, p),  # type: ignore[misc]
                clip_grad_norm=plan.recipe.clip_grad_norm,
            )
            taken = 0
            for step in ramp:
                rows.append(step)
                taken += 1
                advance(1, note=f"lr {step.lr:.1e}  loss {step.loss:.3f}")
            advance(steps - taken)  # a ramp ends early where the loss diverges
    return pd.DataFrame(rows)


def _endless(plan: Recipe, data: TrainingData, *, seed: int, device: Device, workers: int) -> Iterator[Batch]:
    with train_loader(plan, data, seed=seed, device=device, workers=workers) as loader:
        for epoch in itertools.count():
            yield from loader.epoch(epoch)


def _held_out(val: ImageSet, size: int, seed: int) -> Batch:
    """A fixed random batch of the validation split."""
    chosen = np.random.default_rng(seed).permutation(len(val))[:size]
    subset = ImageSet(pack=val.pack, indices=val.indices[chosen], labels=val.labels[chosen])
    return next(eval_batches(subset, batch_size=size))


def _report(context: StageContext, plan: Recipe, data: TrainingData, curve: pd.DataFrame, bounds: LrBounds) -> None:
    """Say the result, log the curve per step and the figure."""
    name = bounds.optimizer
    longest = int(curve.groupby("seed").size().max())
    recycled = recycling_warning(steps=longest, batch_size=plan.recipe.batch_size, images=len(data.split("train")))
    if recycled:
        context.console.warn(f"{name}: {recycled}")
    for warning in bounds.warnings:
        context.console.warn(f"{name}: {warning}")
    if bounds.abstained:
        context.console.warn(
            f"{name}: the range test abstains ({bounds.reason}); default bounds {bounds.lower:.1e} … {bounds.upper:.1e}"
        )
    else:
        context.console.say(
            f"  {name}: suggests {bounds.suggested:.2e} (band {bounds.band[0]:.1e} … {bounds.band[1]:.1e}), "
            f"search between {bounds.lower:.1e} and {bounds.upper:.1e}"
        )
    median = curve.groupby("step")[["lr", "loss", "grad_norm"]].median().dropna()
    context.run.log_history(
        [
            (step, {f"{name}_lr": lr, f"{name}_loss": loss, f"{name}_grad_norm": norm})
            for step, lr, loss, norm in median.itertuples(name=None)
            if np.isfinite([loss, norm]).all()
        ]
    )
    context.run.log_metrics({f"{name}_lower": bounds.lower, f"{name}_upper": bounds.upper})
    figure = range_test_figure(curve, bounds.to_dict(), title=f"Learning-rate range test: {name}")
    context.run.log_figure(figure, f"figures/range_test_{name}.png")
    nan_free = curve.drop(columns=["heldout_loss"], errors="ignore")
    context.run.log_table(nan_free, f"tables/range_test_{name}.json")
