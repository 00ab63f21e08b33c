"""What the range test tells: at the terminal and in MLflow's run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from components.optim.range_test.bounds import LrBounds
from components.optim.range_test.weight_decay import DecayVerdict
from components.report.figures_lr import range_test_figure
from components.report.style import rate
from components.training.ramp import recycling_warning
from pipeline.console import Console
from pipeline.reports.page import DASH, file_safe, terminal_table
from pipeline.sections.recipe import Recipe
from pipeline.stage import StageContext
from pipeline.training.data import TrainingData


@dataclass(frozen=True)
class CurveName:
    """What a test is called. label: for people. key: in the names of metrics and files."""

    label: str
    key: str


def say_conditions(console: Console, recipe: Recipe, *, ramped: int) -> None:
    """Say in what the ramps differ from a training. ramped: images of a step in them."""
    if ramped != recipe.recipe.images_per_step:
        console.say(
            f"  ramps with batches of {ramped} images; rates are scaled to trainings with "
            f"{recipe.recipe.images_per_step}"
        )
    epochs = recipe.recipe.freeze_epochs
    if epochs > 0:
        console.say(
            f"  recipe.freeze_epochs={epochs:g}: the classifier alone learns in that part of each ramp; with 0 the "
            "test measures all layers"
        )


def name_test(backbone: str, optimizer: str, *, own: str, several: bool) -> CurveName:
    """What a test is called. own: the model's own backbone. several: whether others were tested as well."""
    key = file_safe(optimizer if backbone == own else f"{backbone}_{optimizer}")
    return CurveName(f"{backbone}, {optimizer}" if several else optimizer, key)


def report_test(
    context: StageContext, data: TrainingData, recipe: Recipe, curve: pd.DataFrame, bounds: LrBounds, name: CurveName
) -> None:
    """Say the result of one test; log its bounds, its curve per step and its figure."""
    console = context.console
    longest = int(curve.groupby("seed").size().max())
    images = len(data.split("train"))
    recycled = recycling_warning(steps=longest, batch_size=recipe.recipe.images_per_step, images=images)
    for warning in [*([recycled] if recycled else []), *bounds.warnings]:
        console.warn(f"{name.label}: {warning}")
    if bounds.abstained:
        console.warn(
            f"{name.label}: the range test abstains ({bounds.reason}); default bounds {bounds.lower:.1e} … "
            f"{bounds.upper:.1e}"
        )
    median = curve.groupby("step")[["lr", "loss", "grad_norm"]].median().dropna()
    context.run.log_history(
        [
            (step, {f"{name.key}_lr": lr, f"{name.key}_loss": loss, f"{name.key}_grad_norm": norm})
            for step, lr, loss, norm in median.itertuples(name=None)
            if np.isfinite([loss, norm]).all()
        ]
    )
    context.run.log_metrics({f"{name.key}_lower": bounds.lower, f"{name.key}_upper": bounds.upper})
    figure = range_test_figure(curve, bounds.to_dict(), title=f"Learning-rate range test: {name.label}")
    context.log_figure(figure, f"figures/range_test_{name.key}.png")


def report_tests(context: StageContext, bounds: Mapping[str, Mapping[str, LrBounds]]) -> None:
    """Say the results of all tests, one table per backbone. bounds: by backbone and optimizer."""
    columns = ("optimizer", "rate", "band", "search between", "diverges")
    for backbone, own in bounds.items():
        rows = [
            (
                (
                    name,
                    rate(found.suggested),
                    "abstains: defaults" if found.abstained else _span(found.band),
                    _span((found.lower, found.upper)),
                    DASH if found.lr_div is None else rate(found.lr_div),
                ),
                "yellow" if found.abstained else "",
            )
            for name, found in own.items()
        ]
        of = f": {backbone}" if len(bounds) > 1 else ""
        context.console.table(terminal_table(f"Learning-rate range test{of}", columns, rows))


def report_weight_decay(context: StageContext, verdict: DecayVerdict, suggested: Mapping[float, float]) -> None:
    """Say which weight decay is recommended, and log it. suggested: the rate that each decay's test suggests."""
    name = verdict.optimizer
    if verdict.recommended is None:
        context.console.warn(f"{name}: the weight-decay range test abstains ({verdict.reason})")
    else:
        note = f"; {verdict.note}" if verdict.note else ""
        context.console.say(
            f"  {name}: recipe.weight_decay={verdict.recommended:g} is recommended, with a rate of "
            f"{suggested[verdict.recommended]:.1e}: the largest that does not lower the "
            f"{MEASURES[verdict.measure]} by more than {verdict.tolerance_decades:g} decades{note}"
        )
    context.run.log_metrics({f"{file_safe(name)}_weight_decay": verdict.recommended})


MEASURES = {"lr_div": "rate at which the ramp diverges", "lr_min": "rate of the lowest loss"}


def _span(ends: tuple[float, float]) -> str:
    return f"{rate(ends[0])} … {rate(ends[1])}"
