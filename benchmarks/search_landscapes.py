"""What simulated trials score: problems with a known best, drawn at random, or recorded from real trainings.

A problem answers two questions about a point of its space: what one training scores after each epoch (noise and all),
and what trainings score at full length on average, which is what a search is judged by.

`FineTuning` has the five dimensions of the default space, and the traits of real learning curves that early stopping
has to cope with: slow rates look worse early than they end, fast ones better; strong augmentation slows a training that
it improves; above the best rate there is a cliff, beyond which trainings diverge; noise is larger early. Every seed
draws another problem. `Bump` has the rate alone and final scores alone. `Recorded` gives back real curves (see
`search_curves.py`): between two recorded rates their mean curve in between, with the deviation of one real training
from the mean of its rate.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Protocol

import numpy as np
from scipy.stats import qmc

from components.search.space import (
    BACKBONE,
    BATCH_SIZE,
    LR,
    OPTIMIZER,
    Choice,
    Interval,
    RateBounds,
    RateInterval,
    Rates,
    Space,
)
from components.search.trial import Point, Suggestion
from pipeline.search.portfolio import portfolio_trials

WEIGHT_DECAY, LAYER_DECAY, AUGMENT = "recipe.weight_decay", "recipe.layer_decay", "recipe.augment_strength"
SETTINGS = {BACKBONE: "any", OPTIMIZER: "adamw", BATCH_SIZE: 32}
#: What a constant answer scores, and what of the rest a network can reach.
FLOOR, TOP = 0.5, 0.95
#: Decades that the range test leaves to a search: of the drawn problems, and of the recorded ones.
WIDTH, WINDOW = 2.5, 2.5
FOLDER = Path(__file__).parent / "data"


@dataclass(frozen=True)
class Training:
    """What one trial goes through.

    scores: after each epoch, None from the epoch on in which it diverged. seconds: of an epoch.
    """

    scores: tuple[float | None, ...]
    seconds: float


class Problem(Protocol):
    """What a search is run on. best: the highest `truth` of any point."""

    space: Space
    epochs: int
    best: float

    def train(self, point: Point, *, seed: int) -> Training:
        """One training; the same seed has the same luck at every point."""
        ...

    def truth(self, point: Point) -> float:
        """Expected score after the last epoch of a training that does not diverge."""
        ...

    def defaults(self) -> Suggestion:
        """Trial 0."""
        ...

    def portfolio(self) -> tuple[Suggestion, ...]:
        """The trials after it, for the sampler hybrid."""
        ...


class FineTuning:
    """Five dimensions, or some of them. The longer the trainings, the slower: nobody grants epochs without need.

    searched: the keys of the space; the others stay at the defaults. None: all. noise: standard deviation of a
    training's final score around its recipe's, and as much again of each epoch's.
    """

    DEFAULTS: ClassVar[dict[str, float | int]] = {
        OPTIMIZER: 0,
        LR: 0.5,
        WEIGHT_DECAY: 0.75,
        LAYER_DECAY: 0,
        AUGMENT: 0.5,
    }

    def __init__(self, *, epochs: int, seed: int, searched: Sequence[str] | None = None, noise: float = 0.005) -> None:
        draw = np.random.default_rng([seed, 1])
        self.epochs, self._noise = epochs, noise
        self._bounds = {("any", "adamw"): (1e-5, 1e-5 * 10**WIDTH), ("any", "sgd"): (1e-3, 1e-3 * 10**WIDTH)}
        dimensions = (
            Choice(OPTIMIZER, ("adamw", "sgd")),
            RateInterval(LR, self._bounds, 32),
            Interval(WEIGHT_DECAY, 1e-5, 0.1, True),
            Choice(LAYER_DECAY, (1.0, 0.9, 0.75)),
            Interval(AUGMENT, 0.0, 1.0, False),
        )
        self._searched = tuple(self.DEFAULTS) if searched is None else tuple(searched)
        chosen = tuple(dimension for dimension in dimensions if dimension.sets in self._searched)
        rate = _middles(self._bounds)["any", "adamw"]
        self.space = Space(chosen, {**SETTINGS, LR: rate, WEIGHT_DECAY: 0.01, LAYER_DECAY: 1.0, AUGMENT: 0.5})
        self._peak = draw.uniform(0.35, 0.75, size=2)  # of the rate, for each optimizer, in the unit interval
        self._cliff = draw.uniform(0.5, 0.9, size=2)  # decades above it
        self._handicap = draw.permutation([0.0, draw.uniform(0.0, 0.015)])
        # Epochs until two thirds are learnt, at the peak rate.
        self._slow = draw.uniform(0.6, 1.6, size=2) * (epochs / 9) ** 0.5
        self._decay, self._decay_cost = draw.uniform(0.2, 0.9), draw.uniform(0.01, 0.04)
        self._layers = draw.permutation([0.0, 0.004, 0.01])
        self._gain = draw.uniform(0.0, 0.05)  # of augmentation, which is best at no more than 1
        self._augment = draw.uniform(0.3, 1.0)
        self.best = self._search_best(seed)

    def train(self, point: Point, *, seed: int) -> Training:
        luck = np.random.default_rng([seed, 2])
        ceiling, pace, cliff = (float(value) for value in self._traits(self._row(point)))
        ceiling += luck.normal(0, self._noise)
        progress = _progress(np.arange(1, self.epochs + 1), pace * 10 ** luck.normal(0, 0.06))
        noise = luck.normal(0, self._noise, self.epochs) * (1 + 2 * (1 - progress))
        scores = np.clip(FLOOR + (ceiling - FLOOR) * progress + noise, 0, 1)
        seconds = 10 ** luck.normal(0, 0.03)
        diverges = luck.uniform() < _sigmoid((cliff - 0.2) / 0.05)
        at = int(luck.integers(1, 4)) if diverges else self.epochs + 1
        return Training((*scores[: at - 1].tolist(), *[None] * (self.epochs + 1 - at)), seconds)

    def truth(self, point: Point) -> float:
        return float(self._expected(self._row(point)))

    def defaults(self) -> Suggestion:
        point = {key: value for key, value in self.DEFAULTS.items() if key in self._searched}
        return Suggestion(point=point, overrides={}, epochs=self.epochs, phase="defaults")

    def portfolio(self) -> tuple[Suggestion, ...]:
        return portfolio_trials(self.space, _middles(self._bounds), batch_size=32, epochs=self.epochs)

    def _row(self, point: Point) -> np.ndarray:
        return np.array([point.get(key, value) for key, value in self.DEFAULTS.items()], dtype=float)

    def _expected(self, rows: np.ndarray) -> np.ndarray:
        ceiling, pace, _ = self._traits(rows)
        return FLOOR + (ceiling - FLOOR) * _progress(self.epochs, pace)

    def _traits(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Where a training ends, how many epochs it needs, and decades beyond the cliff; rows: (…, 5) float."""
        optimizer, rate, decay, layers, augment = np.moveaxis(rows, -1, 0)
        which = optimizer.astype(int)
        # More weight decay asks for a little less rate, and smaller rates below the head for more of it.
        above = (rate - self._peak[which]) * WIDTH + 0.3 * (decay - self._decay) - 0.1 * layers
        ceiling = TOP - self._handicap[which] - self._layers[layers.astype(int)]
        ceiling = ceiling - 0.006 * np.minimum(above, 0) ** 2 - 0.04 * np.maximum(above + 0.4, 0) ** 2
        ceiling = ceiling - self._decay_cost * (decay - self._decay) ** 2
        ceiling = ceiling - self._gain * (augment - self._augment) ** 2
        beyond = above - self._cliff[which]
        ceiling = ceiling - (ceiling - FLOOR) * _sigmoid(beyond / 0.06)
        pace = self._slow[which] * 10 ** (-0.8 * above) * (1 + augment)
        return ceiling, pace, beyond

    def _search_best(self, seed: int) -> float:
        """The highest expected score: the best of a spread, improved by ever smaller steps."""
        free = np.array([key in self._searched for key in self.DEFAULTS])
        rows = np.tile(list(self.DEFAULTS.values()), (4096, 1)).astype(float)
        cube = qmc.Sobol(5, rng=np.random.default_rng([seed, 3])).random(4096) * [2, 1, 1, 3, 1]
        cube[:, [0, 3]] = np.floor(cube[:, [0, 3]])
        rows[:, free] = cube[:, free]
        step, draw = 0.1, np.random.default_rng([seed, 4])
        for _ in range(25):
            rows = rows[np.argsort(self._expected(rows))[-32:]]
            nearby = np.repeat(rows, 16, axis=0)
            moved = free & [False, True, True, False, True]
            nearby[:, moved] += draw.normal(0, step, (len(nearby), int(moved.sum())))
            nearby[:, moved] = np.clip(nearby[:, moved], 0, 1)
            rows = np.concatenate([rows, nearby])
            step *= 0.8
        return float(self._expected(rows).max())


