"""The duration of a search, before it starts and while it runs."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from components.search.rungs import Rungs
from components.search.trial import TrialRecord
from pipeline.compute.shipping import local_folder
from pipeline.config import ComputeConfig
from pipeline.search.trial import TrialPlan
from pipeline.search_space import at_horizon
from pipeline.training.build import open_data, use_threads
from pipeline.training.pace import measure_pace


def seconds_per_epoch(plan: TrialPlan, compute: ComputeConfig) -> float:
    """Seconds per epoch of the defaults, from a few steps on this machine; 0 for a cluster of other machines."""
    if compute.ray_address is not None:
        return 0.0
    use_threads(plan.threads)
    data = open_data(local_folder(plan.prepared))
    pace = measure_pace(at_horizon(plan.default, {}, plan.search), data, seed=plan.seed, compute=compute)
    return len(data.split("train")) * pace.training + len(data.split("val")) * pace.scoring


def expected_epochs(rungs: Rungs, *, scheduler: str, unstopped: float) -> float:
    """Epochs that a trial takes on average.

    asha, hyperband: one in `factor` of the trials that reach a rung continues. median: half of them continue after the
    first rung. unstopped: share of the trials that are never stopped.
    """
    epochs = rungs.epochs
    if scheduler in ("asha", "hyperband"):
        lengths = [epochs[0], *(later - earlier for earlier, later in itertools.pairwise(epochs))]
        stopped = float(sum(length / rungs.factor**number for number, length in enumerate(lengths)))
    elif scheduler == "median":
        stopped = epochs[0] + (rungs.last - epochs[0]) / 2
    else:
        return float(rungs.last)
    return unstopped * rungs.last + (1 - unstopped) * stopped


def seconds_left(
    records: Sequence[TrialRecord], *, num_trials: int, mean_epochs: float, seconds_per_epoch: float, concurrent: int
) -> float:
    """Seconds until all trials have ended, at the pace so far.

    mean_epochs: of a trial, before some have ended. seconds_per_epoch: used before the first reported epoch.
    """
    epochs = sum(record.epochs for record in records)
    seconds = sum(record.seconds for record in records)
    pace = seconds / epochs if epochs else seconds_per_epoch
    ended = [record for record in records if record.ended]
    running = [record for record in records if not record.ended]
    own = sum(record.epochs for record in ended) / len(ended) if len(ended) >= 4 else mean_epochs
    left = sum(max(own - record.epochs, 1.0) for record in running) + own * (num_trials - len(records))
    return pace * left / max(1, min(concurrent, num_trials - len(ended)))
