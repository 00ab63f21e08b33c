"""How much of the difference between trials each searched key accounts for: Optuna's fANOVA (Hutter et al. 2014).

A random forest learns the score from the coordinates of the trials in the space; the importance of a key is the share
of the forest's variance over the whole space that this key explains alone. Shares need not add up to 1: the rest is the
interaction of keys, and noise.

The forest gets coordinates, not values: the position within an interval (logarithmic where the space is), the index of
a choice. So a learning rate is relative to the bounds of the trial's optimizer, and the effect of the optimizer itself
is not counted for the rate. Optuna would treat a logarithmic key as linear.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import optuna
import pandas as pd
from optuna.distributions import CategoricalDistribution
from optuna.importance import FanovaImportanceEvaluator, get_param_importances
from sklearn.ensemble import RandomForestRegressor

from components.search.samplers.study import distribution, new_study
from components.search.space import Choice, Space
from components.search.trial import Point

MIN_TRIALS = 8
#: Desired trials per key: an earlier epoch is used where later ones have fewer.
TRIALS_PER_KEY = 4
#: A forest over more trials takes minutes and gives the same shares.
MAX_TRIALS = 500
#: Scores that differ by less are considered equal.
LEAST_SPAN = 1e-12
#: Trees of the forest whose out-of-bag R² is reported.
TREES = 200


@dataclass(frozen=True, kw_only=True)
class Importances:
    """Shares in [0, 1] by searched key, highest first; empty, with a reason, where they cannot be computed.

    basis: the number of trials and the epoch used. r_squared: out-of-bag R² of a forest; at 0 or below the shares are
    noise.
    """

    shares: Mapping[str, float]
    basis: str
    reason: str
    r_squared: float | None

    def to_dict(self) -> dict[str, Any]:
        return {**asdict(self), "shares": dict(self.shares)}


def importances(points: Mapping[int, Point], scores: pd.DataFrame, space: Space, *, seed: int) -> Importances:
    """Importance of each searched key for the score after the latest epoch that enough trials have reached.

    points: of the trials by number, empty for one outside the space. scores: columns trial, epoch, score. Trials
    without a score at that epoch, or outside the space, are not used. Enough means MIN_TRIALS, and TRIALS_PER_KEY for
    each key where an epoch has as many: later scores matter more, but the trials that got there were selected by score.
    """
    if not space.dimensions:
        return _nothing("nothing was searched")
    placed = {number: point for number, point in points.items() if point}
    known = scores[scores["trial"].isin(list(placed)) & np.isfinite(scores["score"].to_numpy(dtype=float))]
    counts = known.groupby("epoch")["trial"].nunique()
    most = int(counts.max()) if len(counts) else 0
    if most < MIN_TRIALS:
        return _nothing(f"trials with a score: {most}; it takes {MIN_TRIALS} to tell the keys apart")
    enough = min(max(MIN_TRIALS, TRIALS_PER_KEY * len(space.dimensions)), most)
    epoch = int(counts.index[counts >= enough].max())
    at_epoch = known[known["epoch"] == epoch].set_index("trial")["score"].astype(float).sort_index()
    if float(np.ptp(at_epoch)) < LEAST_SPAN:
        return _nothing(f"all {len(at_epoch)} trials have the same score after epoch {epoch}")
    basis = f"{len(at_epoch)} trials after epoch {epoch}"
    if len(at_epoch) > MAX_TRIALS:
        basis = f"{MAX_TRIALS} of {basis}, drawn at random"
        at_epoch = at_epoch.sample(MAX_TRIALS, random_state=seed).sort_index()
    places = _spread([placed[number] for number in at_epoch.index], space, seed=seed)
    values = at_epoch.to_numpy()
    shares = _fanova(places, values, space, seed=seed)
    return Importances(shares=shares, basis=basis, reason="", r_squared=_r_squared(places, values, space, seed=seed))


def _nothing(reason: str) -> Importances:
    return Importances(shares={}, basis="", reason=reason, r_squared=None)


def _spread(places: Sequence[Point], space: Space, *, seed: int) -> dict[str, np.ndarray]:
    """The coordinates by key, (N,) each; random ones for a key that a trial did not search.

    The score of such a trial does not depend on that key, which the forest learns from the random values.
    """
    generator = np.random.default_rng(seed)
    spread = {}
    for dimension in space.dimensions:
        drawn = generator.random(len(places))
        if isinstance(dimension, Choice):
            drawn = np.floor(drawn * len(dimension.values))
        found = np.array([place.get(dimension.sets, np.nan) for place in places], dtype=float)
        spread[dimension.sets] = np.where(np.isnan(found), drawn, found)
    return spread


def _fanova(places: Mapping[str, np.ndarray], scores: np.ndarray, space: Space, *, seed: int) -> dict[str, float]:
    distributions = {dimension.sets: distribution(dimension) for dimension in space.dimensions}
    # Optuna finds a category by its value, and an index of it has to be an int.
    columns = {
        name: places[name].astype(int if isinstance(kind, CategoricalDistribution) else float).tolist()
        for name, kind in distributions.items()
    }
    frozen = [
        optuna.trial.create_trial(
            params={name: column[row] for name, column in columns.items()},
            distributions=distributions,
            value=float(score),
        )
        for row, score in enumerate(scores)
    ]
    study = new_study(None)
    study.add_trials(frozen)
    with warnings.catch_warnings():
        # The argument `normalize` is called experimental; without it, noise would be scaled up to 100 %.
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        found = get_param_importances(study, evaluator=FanovaImportanceEvaluator(seed=seed), normalize=False)
    return {name: float(share) for name, share in sorted(found.items(), key=lambda item: (-item[1], item[0]))}


def _r_squared(places: Mapping[str, np.ndarray], scores: np.ndarray, space: Space, *, seed: int) -> float | None:
    """Out-of-bag R² of a forest over the trials; None where a trial was in all trees."""
    columns = []
    for dimension in space.dimensions:
        column = places[dimension.sets]
        if isinstance(dimension, Choice):
            columns += [column == index for index in range(len(dimension.values))]
        else:
            columns.append(column)
    forest = RandomForestRegressor(TREES, oob_score=True, random_state=seed)
    forest.fit(np.column_stack(columns).astype(float), scores)
    score = float(forest.oob_score_)
    return score if math.isfinite(score) else None