class Bump:
    """The rate alone over three decades, one epoch: a bump whose place, width and cliff every seed draws anew."""

    NOISE = 0.015

    def __init__(self, *, seed: int) -> None:
        draw = np.random.default_rng([seed, 5])
        self.epochs, self.best = 1, TOP
        self.space = rate_space(1e-5, 1e-2)
        self._peak, self._width = draw.uniform(0.2, 0.8), draw.uniform(0.5, 0.9)
        self._cliff = draw.uniform(0.4, 0.8)

    def train(self, point: Point, *, seed: int) -> Training:
        score = self.truth(point) + np.random.default_rng([seed, 6]).normal(0, self.NOISE)
        return Training((float(np.clip(score, 0, 1)),), 1.0)

    def truth(self, point: Point) -> float:
        above = 3 * (float(point[LR]) - self._peak)
        height = np.exp(-0.5 * (above / self._width) ** 2) * (1 - _sigmoid((above - self._cliff) / 0.05))
        return float(FLOOR + (TOP - FLOOR) * height)

    def defaults(self) -> Suggestion:
        return in_the_middle(self.epochs)

    def portfolio(self) -> tuple[Suggestion, ...]:
        return portfolio_of_rates(self.space, self.epochs)


class Recorded:
    """Real curves over the rate alone: `rates` (R,) float rising, `scores` (R, seeds, epochs) float, NaN once diverged.

    The space is a window of WINDOW decades, as a range test would leave it, whose place every seed draws anew. The
    trainings at a rate are put in the order of their final scores; a trial draws a place in that order, and its curve
    lies between those that have the place at the two nearest rates. So at a recorded rate it is a recorded curve, in
    between the spread is that of the neighbours, and no score is better than what was recorded. One that diverged
    counts on average as the worst score of all.
    """

    def __init__(self, rates: np.ndarray, scores: np.ndarray, *, seed: int) -> None:
        order = np.argsort(np.nan_to_num(scores[:, :, -1], nan=-1.0), axis=1)
        self._scores = np.take_along_axis(scores, order[:, :, None], axis=1)
        self._finals = np.nan_to_num(self._scores[:, :, -1], nan=float(np.nanmin(scores))).mean(axis=1)
        self._logs = np.log10(rates)
        room = self._logs[-1] - self._logs[0] - WINDOW
        low = float(self._logs[0] + np.random.default_rng([seed, 8]).uniform(0, room))
        self._low, self.space = low, rate_space(10**low, 10 ** (low + WINDOW))
        self.epochs = scores.shape[2]
        inside = self._logs[(self._logs > low) & (self._logs < low + WINDOW)]
        self.best = max(self._final(log) for log in (low, *inside, low + WINDOW))

    @classmethod
    def read(cls, path: Path, *, seed: int) -> Recorded:
        curves: dict[float, dict[int, list[float | None]]] = {}
        for curve in json.loads(path.read_text(encoding="utf-8"))["curves"]:
            curves.setdefault(curve["lr"], {})[curve["seed"]] = curve["scores"]
        rates = sorted(curves)
        seeds = sorted(set.intersection(*(set(curves[rate]) for rate in rates)))
        scores = np.array([[curves[rate][seed] for seed in seeds] for rate in rates], dtype=float)
        return cls(np.array(rates), scores, seed=seed)

    def train(self, point: Point, *, seed: int) -> Training:
        draw = np.random.default_rng([seed, 7])
        low, share = self._between(self._log(point))
        place = int(draw.integers(self._scores.shape[1]))
        below, above = self._scores[low, place], self._scores[low + 1, place]
        scores = (1 - share) * below + share * above
        if np.isnan(scores).any():  # one of the two diverged: no curve lies between them
            scores = below if share < 0.5 else above
        return Training(
            tuple(None if np.isnan(score) else float(score) for score in scores), 10 ** draw.normal(0, 0.03)
        )

    def truth(self, point: Point) -> float:
        return self._final(self._log(point))

    def defaults(self) -> Suggestion:
        return in_the_middle(self.epochs)

    def portfolio(self) -> tuple[Suggestion, ...]:
        return portfolio_of_rates(self.space, self.epochs)

    def _log(self, point: Point) -> float:
        return self._low + WINDOW * float(point[LR])

    def _final(self, log: float) -> float:
        return float(np.interp(log, self._logs, self._finals))

    def _between(self, log: float) -> tuple[int, float]:
        """The recorded rate below, and how far on the way to the next one, in the logarithm."""
        low = int(np.clip(np.searchsorted(self._logs, log, side="right") - 1, 0, len(self._logs) - 2))
        return low, (log - self._logs[low]) / (self._logs[low + 1] - self._logs[low])


