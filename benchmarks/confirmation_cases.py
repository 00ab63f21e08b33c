"""Searches and confirmations put together from recorded trainings, for `confirmation.py`.

Two kinds of recordings: trainings over folds, with defect scores and a large test split for the truth
(`confirmation_trainings.py`), and learning curves over seeds (`search_curves.py`), of which the early epochs stand for
the trials of a search, and the last one for a training at full length.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from components.evaluation import scalars
from components.evaluation.intervals import bootstrap_values

FOLDER = Path(__file__).parent / "data"
OBJECTIVES = ("auroc", "average_precision")
#: Trials of a search beside the defaults, of those that were recorded.
TRIALS = 4
SAMPLES = 300
#: Draws of searches from a set of learning curves; decades around the defaults in which they look.
DRAWS, WINDOW = 400, 2.5


@dataclass(frozen=True, kw_only=True)
class Case:
    """A recipe in a search beside the defaults, and what a confirmation of it measures.

    weight: how often it is the winner of such a search; the weights of a set and objective sum to 1. gain: over the
    defaults in the search. differences: from the defaults, of each replicate. sampling, alone: variance over the choice
    of images of each replicate's difference, and of one recipe's score; 0 where the truth is on the same images.
    truths: differences in truth, of each replicate's models; truth: their mean. counts: (defective, good) groups.
    """

    set: str
    objective: str
    weight: float
    gain: float
    score: float
    differences: tuple[float, ...]
    sampling: tuple[float, ...]
    alone: tuple[float, ...]
    truths: tuple[float, ...]
    truth: float
    counts: tuple[tuple[int, int], ...]


def cases() -> list[Case]:
    """All of the recordings that there are."""
    found: list[Case] = []
    for path in sorted(FOLDER.glob("confirmation_*.json")):
        for objective in OBJECTIVES:
            found += from_folds(path, objective)
    for path in sorted(FOLDER.glob("curves_*.json")):
        found += from_curves(path)
    return found


def from_folds(path: Path, objective: str) -> list[Case]:
    """The cases of trainings over folds: every recipe, by how often it wins a search of TRIALS recipes."""
    recorded = json.loads(path.read_text(encoding="utf-8"))
    measure = {"auroc": scalars.auroc, "average_precision": scalars.average_precision}[objective]
    images = {
        int(fold): {key: np.array(value) for key, value in one.items()} for fold, one in recorded["images"].items()
    }
    recipes = [recipe for recipe in recorded["recipes"] if None not in recipe["folds"]]
    first, *others = recipes
    wins: dict[tuple[int, int], float] = {}
    scores = np.array(
        [
            [np.nan if trial is None else measure(np.array(trial["scores"]), images[0]["is_defect"] == 1)
             for trial in recipe["trials"]]
            for recipe in recipes
        ]
    )  # fmt: skip
    draw = np.random.default_rng(0)
    for seed in np.flatnonzero(~np.isnan(scores[0])):
        for _ in range(DRAWS):
            tried = [0, *(1 + draw.permutation(len(others))[:TRIALS])]
            best = tried[int(np.nanargmax(scores[tried, seed]))]
            if best:
                wins[best, seed] = wins.get((best, seed), 0.0) + 1.0
    total = sum(wins.values()) or 1.0  # none, where the defaults win every search
    compared = [_compared(recipe, first, images, measure, objective) for recipe in others]
    return [
        Case(
            set=path.stem.removeprefix("confirmation_"),
            objective=objective,
            weight=wins.get((recipe, seed), 0.0) / total,
            gain=float(scores[recipe, seed] - scores[0, seed]),
            score=float(scores[0, seed]),
            **compared[recipe - 1],
        )
        for recipe, seed in np.ndindex(scores.shape)
        if recipe and not np.isnan(scores[[0, recipe], seed]).any()
    ]


def _compared(
    winner: dict[str, Any],
    defaults: dict[str, Any],
    images: dict[int, Any],
    measure: Callable[[np.ndarray, np.ndarray], float],
    objective: str,
) -> dict[str, Any]:
    """What a confirmation on every recorded fold measures."""
    differences, sampling, alone, counts = [], [], [], []
    for fold, (ours, theirs) in enumerate(zip(winner["folds"], defaults["folds"], strict=True), start=1):
        is_defect, groups = images[fold]["is_defect"] == 1, images[fold]["group"]
        pair = [np.array(one["scores"]) for one in (ours, theirs)]

        def both(index: np.ndarray, pair: Any = pair, is_defect: np.ndarray = is_defect) -> np.ndarray:  # noqa: ANN401
            return np.array([measure(scores[index], is_defect[index]) for scores in pair])

        found = both(np.arange(len(groups)))
        resampled = bootstrap_values(both, groups, samples=SAMPLES, seed=fold)
        differences.append(float(found[0] - found[1]))
        sampling.append(float(np.nanvar(resampled[:, 0] - resampled[:, 1], ddof=1)))
        alone.append(float(np.nanvar(resampled, axis=0, ddof=1).mean()))
        counts.append((len(np.unique(groups[is_defect])), len(np.unique(groups[~is_defect]))))
    truths = tuple(
        ours[f"test_{objective}"] - theirs[f"test_{objective}"]
        for ours, theirs in zip(winner["folds"], defaults["folds"], strict=True)
    )
    return {
        "differences": tuple(differences),
        "sampling": tuple(sampling),
        "alone": tuple(alone),
        "truths": truths,
        "truth": float(np.mean(truths)),
        "counts": tuple(counts),
    }


def from_curves(path: Path) -> Iterator[Case]:
    """Cases of learning curves over rates and seeds: drawn searches, confirmed with three seeds of their own.

    The truth is the mean of the remaining seeds on the same images, so that the choice of images plays no part.
    """
    curves: dict[float, dict[int, list[float | None]]] = {}
    for curve in json.loads(path.read_text(encoding="utf-8"))["curves"]:
        curves.setdefault(curve["lr"], {})[curve["seed"]] = curve["scores"]
    rates = np.array(sorted(curves))
    scores = np.array([[curves[rate][seed] for seed in sorted(curves[rate])] for rate in rates], dtype=float)
    short, draw = max(1, scores.shape[2] // 3) - 1, np.random.default_rng(0)
    found = []
    for _ in range(DRAWS):
        default = int(draw.choice(np.flatnonzero(_inside(rates))))
        near = np.flatnonzero(np.abs(np.log10(rates / rates[default])) <= WINDOW / 2)
        tried = [default, *draw.choice(near[near != default], TRIALS, replace=False)]
        search, *rest = draw.permutation(scores.shape[1])
        early = scores[tried, search, short]
        for place, recipe in enumerate(tried[1:], start=1):
            finals = scores[recipe, :, -1] - scores[default, :, -1]
            if np.isfinite(early[[0, place]]).all() and np.isfinite(finals).all():
                wins = float(np.nanargmax(early) == place)
                found.append((wins, float(early[place] - early[0]), float(early[0]), finals[rest]))
    total = sum(wins for wins, *_ in found)
    for wins, gain, score, finals in found:
        yield Case(
            set=path.stem,
            objective="average_precision",
            weight=wins / total,
            gain=gain,
            score=score,
            differences=tuple(finals[:3]),
            sampling=(0.0,) * 3,
            alone=(),
            truths=tuple(finals[3:]),
            truth=float(finals[3:].mean()),
            counts=(),
        )


def _inside(rates: np.ndarray) -> np.ndarray:
    """Rates with the whole window around them recorded."""
    logs = np.log10(rates)
    return (logs - logs[0] >= WINDOW / 2 - 1e-9) & (logs[-1] - logs >= WINDOW / 2 - 1e-9)
