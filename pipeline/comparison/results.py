"""The result of the comparison: tables of all trainings, and a summary per method, the best first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from components.evaluation.methods import CONFIDENCE, first_reach, rank_methods, typical_lowest_loss
from pipeline.comparison.rates import Method, RateChoice
from pipeline.comparison.trainings import MethodResult

METRICS = ("auroc", "accuracy", "balanced_accuracy", "sensitivity", "specificity", "val_score", "val_loss")
#: Columns of comparison.parquet that identify a training.
IDENTITY = ("phase", "entry", "factor", "lr", "seed", "epochs")
#: How the figures were measured; shown with them everywhere.
STATEMENT = (
    "Measured on held-out images (the first fold, or val), on the weights after the last epoch. Each method's rate was "
    "chosen on the same images, with a seed that is not compared here. The test split was not read."
)


def summarise(
    methods: Sequence[Method],
    choices: Mapping[str, RateChoice],
    results: Sequence[MethodResult],
    *,
    target_val_loss: float | None,
) -> dict[str, Any]:
    """The content of comparison.json: how it was measured, and a record per method, the best first.

    results: the full trainings. Methods are ranked by AUROC, or by balanced accuracy without a good class.
    """
    measure = "auroc" if any("auroc" in result.final for result in results) else "balanced_accuracy"
    target = target_val_loss if target_val_loss is not None else typical_lowest_loss(curves_table(results))
    ranked = rank_methods(
        trainings_table(results, target=target), [m.name for m in methods], metrics=METRICS, rank_by=measure
    )
    by_name = {m.name: m for m in methods}
    return {
        "statement": STATEMENT,
        "measure": measure,
        "confidence": CONFIDENCE,
        "epochs": max((result.training.epochs for result in results), default=0),
        "seeds": sorted({result.training.seed for result in results}),
        "target_val_loss": target,
        "target_given": target_val_loss is not None,
        "best": ranked[0]["name"] if ranked and ranked[0]["metrics"][measure]["mean"] is not None else None,
        "entries": [_settings(by_name[record["name"]], choices[record["name"]]) | record for record in ranked],
    }


def trainings_table(results: Sequence[MethodResult], *, target: float | None) -> pd.DataFrame:
    """A row per training: its identity, its last metrics, and its steps to the target, nan if it did not reach it."""
    numbers = [*METRICS, "train_loss"]
    rows = [
        {
            **{name: getattr(result.training, name) for name in IDENTITY},
            **{name: result.final.get(name) for name in numbers},
            "diverged": result.diverged,
            "seconds": result.seconds,
            "steps_to_target": steps_to_target(result, target),
        }
        for result in results
    ]
    table = pd.DataFrame(rows, columns=[*IDENTITY, "diverged", *numbers, "seconds", "steps_to_target"])
    return table.astype(dict.fromkeys([*numbers, "steps_to_target"], float))


def curves_table(results: Sequence[MethodResult]) -> pd.DataFrame:
    """A row per training and epoch."""
    identity = ("phase", "entry", "factor", "seed")
    rows = [
        {name: getattr(one.training, name) for name in identity} | epoch for one in results for epoch in one.history
    ]
    table = pd.DataFrame(rows, columns=None if rows else [*identity, "epoch", "val_loss"])
    return table.astype({name: float for name in (*METRICS, "train_loss") if name in table})


def rates_table(results: Sequence[MethodResult]) -> pd.DataFrame:
    """A row per training and step: the rate of the fastest group."""
    rows = [
        (one.training.entry, one.training.seed, step, lr)
        for one in results
        for step, lr in enumerate(one.rates, start=1)
    ]
    return pd.DataFrame(rows, columns=["entry", "seed", "step", "lr"])


def steps_to_target(result: MethodResult, target: float | None) -> float | None:
    """Steps until the validation loss reaches the target; None if it does not."""
    if target is None:
        return None
    steps, losses = ([epoch[name] for epoch in result.history] for name in ("step", "val_loss"))
    return first_reach(steps, losses, target)


def _settings(method: Method, choice: RateChoice) -> dict[str, Any]:
    """The settings of a method, and how its rate was chosen."""
    settings = method.recipe.recipe
    return {
        "name": method.name,
        "sets": method.sets,
        "optimizer": settings.optimizer,
        "schedule": settings.schedule_name,
        "failed": choice.factor is None,
        "suggested": method.suggested,
        "abstained": method.abstained,
        "factor": choice.factor,
        "lr": None if choice.factor is None else method.suggested * choice.factor,
        "edge": choice.edge,
        "rate_scores": {f"{factor:g}": score for factor, score in choice.scores.items()},
    }
