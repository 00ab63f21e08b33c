"""Statistics of a comparison of methods: means over seeds, steps to a target, and the ranking."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from components.evaluation.paired_seeds import SeedMean, difference_by_seed, mean_interval

CONFIDENCE = 0.95
"""Of every interval over seeds."""


def rank_methods(
    trainings: pd.DataFrame, methods: Sequence[str], *, metrics: Sequence[str], rank_by: str
) -> list[dict[str, Any]]:
    """A record per method, the best first: means over its seeds, steps to a target, paired difference to the best.

    trainings: a row per training at full length: entry, seed, diverged, seconds, steps_to_target and the
    metrics, nan where there is no value. rank_by: the metric whose mean decides, larger is better. A method of
    which a training diverged ranks behind all others, and one without a training last: the mean of the remaining
    trainings would hide what was lost.
    `within_noise`: whether the interval of the difference to the best reaches 0; None where one seed has no interval.
    """
    by_method = {name: trainings[trainings["entry"] == name] for name in methods}
    records = [_record(name, rows, metrics) for name, rows in by_method.items()]

    def place(record: dict[str, Any]) -> tuple[bool, bool, float, str]:
        mean = record["metrics"][rank_by]["mean"]
        return not record["trainings"], record["diverged"] > 0, math.inf if mean is None else -mean, record["name"]

    records.sort(key=place)
    reference: dict[int, float | None] = {}
    if records and records[0]["metrics"][rank_by]["mean"] is not None:
        reference = _by_seed(by_method[records[0]["name"]], rank_by)
    for rank, record in enumerate(records):
        gap = difference_by_seed(_by_seed(by_method[record["name"]], rank_by), reference, confidence=CONFIDENCE)
        record["gap_to_best"] = gap.to_dict()
        record["within_noise"] = _within_noise(record, gap, is_best=rank == 0 and bool(reference))
    return records


def typical_lowest_loss(curves: pd.DataFrame) -> float | None:
    """The median over methods of the lowest validation loss that each reaches, averaged over its seeds.

    curves: a row per training and epoch: entry, seed, val_loss. None where no loss is known.
    """
    lowest = curves.dropna(subset="val_loss").groupby(["entry", "seed"])["val_loss"].min()
    return float(lowest.groupby("entry").mean().median()) if len(lowest) else None


def first_reach(steps: Sequence[float], losses: Sequence[float | None], target: float) -> float | None:
    """The step at which the loss first is at the target or below; None where it never is.

    steps: rising, one per evaluation. losses: of the same evaluations, None or nan where there was none; those are
    passed over. Between two evaluations the loss is taken to fall in a straight line. A target that the first
    evaluation has reached is counted at that evaluation: nothing is known of the steps before.
    """
    before: tuple[float, float] | None = None
    for step, loss in zip(steps, losses, strict=True):
        if loss is None or not math.isfinite(loss):
            continue
        if loss <= target:
            if before is None:
                return float(step)
            last_step, last_loss = before
            return last_step + (step - last_step) * (last_loss - target) / (last_loss - loss)
        before = float(step), loss
    return None


def _record(name: str, rows: pd.DataFrame, metrics: Sequence[str]) -> dict[str, Any]:
    whole = rows[~rows["diverged"].astype(bool)]
    return {
        "name": name,
        "trainings": len(rows),
        "diverged": len(rows) - len(whole),
        "metrics": {
            metric: mean_interval(rows[metric].tolist(), confidence=CONFIDENCE).to_dict() for metric in metrics
        },
        "seconds": mean_interval(whole["seconds"].tolist(), confidence=CONFIDENCE).to_dict(),
        "steps_to_target": _reached(rows["steps_to_target"].to_numpy(dtype=float)),
    }


def _reached(steps: np.ndarray) -> dict[str, Any]:
    """How many trainings reached the target, and the mean steps of those; None where none did."""
    known = steps[np.isfinite(steps)]
    return {"reached": known.size, "count": steps.size, "mean": float(known.mean()) if known.size else None}


def _by_seed(rows: pd.DataFrame, metric: str) -> dict[int, float | None]:
    return dict(zip(rows["seed"].tolist(), rows[metric].astype(float).tolist(), strict=True))


def _within_noise(record: dict[str, Any], gap: SeedMean, *, is_best: bool) -> bool | None:
    if is_best:
        return True
    if record["diverged"] or not record["trainings"]:
        return False
    return None if gap.high is None else gap.high >= 0
