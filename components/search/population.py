"""Population-based training (Jaderberg et al., arXiv 1711.09846) on Ray Tune: bad trials go on as copies of good ones.

At each exchange a trial of the lowest quarter takes over the checkpoint of one of the highest, and goes on with changed
settings. Nothing is stopped; the result of a trial is the course of its settings. All members are at the same epoch
when they are compared, so that they may take turns on few workers. The defaults' trial takes nothing over: it is what
the others are measured against.
"""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
from ray import tune
from ray.tune.experiment import Trial
from ray.tune.schedulers import PopulationBasedTraining, TrialScheduler

from components.search.course import Course, Order
from components.search.rungs import EPOCH, SCORE
from components.search.space import Choice, Space
from components.search.trial import Point
from components.search.tuner import Observer, OpenSession, Relay, TuneSettings, number_of, order_config, run_tune

#: A changed setting is drawn anew this often, and else moved by a fifth of its dimension at most.
RESAMPLED, MOVED = 0.25, 0.2
QUANTILE = 0.25
#: A donor's checkpoint must not be gone before its copy is made.
KEPT_CHECKPOINTS = 4


def run_population(
    course: Course,
    open_session: OpenSession,
    observer: Observer,
    settings: TuneSettings,
    *,
    space: Space,
    interval: int,
    seed: int,
) -> None:
    """Run all that the course orders as one population. interval: epochs from one exchange to the next."""
    relay = Relay(course, observer, None, settings)
    orders = []
    while not isinstance(order := course.next_order(), str):
        orders.append(_with_own_point(order, space))
    if not orders:
        relay.end_the_rest()
        return
    furthest = max((record.checkpoint_epoch for record in course.records if not record.ended), default=0)
    # Of members that an interruption has left at different epochs, those behind catch up first.
    first = interval * (furthest // interval + 1)
    run_tune(
        course,
        open_session,
        relay,
        settings,
        config={"order": tune.grid_search(orders)},
        scheduler=_Exchange(space, interval=interval, first=first, seed=seed),
        kept_checkpoints=KEPT_CHECKPOINTS,
    )


def _with_own_point(order: Order, space: Space) -> dict[str, Any]:
    """The order for a worker. point: where a member that goes on has come to, not where it began."""
    config = order_config(order)
    if order.overrides != order.suggestion.overrides:
        config["point"] = space.point(order.overrides) or {}
    return config


def changed(space: Space, point: Point, generator: np.random.Generator) -> dict[str, float | int]:
    """Another point nearby: each coordinate moved up or down, or drawn anew; a choice goes to one beside it."""
    moved: dict[str, float | int] = {}
    for dimension in space.dimensions:
        if dimension.sets not in point:
            continue
        here, resampled = point[dimension.sets], generator.random() < RESAMPLED
        if isinstance(dimension, Choice):
            last = len(dimension.values) - 1
            step = int(generator.choice([-1, 1]))
            moved[dimension.sets] = int(generator.integers(last + 1)) if resampled else min(max(here + step, 0), last)
        else:
            move = float(generator.uniform(-MOVED, MOVED))
            moved[dimension.sets] = float(generator.random()) if resampled else min(max(here + move, 0.0), 1.0)
    return moved


class _Exchange(PopulationBasedTraining):
    """Tune's scheduler, which keeps the numbers of the trials apart from their settings, and draws by the seed."""

    def __init__(self, space: Space, *, interval: int, first: int, seed: int) -> None:
        super().__init__(
            time_attr=EPOCH,
            metric=SCORE,
            mode="max",
            perturbation_interval=interval,
            quantile_fraction=QUANTILE,
            custom_explore_fn=_unchanged,  # `_get_new_config` does it
            log_config=False,
            synch=True,
        )
        self._space, self._seed = space, seed
        self._next_perturbation_sync = first

    def on_trial_result(self, tune_controller: Any, trial: Trial, result: dict[str, Any]) -> str:  # noqa: ANN401
        if result[EPOCH] < self._next_perturbation_sync:
            return TrialScheduler.CONTINUE
        return super().on_trial_result(tune_controller, trial, result)

    def _checkpoint_or_exploit(
        self,
        trial: Trial,
        tune_controller: Any,  # noqa: ANN401
        upper_quantile: list[Trial],
        lower_quantile: list[Trial],
    ) -> None:
        if trial in lower_quantile:
            # Tune would draw the donor from the global generator; from one it cannot but take that.
            # The 1 keeps it apart from that of the new settings.
            generator = np.random.default_rng([self._seed, number_of(trial), self._num_perturbations, 1])
            upper_quantile = [upper_quantile[int(generator.integers(len(upper_quantile)))]]
        super()._checkpoint_or_exploit(trial, tune_controller, upper_quantile, lower_quantile)

    def _quantiles(self) -> tuple[list[Trial], list[Trial]]:
        lower, upper = super()._quantiles()
        return [trial for trial in lower if number_of(trial) != 0], upper

    def _get_new_config(self, trial: Trial, trial_to_clone: Trial) -> tuple[dict[str, Any], dict[str, Any]]:
        config, donor = copy.deepcopy(trial.config), trial_to_clone.config["order"]
        order = config["order"]
        generator = np.random.default_rng([self._seed, order["number"], self._num_perturbations])
        order["point"] = changed(self._space, donor["point"], generator)
        # Of a donor outside the space (the defaults) the settings are taken over as they are.
        order["overrides"] = self._space.overrides(order["point"]) if order["point"] else donor["overrides"]
        return config, {}


def _unchanged(config: dict[str, Any]) -> dict[str, Any]:
    return config
