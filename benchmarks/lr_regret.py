"""What a suggested rate loses against the best of a grid that was trained for real.

For each setting the grid is trained over a few seeds, its best rate is trained again on fresh ones (the best of many
noisy means is partly luck), and each rule's suggestions are trained on the same fresh seeds: suggestion i, from a whole
range test of its own, on fresh seed i, so that a rule that scatters pays for it. Where ours abstains, the optimizer's
default rate is trained, as the pipeline would.

The regret is in units of the seeds' standard deviation at the grid's best. The peers get the same budget as a range
test of ours: the median of their suggestions on three curves of the same range and number of steps.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from lr_settings import Problem, Setting
from lr_trainings import SEEDS, ramp_curves, read, steepest_rate, train, valley_rate

from components.optim.optimizers import OPTIMIZERS
from components.optim.range_test.bounds import LrBounds

RULES = ("ours", "steepest", "valley")
FRESH, TESTS = 100, 1000  # first seeds, apart from the grid's, which count from 0


@dataclass(frozen=True)
class Plan:
    """How much is trained. tests: range tests of ours. fresh: fresh seeds, at most as many, and tests of each peer.

    peers: whether the peers' rules are measured, too.
    """

    grid_points: int
    grid_seeds: int
    tests: int
    fresh: int
    peers: bool = True


def measure_regret(setting: Setting, problem: Problem, plan: Plan) -> dict[str, Any]:
    """Train the grid, run all rules' range tests, train what they suggest.

    The grid spans the ramp, or for a pretrained network, whose trainings take longer, the optimizer's default bounds.
    """
    spec = OPTIMIZERS[setting.optimizer]
    low, high = spec.default_bounds if setting.pretrained else spec.ramp
    grid = np.geomspace(low, high, plan.grid_points).tolist()
    on_grid = [_scores(setting, problem, [lr] * plan.grid_seeds, first_seed=0) for lr in grid]
    best = grid[int(np.argmax([_mean(scores, 0) for scores in on_grid]))]
    rescored = _scores(setting, problem, [best] * plan.fresh, first_seed=FRESH)
    # A validation split too easy to tell seeds apart still tells images apart.
    spread = max(_sd(rescored, 0), 1 / len(problem.val)), max(_sd(rescored, 1), 1e-3)
    suggested, tests = suggestions(setting, problem, plan)
    found = {}
    own = [bounds.suggested for bounds in tests if not bounds.abstained]
    for rule, rates in suggested.items():
        scores = _scores(setting, problem, rates[: plan.fresh], first_seed=FRESH)
        found[rule] = {
            "rates": rates,
            "spread_decades": _spread(own if rule == "ours" else rates),
            "score": _mean(scores, 0),
            "regret": (_mean(rescored, 0) - _mean(scores, 0)) / spread[0],
            "regret_log_loss": (_mean(scores, 1) - _mean(rescored, 1)) / spread[1],
        }
    return {
        "setting": setting.name,
        "half": setting.half,
        "optimizer": setting.optimizer,
        "grid": {"rates": grid, "scores": [_mean(scores, 0) for scores in on_grid]},
        "best": {"rate": best, "score": _mean(rescored, 0), "seed_sd": spread[0]},
        "abstained": sum(bounds.abstained for bounds in tests),
        "reasons": sorted({bounds.reason for bounds in tests if bounds.abstained}),
        "tests": len(tests),
        "centres": [bounds.centre for bounds in tests if bounds.centre is not None],
        "diverging": [bounds.lr_div for bounds in tests if bounds.lr_div is not None],
        "outside_bounds": sum(not bounds.lower <= best <= bounds.upper for bounds in tests),
        "rules": found,
    }


def suggestions(setting: Setting, problem: Problem, plan: Plan) -> tuple[dict[str, list[float]], list[LrBounds]]:
    """Each rule's rates from range tests on seeds that do not overlap, and our bounds."""
    rates: dict[str, list[float]] = {rule: [] for rule in (RULES if plan.peers else RULES[:1])}
    tests = []
    for number in range(plan.tests):
        seeds = range(TESTS + SEEDS * number, TESTS + SEEDS * (number + 1))
        curves = ramp_curves(setting, problem, seeds=seeds)
        bounds = read(setting, problem, curves)
        tests.append(bounds)
        rates["ours"].append(bounds.suggested)
        if number >= plan.fresh or not plan.peers:
            continue
        rates["steepest"].append(statistics.median(steepest_rate(setting, problem, seed=seed) for seed in seeds))
        rates["valley"].append(statistics.median(valley_rate(curve) for _, curve in curves.groupby("seed")))
    return rates, tests


def measure_abstention(setting: Setting, problem: Problem, *, repeats: int) -> dict[str, Any]:
    """How often a range test suggests a rate where there is nothing to learn."""
    tests = [
        read(setting, problem, ramp_curves(setting, problem, seeds=range(TESTS + SEEDS * n, TESTS + SEEDS * (n + 1))))
        for n in range(repeats)
    ]
    return {
        "setting": setting.name,
        "tests": len(tests),
        "abstained": sum(bounds.abstained for bounds in tests),
        "suggested": [bounds.suggested for bounds in tests if not bounds.abstained],
    }


def _scores(
    setting: Setting, problem: Problem, rates: Sequence[float], *, first_seed: int
) -> list[tuple[float, float]]:
    """(balanced accuracy, log loss) of a training per rate, each on a seed of its own."""
    scores = [train(setting, problem, lr=lr, seed=first_seed + number) for number, lr in enumerate(rates)]
    return [(score.balanced_accuracy, score.log_loss) for score in scores]


def _spread(rates: Sequence[float]) -> float:
    """Standard deviation in decades of what was suggested; an abstention suggests nothing."""
    return float(np.std(np.log10(rates), ddof=1)) if len(rates) > 1 else 0.0


def _mean(scores: Sequence[tuple[float, float]], which: int) -> float:
    return statistics.fmean(score[which] for score in scores)


def _sd(scores: Sequence[tuple[float, float]], which: int) -> float:
    return statistics.stdev(score[which] for score in scores) if len(scores) > 1 else 0.0
