"""Optuna's Tree-structured Parzen Estimator (Bergstra et al. 2011; Watanabe, arXiv 2304.11127), after a random start.

All dimensions are modelled jointly, conditional ones in groups of their own. Running trials count as bad ones, so that
several at a time are not all suggested close to each other.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Literal

import numpy as np
from optuna.exceptions import ExperimentalWarning
from optuna.samplers import TPESampler

from components.search.samplers.base import SamplerSettings
from components.search.samplers.points import enumerate_points, point_key, random_point, trial_seed
from components.search.samplers.spread import SpreadSampler
from components.search.samplers.study import ask, is_informative
from components.search.trial import Point, Suggestion, TrialRecord

#: Random trials before TPE, if the settings give no number.
TPE_STARTUP = 10
#: hybrid: the smallest number of trials before TPE, the portfolio's among them, and their largest share of a small
#: search. In five dimensions, ten random ones of sixteen trials were better than a third.
HYBRID_FEWEST, HYBRID_SHARE = 4, 2 / 3
#: With fewer ended trials there is nothing to model: many workers ask for trials before any has ended.
FEWEST_TO_MODEL = 4


def tpe_sampler(settings: SamplerSettings) -> TpeAfterStart:
    """`tpe`: independent random trials, then TPE."""
    startup = TPE_STARTUP if settings.startup_trials is None else settings.startup_trials
    return TpeAfterStart(settings, startup=startup, spread=False)


def hybrid_sampler(settings: SamplerSettings) -> TpeAfterStart:
    """`hybrid`: the portfolio, a Latin hypercube, then TPE."""
    startup = settings.startup_trials
    if startup is None:
        startup = max(HYBRID_FEWEST, min(TPE_STARTUP, int(settings.num_trials * HYBRID_SHARE)))
    return TpeAfterStart(settings, startup=startup, spread=True)


class TpeAfterStart:
    """The first `startup` trials are random (the portfolio and a Latin hypercube with `spread`, else independent), then
    TPE.

    In a space without intervals no point is tried twice.
    """

    def __init__(self, settings: SamplerSettings, *, startup: int, spread: bool) -> None:
        self._settings = settings
        self._portfolio = settings.portfolio if spread else ()
        self._startup = min(max(startup, len(self._portfolio)), settings.num_trials - 1)
        drawn = self._startup - len(self._portfolio)
        self._spread = SpreadSampler(settings, count=drawn) if spread else None
        self._every = enumerate_points(settings.space)

    def suggest(self, number: int, history: Sequence[TrialRecord]) -> Suggestion | Literal["wait", "done"]:
        if number >= self._settings.num_trials:
            return "done"
        if number <= len(self._portfolio):
            return self._portfolio[number - 1]
        if self._spread is not None and number <= self._startup:
            return self._spread.suggest(number - len(self._portfolio), history)
        space = self._settings.space
        point: Point
        if number > self._startup and sum(map(is_informative, history)) >= min(self._startup, FEWEST_TO_MODEL):
            sampler = _tpe(trial_seed(self._settings.seed, number))
            point, phase = ask(space, history, sampler, max_epochs=self._settings.max_epochs), "tpe"
        else:
            point, phase = random_point(space, seed=self._settings.seed, number=number), "random"
        fresh = self._fresh(point, number, history)
        if fresh is None:
            return "done"
        return Suggestion(point=fresh, overrides=space.overrides(fresh), epochs=self._settings.max_epochs, phase=phase)

    def _fresh(self, point: Point, number: int, history: Sequence[TrialRecord]) -> Point | None:
        """The point, or another where this one has been tried; None where all have been."""
        if self._every is None:
            return point
        tried = {point_key(record.suggestion.point) for record in history}
        if point_key(point) not in tried:
            return point
        untried = [other for other in self._every if point_key(other) not in tried]
        if not untried:
            return None
        return untried[np.random.default_rng([self._settings.seed, number]).integers(len(untried))]


def _tpe(seed: int) -> TPESampler:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)  # `group`, experimental since Optuna 2.8
        return TPESampler(n_startup_trials=0, multivariate=True, group=True, constant_liar=True, seed=seed)
