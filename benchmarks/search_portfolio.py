"""What the portfolio and the stop below the noise do to a search with hybrid sampling and ASHA, simulated.

All variants have the same problems and the same luck; their difference to the search with a portfolio is taken seed by
seed, with a t interval at 95 %. Trainings of a recipe vary by the seed as much as recorded ones.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from search_bandit import interval
from search_landscapes import FineTuning
from search_workers import Plan, simulate

from pipeline.search.run import LEAST_IMPROVEMENT
from pipeline.sections.search import SearchConfig

EPOCHS, WORKERS = 9, 2
#: Of a training's final score, and of each epoch's: together the .02 of recorded trainings.
NOISE = 0.013
TRIALS = (7, 16, 32)
USUAL = "portfolio"
VARIANTS: dict[str, dict[str, Any]] = {
    USUAL: {},
    "no portfolio": {"portfolio": False},
    "no portfolio, first rung after one epoch": {"portfolio": False, "grace": 1},
    "portfolio, stop below the noise": {"least": LEAST_IMPROVEMENT},
}


def measure(trials: int, *, seeds: int) -> list[dict[str, Any]]:
    """Of each variant regret, its difference to the usual one, epochs, trials and how many of the first went on."""
    usual, rows = None, []
    for name, changes in VARIANTS.items():
        regret, epochs, begun, went_on = _searches(trials, changes, seeds=seeds)
        usual = regret if usual is None else usual
        rows.append(
            {
                "variant": name,
                "trials": trials,
                "regret": interval(regret),
                "more_regret": interval(regret - usual),
                "epochs": float(epochs.mean()),
                "trials_begun": float(begun.mean()),
                "of_the_first_six_went_on": float(went_on.mean()),
            }
        )
    return rows


def _searches(trials: int, changes: dict[str, Any], *, seeds: int) -> np.ndarray:
    """(4, seeds) float: regret, epochs, trials begun, and how many of the six after the defaults passed the rung."""
    rung = SearchConfig(max_epochs=EPOCHS).first_rung
    values = []
    for seed in range(seeds):
        settings = {"grace": rung, "unstopped_fraction": 0.0, **changes}
        problem = FineTuning(epochs=EPOCHS, seed=seed, noise=NOISE)
        plan = Plan(sampler="hybrid", scheduler="asha", trials=trials, workers=WORKERS, seed=seed, **settings)
        search = simulate(problem, plan)
        went_on = sum(record.epochs > plan.grace for record in search.records[1:7])
        values.append((search.regret(problem), search.epochs, len(search.records), went_on))
    return np.array(values, dtype=float).T
