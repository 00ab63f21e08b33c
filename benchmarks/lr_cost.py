"""What a curve of a range test costs over the training loop that anyone would write by hand.

Both take the same number of steps at the same rates on the same batches; they take turns, so that a machine that slows
down slows both, and the median of the ratios counts.
"""

from __future__ import annotations

import statistics
import time
from typing import Any

import numpy as np
from lr_settings import Problem, Setting, forward, make_model
from lr_trainings import STEPS_PER_DECADE, new_optimizer, ramp

from components.training.ramp import ramp_rates

DECADES = (1e-8, 1e-2)  # as many as a test has, where nothing diverges, so that both go to the end


def measure_cost(setting: Setting, problem: Problem, *, repeats: int) -> dict[str, Any]:
    """Return seconds of both and the ratio, turn by turn."""
    ratios, ours, bare = [], [], []
    for repeat in range(repeats + 1):
        turn = _ramp_seconds(setting, problem, seed=repeat), _bare_seconds(setting, problem, seed=repeat)
        if repeat:  # the first warms up: allocation, choice of algorithms
            ours.append(turn[0])
            bare.append(turn[1])
            ratios.append(turn[0] / turn[1])
    return {
        "setting": setting.name,
        "seconds": {"ours": statistics.median(ours), "bare loop": statistics.median(bare)},
        "ratio": {"median": float(np.median(ratios)), "min": min(ratios), "max": max(ratios)},
    }


def _ramp_seconds(setting: Setting, problem: Problem, *, seed: int) -> float:
    low, high = DECADES
    started = time.perf_counter()
    ramp(setting, problem, seed=seed, low=low, high=high)
    return time.perf_counter() - started


def _bare_seconds(setting: Setting, problem: Problem, *, seed: int) -> float:
    low, high = DECADES
    started = time.perf_counter()
    model = make_model(setting.model, problem, seed).train()
    optimizer = new_optimizer(setting.optimizer, model, low)
    losses = []
    for lr, batch in zip(ramp_rates(low, high, STEPS_PER_DECADE), problem.batches(seed), strict=False):
        for group in optimizer.param_groups:
            group["lr"] = lr
        optimizer.zero_grad()
        loss = problem.loss(forward(model, batch), batch.labels)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return time.perf_counter() - started
