"""Samplers over the learning rate alone, with a handful of trials one after another: who finds the better rate?

Each search begins with the defaults in the middle of the range, as a search does where the range test's suggestion lies
there, and lets no trial be stopped. All samplers get the same problems; the difference of two is taken seed by seed,
with a t interval at 95 %.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from scipy.stats import t as student
from search_landscapes import Bump, Problem, Recorded, recordings
from search_workers import Plan, simulate

SAMPLERS = ("lipschitz", "random", "tpe", "hybrid", "grid")
OURS = "lipschitz"
#: Trials → on how many times as many seeds as other searches: fewer trials differ more by seed, and cost less.
BUDGETS = {8: 16, 20: 4}


def problems() -> dict[str, Callable[[int], Problem]]:
    """A problem for each seed: a new bump, or the recorded curves."""
    found: dict[str, Callable[[int], Problem]] = {"bump with a cliff": lambda seed: Bump(seed=seed)}
    for name, path in recordings().items():
        found[f"recorded: {name}"] = lambda seed, path=path: Recorded.read(path, seed=seed)
    return found


def measure(name: str, problem: Callable[[int], Problem], *, trials: int, seeds: int) -> dict[str, Any]:
    """Mean regrets, and what ours has less or more than the others."""
    regrets = {sampler: _regrets(problem, sampler, trials=trials, seeds=seeds) for sampler in SAMPLERS}
    return {
        "problem": name,
        "trials": trials,
        "seeds": seeds,
        "regret": {sampler: interval(values) for sampler, values in regrets.items()},
        "ours_minus": {
            sampler: {
                **interval(regrets[OURS] - values),
                "share_of_seeds_ahead": float(np.mean(regrets[OURS] < values)),
                "share_of_seeds_behind": float(np.mean(regrets[OURS] > values)),
            }
            for sampler, values in regrets.items()
            if sampler != OURS
        },
    }


def interval(values: np.ndarray) -> dict[str, float | None]:
    """The mean, and its 95 % interval by Student's t; values: (n,) float."""
    mean = float(values.mean())
    if len(values) < 2:
        return {"mean": mean, "low": None, "high": None}
    half = float(student.ppf(0.975, len(values) - 1) * values.std(ddof=1) / math.sqrt(len(values)))
    return {"mean": mean, "low": mean - half, "high": mean + half}


def verdicts(results: Sequence[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Ahead: the whole interval is. Not behind: the interval reaches to where ours is ahead."""
    found = {}
    for result in results:
        for other in ("random", "tpe"):
            difference = result["ours_minus"][other]
            few = result["trials"] == min(BUDGETS)
            edge = difference["high" if few else "low"]
            claim = "ahead of" if few else "not behind"
            found[f"{result['problem']}, {result['trials']} trials: {OURS} {claim} {other}"] = {
                "met": edge is not None and edge < 0,
                "measured": f"{difference['mean']:+.4f} ({_shown(difference['low'])} to {_shown(difference['high'])})",
            }
    return found


def _regrets(problem: Callable[[int], Problem], sampler: str, *, trials: int, seeds: int) -> np.ndarray:
    regrets = []
    for seed in range(seeds):
        plan = Plan(
            sampler=sampler, scheduler="none", trials=trials, workers=1, grace=1, unstopped_fraction=0.0, seed=seed
        )
        drawn = problem(seed)
        regrets.append(simulate(drawn, plan).regret(drawn))
    return np.array(regrets)


def _shown(value: float | None) -> str:
    return "?" if value is None else f"{value:+.4f}"
