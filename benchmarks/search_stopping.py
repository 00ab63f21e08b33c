"""How many epochs early stopping saves: searches of many sizes, with a stopping rule and without, on equal terms.

A search without stopping (a Latin hypercube) ends with some regret. How many epochs does one with a stopping rule need
for the same? Whole searches are compared, each with the number of trials that it was given: their mean regrets over
the seeds, as a function of their mean epochs, smoothed to fall (isotonic regression), and read off where they pass the
other's regret, linear in the logarithm of the epochs. Both get the same problems, the same hypercubes and the same
luck, trial by trial; the interval is the bootstrap's over the seeds.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from search_landscapes import FineTuning, Problem, Recorded, recordings
from search_workers import Plan, simulate
from sklearn.isotonic import IsotonicRegression

#: The configuration's default: never stopped, so that the rungs can be checked against the end.
UNSTOPPED = 0.1
WORKERS = (1, 8, 64, 1000)
#: Where rules are compared with each other, and curves drawn.
USUAL = 8
SLOW_UP_TO = 64
RESAMPLES = 1000
ALL_MAY_STOP = "asha, all may be stopped"


@dataclass(frozen=True, kw_only=True)
class Study:
    """Trials of the searches without stopping, sizes of those with a rule.

    wide_trials, wide_sizes: further ones, for ASHA at the usual number of workers. The median rule, whose time grows
    with the square of the trials, is asked up to SLOW_UP_TO of them.
    """

    name: str
    problem: Callable[[int], Problem]
    workers: tuple[int, ...]
    trials: tuple[int, ...]
    sizes: tuple[int, ...]
    wide_trials: tuple[int, ...] = ()
    wide_sizes: tuple[int, ...] = ()


@dataclass(frozen=True)
class Outcomes:
    """Of searches of one kind, over the seeds: (seeds,) float each."""

    regret: np.ndarray
    epochs: np.ndarray
    seconds: np.ndarray


def studies() -> list[Study]:
    """The parametric problems at two lengths, and the recorded curves that are long enough for rungs."""
    long = Study(
        name="fine-tuning, 27 epochs",
        problem=lambda seed: FineTuning(epochs=27, seed=seed),
        workers=WORKERS,
        trials=(64,),
        sizes=(32, 48, 64, 80, 96, 128),
        wide_trials=(16, 160, 500),
        wide_sizes=(16, 160, 200, 256, 350, 500),
    )
    short = Study(
        name="fine-tuning, 9 epochs",
        problem=lambda seed: FineTuning(epochs=9, seed=seed),
        workers=WORKERS,
        trials=(16, 64),
        sizes=(8, 10, 12, 16, 20, 24, 32, 48, 64, 96),
    )
    replays = [(name, path, Recorded.read(path, seed=0).epochs) for name, path in recordings().items()]
    return [long, short] + [
        Study(
            name=f"recorded: {name}, {epochs} epochs",
            problem=lambda seed, path=path: Recorded.read(path, seed=seed),
            workers=(USUAL,),
            trials=(16,),
            sizes=(8, 10, 12, 16, 20, 24, 32, 48),
        )
        for name, path, epochs in replays
        if epochs >= 9
    ]


def measure(study: Study, *, seeds: int) -> dict[str, Any]:
    """Every rule beside the search without one: ASHA at every number of workers, the others at the usual one."""
    problems = [study.problem(seed) for seed in range(seeds)]
    compared, curves = [], []
    for workers in study.workers:
        usual = workers == USUAL
        trials = (*study.trials, *study.wide_trials) if usual else study.trials
        without = {size: _outcomes(problems, "none", size, workers) for size in sorted(trials)}
        if usual:
            curves.append({"scheduler": "none", "points": _points(without)})
        for rule in ("asha", ALL_MAY_STOP, "hyperband", "median") if usual else ("asha",):
            sizes = (*study.sizes, *study.wide_sizes) if usual and rule == "asha" else study.sizes
            sizes = tuple(size for size in sorted(sizes) if rule != "median" or size <= SLOW_UP_TO)
            found = {size: _outcomes(problems, rule, size, workers) for size in sizes}
            compared += [
                {"scheduler": rule, "workers": workers, "trials": size, **compare(found, without[size], size)}
                for size in without
                if size in study.trials or (rule == "asha" and size < max(sizes))
            ]
            if usual:
                curves.append({"scheduler": rule, "points": _points(found)})
    return {"study": study.name, "seeds": seeds, "compared": compared, "curves": curves}


def compare(found: dict[int, Outcomes], reference: Outcomes, trials: int) -> dict[str, Any]:
    """Searches of several sizes against one without stopping; `trials`: its size."""
    sizes = sorted(found)
    epochs = np.array([found[size].epochs for size in sizes])
    regret = np.array([found[size].regret for size in sizes])
    needed = epochs_to_reach(epochs.mean(axis=1), regret.mean(axis=1), float(reference.regret.mean()))
    draw = np.random.default_rng(0)
    count = len(reference.regret)
    ratios = []
    for _ in range(RESAMPLES):
        chosen = draw.integers(0, count, count)
        target, spent = float(reference.regret[chosen].mean()), float(reference.epochs[chosen].mean())
        ratios.append(epochs_to_reach(epochs[:, chosen].mean(axis=1), regret[:, chosen].mean(axis=1), target) / spent)
    result: dict[str, Any] = {
        "epochs_without": float(reference.epochs.mean()),
        "regret_without": float(reference.regret.mean()),
        "seconds_without": float(reference.seconds.mean()),
        "epochs_needed": _or_none(needed),
        "ratio": _or_none(needed / float(reference.epochs.mean())),
        "ratio_interval": [_or_none(float(np.quantile(ratios, q, method="nearest"))) for q in (0.025, 0.975)],
    }
    if trials in found:
        same = found[trials]
        difference = same.regret - reference.regret
        result["same_trials"] = {
            "share_of_epochs": float(same.epochs.mean() / reference.epochs.mean()),
            "regret": float(same.regret.mean()),
            "regret_difference": float(difference.mean()),
            "standard_error": float(difference.std(ddof=1) / math.sqrt(count)) if count > 1 else None,
            "seconds": float(same.seconds.mean()),
        }
    return result


def epochs_to_reach(epochs: Sequence[float] | np.ndarray, regret: Sequence[float] | np.ndarray, target: float) -> float:
    """Where a falling curve of regrets passes the target; at its first point if it begins below; inf if it never does.

    epochs: (n,) float, rising.
    """
    smooth = IsotonicRegression(increasing=False).fit_transform(np.arange(len(epochs)), regret)
    below = np.flatnonzero(smooth <= target)
    if not below.size:
        return math.inf
    at = int(below[0])
    if at == 0 or smooth[at - 1] == smooth[at]:
        return float(epochs[at])
    share = (smooth[at - 1] - target) / (smooth[at - 1] - smooth[at])
    return float(np.exp((1 - share) * np.log(epochs[at - 1]) + share * np.log(epochs[at])))


def draw_curves(results: Sequence[dict[str, Any]], path: Path) -> None:
    """Regret against epochs, a panel for each study, whole searches of rising size."""
    import matplotlib as mpl

    mpl.use("agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(1, len(results), figsize=(5 * len(results), 4), squeeze=False, layout="constrained")
    for axis, result in zip(axes[0], results, strict=True):
        for curve in result["curves"]:
            points = curve["points"]
            axis.errorbar(
                [point["epochs"] for point in points],
                [point["regret"] for point in points],
                yerr=[point["standard_error"] or 0.0 for point in points],
                marker="o",
                label=curve["scheduler"],
            )
        axis.set(xscale="log", yscale="log", xlabel="epochs trained", ylabel="mean regret", title=result["study"])
    axes[0][0].legend(title=f"stopping, {USUAL} workers")
    figure.savefig(path, dpi=120)
    plt.close(figure)


def _outcomes(problems: Sequence[Problem], rule: str, trials: int, workers: int) -> Outcomes:
    rows = []
    for seed, problem in enumerate(problems):
        plan = Plan(
            sampler="random",
            scheduler="asha" if rule == ALL_MAY_STOP else rule,
            trials=trials,
            workers=workers,
            unstopped_fraction=0.0 if rule == ALL_MAY_STOP else UNSTOPPED,
            seed=seed,
        )
        search = simulate(problem, plan)
        rows.append((search.regret(problem), search.epochs, search.simulated_seconds))
    return Outcomes(*np.array(rows, dtype=float).T)


def _points(found: dict[int, Outcomes]) -> list[dict[str, Any]]:
    return [
        {
            "trials": size,
            "epochs": float(outcome.epochs.mean()),
            "regret": float(outcome.regret.mean()),
            "standard_error": float(outcome.regret.std(ddof=1) / math.sqrt(len(outcome.regret)))
            if len(outcome.regret) > 1
            else None,
            "seconds": float(outcome.seconds.mean()),
        }
        for size, outcome in found.items()
    ]


def _or_none(value: float) -> float | None:
    """JSON knows no infinity."""
    return value if math.isfinite(value) else None
