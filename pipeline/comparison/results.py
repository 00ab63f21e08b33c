"""From single trainings to the comparison: tables of all of them, and a summary per method, the best first."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from components.evaluation.repeats import Repeats, first_reach, mean_interval, paired_gap, reach
from pipeline.comparison.rates import Method, RateChoice
from pipeline.comparison.trainings import Trained

VERSION = 1
#: Of every interval over seeds.
CONFIDENCE = 0.95
METRICS = ("auroc", "accuracy", "balanced_accuracy", "sensitivity", "specificity", "val_score", "val_loss")
#: Columns of comparison.parquet that tell the trainings apart.
IDENTITY = ("phase", "entry", "factor", "lr", "seed", "epochs", "diverged")
#: How far the figures carry; it goes wherever they go.
STATEMENT = (
    "Measured on the validation split, on the weights after the last epoch. Each method's rate was chosen on that same "
    "split, with another seed than those that are compared here. The test split was not read."
)


def measure_of(results: Sequence[Trained]) -> str:
    """What methods are ranked by: AUROC, or balanced accuracy where there is no good class."""
    return "auroc" if any("auroc" in result.final for result in results) else "balanced_accuracy"


def summarise(
    methods: Sequence[Method],
    choices: Mapping[str, RateChoice],
    results: Sequence[Trained],
    *,
    target_val_loss: float | None,
) -> dict[str, Any]:
    """What comparison.json holds: how it was measured, and a record per method, the best first.

    results: the full trainings. A method of which a training diverged stands behind all others, however good its rest;
    the mean of the rest would hide what was lost.
    """
    by_entry = {m.name: [result for result in results if result.entry == m.name] for m in methods}
    measure = measure_of(results)
    target = target_val_loss if target_val_loss is not None else typical_lowest_loss(by_entry)
    entries = [_entry(m, choices[m.name], by_entry[m.name], target=target) for m in methods]
    entries.sort(key=lambda entry: _place(entry, measure))
    best = entries[0]["name"] if entries and entries[0]["metrics"][measure]["mean"] is not None else None
    for entry in entries:
        gap = (
            _gap(by_entry[entry["name"]], by_entry[best], measure)
            if best is not None
            else mean_interval([], confidence=CONFIDENCE)
        )
        entry["gap_to_best"] = gap.to_dict()
        entry["within_noise"] = _within_noise(entry, gap, best)
    return {
        "version": VERSION,
        "split": "val",
        "statement": STATEMENT,
        "measure": measure,
        "confidence": CONFIDENCE,
        "epochs": max((result.epochs for result in results), default=0),
        "seeds": sorted({result.seed for result in results}),
        "target_val_loss": target,
        "target_given": target_val_loss is not None,
        "best": best,
        "entries": entries,
    }


def typical_lowest_loss(by_entry: Mapping[str, Sequence[Trained]]) -> float | None:
    """The median over methods of the lowest validation loss that each reaches, averaged over its seeds."""
    reached = []
    for results in by_entry.values():
        lowest = [min(losses) for result in results if (losses := _known(result, "val_loss"))]
        if lowest:
            reached.append(float(np.mean(lowest)))
    return float(np.median(reached)) if reached else None


def trainings_table(results: Sequence[Trained], *, target: float | None) -> pd.DataFrame:
    """A row per training: what it was, its last metrics, and what it cost to reach the target, nan where never."""
    rows = []
    for result in results:
        steps, seconds = cost_of_target(result, target)
        rows.append(
            {
                **{name: getattr(result, name) for name in IDENTITY},
                **{name: result.final.get(name) for name in METRICS},
                "train_loss": result.final.get("train_loss"),
                "seconds": result.seconds,
                "steps_to_target": steps,
                "seconds_to_target": seconds,
            }
        )
    numbers = [*METRICS, "train_loss", "steps_to_target", "seconds_to_target"]
    return pd.DataFrame(rows).astype(dict.fromkeys(numbers, float))


def curves_table(results: Sequence[Trained]) -> pd.DataFrame:
    """A row per training and epoch."""
    rows = [
        {"phase": result.phase, "entry": result.entry, "factor": result.factor, "seed": result.seed, **epoch}
        for result in results
        for epoch in result.history
    ]
    table = pd.DataFrame(rows)
    return table.astype({name: float for name in (*METRICS, "train_loss") if name in table})


def rates_table(results: Sequence[Trained]) -> pd.DataFrame:
    """A row per training and step: the rate of the fastest group."""
    tables = [
        pd.DataFrame(
            {"entry": result.entry, "seed": result.seed, "step": range(1, len(result.rates) + 1), "lr": result.rates}
        )
        for result in results
    ]
    return pd.concat(tables, ignore_index=True)


def cost_of_target(result: Trained, target: float | None) -> tuple[float | None, float | None]:
    """Steps and seconds of training until the validation loss is at the target; None where it never is."""
    if target is None:
        return None, None
    losses = [epoch["val_loss"] for epoch in result.history]
    seconds = np.cumsum([epoch["seconds"] for epoch in result.history]).tolist()
    steps = [epoch["step"] for epoch in result.history]
    return first_reach(steps, losses, target), first_reach(seconds, losses, target)


def _entry(method: Method, choice: RateChoice, results: Sequence[Trained], *, target: float | None) -> dict[str, Any]:
    costs = [cost_of_target(result, target) for result in results]
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
        "trainings": len(results),
        "diverged": sum(result.diverged for result in results),
        "metrics": {name: _over_seeds(results, name).to_dict() for name in METRICS},
        "seconds": mean_interval([r.seconds for r in results if not r.diverged], confidence=CONFIDENCE).to_dict(),
        "steps_to_target": reach([steps for steps, _ in costs]).to_dict(),
        "seconds_to_target": reach([seconds for _, seconds in costs]).to_dict(),
    }


def _over_seeds(results: Sequence[Trained], name: str) -> Repeats:
    return mean_interval([result.final.get(name) for result in results], confidence=CONFIDENCE)


def _place(entry: Mapping[str, Any], measure: str) -> tuple[bool, bool, float, str]:
    mean = entry["metrics"][measure]["mean"]
    return entry["failed"], entry["diverged"] > 0, -mean if mean is not None else math.inf, entry["name"]


def _gap(results: Sequence[Trained], best: Sequence[Trained], measure: str) -> Repeats:
    mine, theirs = ({result.seed: result.final.get(measure) for result in some} for some in (results, best))
    return paired_gap(mine, theirs, confidence=CONFIDENCE)


def _within_noise(entry: Mapping[str, Any], gap: Repeats, best: str | None) -> bool | None:
    """Whether the interval of the difference to the best reaches 0; None where one seed, or none, has no interval."""
    if entry["name"] == best:
        return True
    if entry["failed"] or entry["diverged"]:
        return False
    return None if gap.high is None else gap.high >= 0


def _known(result: Trained, name: str) -> list[float]:
    return [epoch[name] for epoch in result.history if epoch.get(name) is not None]
