"""How many epochs early stopping saves: the same trials with a stopping rule and without, on equal terms.

A search without stopping (a Latin hypercube) ends with some regret; how many epochs does one with a stopping rule need
for the same? Both have the same problems, the same number of trials, the same hypercubes and the same luck, trial by
trial. The one with the rule then ends with a share of the epochs, and a regret a little above or below. What of its
epochs it would have needed for the very same regret is told along its own line: over searches of several sizes the mean
regret falls as a power of the mean epochs. Where it does not fall, there is no such answer. The interval is the
bootstrap's over the seeds.

ASHA is measured twice: by itself, where any trial may be stopped, and as it is by default, where a tenth of the trials
is never stopped, which shows how far the rungs can be trusted, and has its price. The first rung is where it
is by default: at a third of the length, and three epochs at least.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from search_landscapes import FineTuning, Problem, Recorded, recordings
from search_workers import FACTOR, Plan, simulate

from components.search.rungs import Rungs
from components.search.state import unstopped_numbers
from pipeline.sections.search import SearchConfig

WORKERS = (1, 8, 64, 1000)
#: Where rules are compared with each other, and curves drawn.
USUAL = 8
#: Name in the tables → scheduler, share of the trials that is never stopped.
RULES = {
    "none": ("none", 0.0),
    "asha": ("asha", 0.0),
    "asha, a tenth unstopped": ("asha", 0.1),
    "hyperband, a tenth unstopped": ("hyperband", 0.1),
    "median, a tenth unstopped": ("median", 0.1),
}
ASHA = tuple(name for name in RULES if name.startswith("asha"))
#: For the curves: how often a search is asked what it would choose, evenly over its trials' epochs at full length.
LOOKS = 120
#: The median rule's time grows with the square of the trials.
MOST_FOR_MEDIAN = 64
RESAMPLES = 1000
#: ASHA has to need no more than this share of the epochs.
TARGET = 2 / 3
#: A regret that falls no faster than this power of the epochs is taken not to fall.
LEAST_FALL = 0.05


@dataclass(frozen=True, kw_only=True)
class Study:
    """One kind of problem, drawn anew for each seed; searches of `trials` trials each, with `workers` workers each.

    sizes: of the searches with ASHA that show how its regret falls, at the usual number of workers. times: on how many
    times as many seeds as the largest searches. asha_alone: no other rule beside it.
    """

    name: str
    problem: Callable[[int], Problem]
    trials: tuple[int, ...]
    workers: tuple[int, ...]
    sizes: tuple[int, ...]
    times: int = 1
    asha_alone: bool = False

    def shrunk(self) -> Study:
        """The smallest of its searches."""
        return replace(self, trials=self.trials[:1], workers=(USUAL,), sizes=self.sizes[:2], times=1)


@dataclass(frozen=True)
class Outcomes:
    """Of searches of one kind, a row for each seed.

    looks: (LOOKS,) int, epochs. regret: (seeds, LOOKS) float, at each look. epochs, seconds: (seeds,), at the end.
    """

    looks: np.ndarray
    regret: np.ndarray
    epochs: np.ndarray
    seconds: np.ndarray

    @property
    def final(self) -> np.ndarray:
        """Regret at the end, (seeds,) float."""
        return self.regret[:, -1]

    @property
    def spent(self) -> np.ndarray:
        """Epochs trained by each look, (seeds, LOOKS) float: no more than were trained in all."""
        return np.minimum(self.looks, self.epochs[:, None])


def studies() -> list[Study]:
    """The drawn problems at two lengths, and the recorded curves that are long enough for rungs."""

    def drawn(epochs: int, *trials: int, **more: Any) -> Study:  # noqa: ANN401
        return Study(
            name=f"fine-tuning, {epochs} epochs",
            problem=lambda seed: FineTuning(epochs=epochs, seed=seed),
            trials=trials,
            workers=WORKERS,
            **more,
        )

    replays = [(name, path, Recorded.read(path, seed=0).epochs) for name, path in recordings().items()]
    return [
        drawn(27, 500, sizes=(64, 128, 250, 500), asha_alone=True),
        drawn(27, 64, sizes=(16, 32, 64, 128, 250), times=3),
        drawn(9, 16, 64, sizes=(8, 16, 32, 64, 128), times=3),
    ] + [
        Study(
            name=f"recorded: {name}, {epochs} epochs",
            problem=lambda seed, path=path: Recorded.read(path, seed=seed),
            trials=(16, 64),
            workers=(USUAL,),
            sizes=(8, 16, 32, 64),
            times=3,
        )
        for name, path, epochs in replays
        if epochs >= 9
    ]


def measure(study: Study, *, seeds: int) -> dict[str, Any]:
    """Every rule beside the search without one: ASHA at every number of workers, the others at the usual one.

    seeds: of the largest searches.
    """
    seeds *= study.times
    problems = [study.problem(seed) for seed in range(seeds)]

    @functools.cache
    def outcome(rule: str, trials: int, busy: int) -> Outcomes:
        return outcomes(problems, rule, trials, busy)

    sweep = {size: outcome("asha", size, min(USUAL, size)) for size in study.sizes}
    compared, curves = [], []
    for trials in study.trials:
        for workers in study.workers:
            busy = min(workers, trials)  # more workers than trials change nothing
            reference = outcome("none", trials, busy)
            found = {"none": reference}
            for rule in RULES if workers == USUAL and not study.asha_alone else ASHA:
                if rule == "none" or (rule.startswith("median") and trials > MOST_FOR_MEDIAN):
                    continue
                found[rule] = outcome(rule, trials, busy)
                setting = {"rule": rule, "trials": trials, "workers": workers, "least_share": None}
                if rule in ASHA:
                    setting["least_share"] = least_share(problems[0].epochs, trials, RULES[rule][1])
                along = list(sweep.values()) if rule in ASHA else []
                compared.append(setting | compare(found[rule], reference, along))
            if workers == USUAL:
                curves += [{"rule": rule, "trials": trials, **_curve(outcome)} for rule, outcome in found.items()]
    by_size = [
        {"trials": size, "epochs": float(found.epochs.mean()), "regret": float(found.final.mean())}
        for size, found in sweep.items()
    ]
    return {"study": study.name, "seeds": seeds, "compared": compared, "asha_by_size": by_size, "curves": curves}


def outcomes(problems: Sequence[Problem], rule: str, trials: int, workers: int) -> Outcomes:
    """A search on each problem, the problem's number being its seed."""
    scheduler, unstopped = RULES[rule]
    most = trials * problems[0].epochs
    looks = np.unique(np.linspace(0, most, LOOKS + 1).round().astype(int)[1:])
    regret, ends = [], []
    for seed, problem in enumerate(problems):
        plan = Plan(
            sampler="random",
            scheduler=scheduler,
            trials=trials,
            workers=workers,
            grace=first_rung(problem.epochs),
            unstopped_fraction=unstopped,
            seed=seed,
        )
        search = simulate(problem, plan, looks=frozenset(looks.tolist()))
        regret.append([search.regret(problem, after=look) for look in looks.tolist()])
        ends.append((search.epochs, search.simulated_seconds))
    epochs, seconds = np.array(ends, dtype=float).T
    return Outcomes(looks, np.array(regret), epochs, seconds)


