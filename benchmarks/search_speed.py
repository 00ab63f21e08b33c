"""What a search itself costs: decisions per second of every sampler, and a search of ten thousand trials.

A decision is a suggestion, or an answer whether a trial goes on. Its time is that of the sampler, the stopping rule and
the state with its journal, which is written to a file, line by line, as in a real search.
"""

from __future__ import annotations

import resource
import tempfile
import time
from pathlib import Path
from typing import Any

from search_landscapes import LAYER_DECAY, WEIGHT_DECAY, FineTuning
from search_workers import Plan, simulate

from components.search.space import LR

#: Sampler → what it searches (None: the default space), and the scheduler that goes with it.
SAMPLERS = {
    "random": (None, "asha"),
    "tpe": (None, "asha"),
    "hybrid": (None, "asha"),
    "grid": (None, "none"),
    "hierarchical": ((LR, WEIGHT_DECAY, LAYER_DECAY), "none"),
    "lipschitz": ((LR,), "none"),
}
TRIALS = (10, 100, 500)
WORKERS, EPOCHS = 8, 9
LARGE = Plan(sampler="random", scheduler="asha", trials=10_000, workers=1000, grace=3, unstopped_fraction=0.1, seed=0)
LARGE_EPOCHS = 27
SEED = 0


def measure(sampler: str, trials: int) -> dict[str, Any]:
    """One search with eight workers."""
    searched, scheduler = SAMPLERS[sampler]
    plan = Plan(
        sampler=sampler,
        scheduler=scheduler,
        trials=trials,
        workers=WORKERS,
        grace=1,
        unstopped_fraction=0.1,
        seed=SEED,
    )
    return _timed(FineTuning(epochs=EPOCHS, seed=SEED, searched=searched), plan)


def measure_large(trials: int) -> dict[str, Any]:
    """Random sampling and ASHA with a thousand workers, and how much more memory the process holds afterwards."""
    before = _resident_megabytes()
    plan = Plan(**{**vars(LARGE), "trials": trials})
    result = _timed(FineTuning(epochs=LARGE_EPOCHS, seed=SEED), plan)
    return {**result, "peak_megabytes_more": _resident_megabytes() - before}


def _timed(problem: FineTuning, plan: Plan) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="escapement-bench-") as name:
        journal = Path(name) / "journal.jsonl"
        started = time.perf_counter()
        search = simulate(problem, plan, journal=journal)
        wall = time.perf_counter() - started
        megabytes = journal.stat().st_size / 1e6
    return {
        "sampler": plan.sampler,
        "scheduler": plan.scheduler,
        "trials": len(search.records),
        "workers": plan.workers,
        "epochs": search.epochs,
        "decisions": search.decisions,
        "decisions_per_second": search.decisions / search.deciding_seconds,
        "milliseconds_per_trial": 1000 * search.deciding_seconds / len(search.records),
        "wall_seconds": wall,
        "simulated_seconds": search.simulated_seconds,
        "journal_megabytes": megabytes,
        "regret": search.regret(problem),
    }


def _resident_megabytes() -> float:
    """The most memory that the process has held so far; Linux tells it in kilobytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