def recordings() -> Mapping[str, Path]:
    """The recorded curves that there are, by the name of their setting."""
    return {path.stem.removeprefix("curves_"): path for path in sorted(FOLDER.glob("curves_*.json"))}


def rate_space(low: float, high: float) -> Space:
    bounds = {("any", "adamw"): (low, high)}
    return Space((RateInterval(LR, bounds, 32),), {**SETTINGS, LR: _middles(bounds)["any", "adamw"]})


def in_the_middle(epochs: int) -> Suggestion:
    """The defaults of a search over the rate alone: where the range test's bounds have their middle."""
    return Suggestion(point={LR: 0.5}, overrides={}, epochs=epochs, phase="defaults")


def portfolio_of_rates(space: Space, epochs: int) -> tuple[Suggestion, ...]:
    return portfolio_trials(space, {}, batch_size=32, epochs=epochs)


def _middles(bounds: RateBounds) -> Rates:
    """The suggested rates: in the middle of the bounds, in the logarithm."""
    return {key: math.sqrt(low * high) for key, (low, high) in bounds.items()}


def _progress(epoch: np.ndarray | int, pace: np.ndarray | float) -> np.ndarray:
    """Share of the way to the ceiling: a power law."""
    return np.asarray(1 - (1 + epoch / np.asarray(pace)) ** -1.5)


def _sigmoid(x: np.ndarray | float) -> np.ndarray:
    return np.asarray(0.5 * (1 + np.tanh(np.asarray(x) / 2)))