def first_rung(epochs: int) -> int:
    return SearchConfig(max_epochs=epochs).first_rung


def least_share(epochs: int, trials: int, unstopped_fraction: float) -> float:
    """What ASHA's rungs ask for by arithmetic, as a share of all epochs.

    Where exactly one trial in FACTOR goes on at each rung, and those that are never stopped train to their end. Without
    waiting for all to arrive at a rung more go on.
    """
    whole = len(unstopped_numbers(trials, unstopped_fraction, seed=0)) / trials
    rungs = (0, *Rungs(first_rung(epochs), FACTOR, epochs).epochs)
    rungs = sum((high - low) / FACTOR**step for step, (low, high) in enumerate(itertools.pairwise(rungs)))
    return whole + (1 - whole) * rungs / epochs


def compare(found: Outcomes, reference: Outcomes, sweep: Sequence[Outcomes]) -> dict[str, Any]:
    """A search with a rule beside the one without. sweep: with the rule, of several sizes; none: no ratio is told.

    ratio: epochs needed for the regret of the one without, as a share of its epochs; None where the regret of the sweep
    does not fall.
    """
    count = len(reference.epochs)

    def ratio(chosen: np.ndarray) -> tuple[float, float]:
        """How fast the regret falls, and the share of the epochs that the same regret needs."""
        fall = -slope([o.epochs[chosen].mean() for o in sweep], [o.final[chosen].mean() for o in sweep])
        share = found.epochs[chosen].mean() / reference.epochs[chosen].mean()
        above = found.final[chosen].mean() / reference.final[chosen].mean()
        return fall, float(share * above ** (1 / max(fall, LEAST_FALL)))

    difference = found.final - reference.final
    result: dict[str, Any] = {
        "share_of_epochs": float(found.epochs.mean() / reference.epochs.mean()),
        "regret": float(found.final.mean()),
        "regret_without": float(reference.final.mean()),
        "regret_difference": float(difference.mean()),
        "regret_difference_error": _error(difference),
        "epochs": float(found.epochs.mean()),
        "epochs_without": float(reference.epochs.mean()),
        "simulated_seconds": float(found.seconds.mean()),
        "simulated_seconds_without": float(reference.seconds.mean()),
        "ratio": None,
        "ratio_interval": None,
    }
    if sweep:
        fall, needed = ratio(np.arange(count))
        if fall > LEAST_FALL:
            draw = np.random.default_rng(0)
            drawn = [ratio(draw.integers(0, count, count))[1] for _ in range(RESAMPLES)]
            result |= {"ratio": needed, "ratio_interval": [float(np.quantile(drawn, q)) for q in (0.025, 0.975)]}
    return result


def slope(epochs: Sequence[float], regret: Sequence[float]) -> float:
    """The power of the epochs as which the regret changes: a least-squares line through the logarithms."""
    return float(np.polyfit(np.log(epochs), np.log(regret), 1)[0])


def verdicts(results: Sequence[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Whether ASHA needs no more than the target, at every number of trials and workers where that has an answer."""
    return {
        f"{result['study']}, {row['trials']} trials, {row['workers']} workers: {row['rule']} needs two thirds": {
            "met": row["ratio"] <= TARGET,
            "measured": f"{shown(row)}; its rungs ask for {row['least_share']:.2f}",
        }
        for result in results
        for row in result["compared"]
        if row["rule"] in ASHA and row["ratio"] is not None
    }


def shown(row: dict[str, Any]) -> str:
    if row["ratio"] is None:
        return "no answer" if row["rule"] in ASHA else ""
    low, high = row["ratio_interval"]
    return f"{row['ratio']:.2f} ({low:.2f} to {high:.2f})"


def draw_curves(results: Sequence[dict[str, Any]], path: Path) -> None:
    """Regret against epochs on the way, a panel for each number of trials of each study."""
    import matplotlib as mpl

    mpl.use("agg")
    from matplotlib import pyplot as plt

    panels = [(result, trials) for result in results for trials in sorted({c["trials"] for c in result["curves"]})]
    figure, axes = plt.subplots(1, len(panels), figsize=(5 * len(panels), 4), squeeze=False, layout="constrained")
    for axis, (result, trials) in zip(axes[0], panels, strict=True):
        for curve in result["curves"]:
            if curve["trials"] == trials:
                axis.plot(curve["epochs"], curve["regret"], label=curve["rule"])
        title = f"{result['study']}, {trials} trials"
        axis.set(xscale="log", yscale="log", xlabel="epochs trained", ylabel="mean regret", title=title)
    axes[0][0].legend(title=f"stopping, {USUAL} workers")
    figure.savefig(path, dpi=120)
    plt.close(figure)


def _curve(outcome: Outcomes) -> dict[str, list[float]]:
    return {
        "epochs": [round(float(value), 1) for value in outcome.spent.mean(axis=0)],
        "regret": [round(float(value), 5) for value in outcome.regret.mean(axis=0)],
    }


def _error(values: np.ndarray) -> float:
    """Standard error of the mean; 0 of a single value."""
    return float(values.std(ddof=1) / math.sqrt(len(values))) if len(values) > 1 else 0.0
