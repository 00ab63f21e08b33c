"""A search of the learning rate in three levels (after Huong et al. 2022: global, then local search).

1. The global rate on a coarse logarithmic grid, with each batch size, for a third of the epochs.
2. The neighbourhood of the best of these, in steps from half a decade to an eighth, together with the weight decay, for
   two thirds of the epochs.
3. The ratio between the rates of the layers, at the best of these, for all epochs; then the global rate again, since
   the ratio changes the mean rate of the layers.

Trials of different length are never compared. The first level gets two fifths of the trials (at least two rates for
each batch size). The third gets two more than there are ratios, but at least a fifth and at most a third of the trials;
the second gets the rest. Trials that a level does not use go to the next one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial

from components.errors import InputError
from components.search.samplers.base import SamplerSettings
from components.search.samplers.levels import LevelSampler, Plan, TrialsByIdentity, plan_untried, ranked
from components.search.samplers.points import active_part
from components.search.space import BATCH_SIZE, LR, Choice, Dimension
from components.search.trial import Point, Suggestion

WEIGHT_DECAY, LAYER_DECAY = "recipe.weight_decay", "recipe.layer_decay"
SEARCHED = (LR, BATCH_SIZE, WEIGHT_DECAY, LAYER_DECAY)
#: Ratios between the rates of neighbouring layers, if the space has an interval instead of choices.
LAYER_RATIOS = (1.0, 0.9, 0.75, 0.6)
#: Steps from the best point to its neighbours: of the rate in decades, of the weight decay as a share of its interval.
REFINING_STEPS = ((1 / 2, 1 / 4), (1 / 4, 1 / 8), (1 / 8, 1 / 16))
#: The same for the rate only, after the ratio was chosen.
RECENTRING_STEPS = (1 / 4, 1 / 8)
#: Points of the first level that the second repeats, if trials are left for the neighbours of one of them.
KEPT = 2

#: From the points of the trials so far, the best first, to the next points.
Move = Callable[[Sequence[Point]], Iterable[Point]]


class HierarchicalSampler(LevelSampler):
    """`hierarchical`. Keys that a level does not search keep their default, or the best value of the earlier level.

    Raises `InputError` for a space without an interval for recipe.lr, other keys, or too few trials.
    """

    def __init__(self, settings: SamplerSettings) -> None:
        super().__init__(settings)
        self._dimensions = {dimension.sets: dimension for dimension in settings.space.dimensions}
        _check(self._dimensions)
        batches = len(self._coordinates(BATCH_SIZE))
        trials, least = settings.num_trials - 1, 2 * batches + 2
        if 0 < trials < least:
            raise InputError(
                f"search.num_trials={settings.num_trials} is too few for search.sampler=hierarchical with {batches} "
                f"batch size{'s' if batches > 1 else ''}; set it to {least + 1} at least"
            )
        first = max(2 * batches, trials * 2 // 5)
        third = max(1, trials // 5, min(len(self._coordinates(LAYER_DECAY)) + 2, trials // 3))
        second = max(1, trials - first - third)
        self._rates = first // batches
        neighbours = 4 if WEIGHT_DECAY in self._dimensions else 2
        self._kept = KEPT if second >= KEPT + neighbours else 1
        epochs = [math.ceil(settings.max_epochs * part / 3) for part in (1, 2, 3)]
        refine: list[Move] = [partial(self._neighbours, step=step) for step in REFINING_STEPS]
        recentre: list[Move] = [partial(self._rate_neighbours, decades=decades) for decades in RECENTRING_STEPS]
        self._levels: list[tuple[list[Move], int, int]] = [  # moves, trials made at the end, epochs
            ([self._coarse_grid], first, max(epochs[0], settings.grace_epochs)),
            ([self._best_points, *refine], first + second, max(epochs[1], settings.grace_epochs)),
            ([self._ratios, *recentre], trials, epochs[2]),
        ]

    def _plans(self, trials: TrialsByIdentity) -> Iterator[Plan]:
        planned = {key: record.suggestion for key, record in trials.items() if record.number == 0}
        defaults, before = len(planned), 0
        for level, (moves, end, epochs) in enumerate(self._levels, start=1):
            for index, move in enumerate(moves):
                compared = [key for key, s in planned.items() if s.epochs == (epochs if index else before)]
                best = [record.suggestion.point for record in ranked(compared, trials)]
                plan = (self._suggestion(point, epochs, level) for point in move([p for p in best if LR in p]))
                planned = planned | plan_untried(plan, planned=planned, most=end + defaults - len(planned))
                yield planned
            before = epochs

    def _coarse_grid(self, best: Sequence[Point]) -> Iterator[Point]:
        """The rates in the middle of equal cells, for each batch size."""
        settled = self._at_defaults(WEIGHT_DECAY) | self._at_defaults(LAYER_DECAY)
        for batch in self._coordinates(BATCH_SIZE):
            for index in range(self._rates):
                yield {**settled, **batch, LR: (index + 0.5) / self._rates}

    def _best_points(self, best: Sequence[Point]) -> Sequence[Point]:
        return best[: self._kept]

    def _neighbours(self, best: Sequence[Point], *, step: tuple[float, float]) -> Iterator[Point]:
        """The neighbours of the best point: in its rate, then in its weight decay."""
        decades, part = step
        yield from self._rate_neighbours(best, decades=decades)
        dimension = self._dimensions.get(WEIGHT_DECAY)
        for point in best[:1] if dimension else ():
            by, last = (1, len(dimension.values) - 1) if isinstance(dimension, Choice) else (part, 1)
            here = point.get(WEIGHT_DECAY, last // 2 if isinstance(dimension, Choice) else 0.5)
            tried = (here, here - by, here + by)
            yield from ({**point, WEIGHT_DECAY: value} for value in tried if 0 <= value <= last)

    def _ratios(self, best: Sequence[Point]) -> Iterator[Point]:
        """The best point, unchanged and with each ratio between the layers' rates."""
        for point in best[:1]:
            yield point
            yield from ({**point, **ratio} for ratio in self._coordinates(LAYER_DECAY))

    def _rate_neighbours(self, best: Sequence[Point], *, decades: float) -> Iterator[Point]:
        """The neighbours of the best point in its rate."""
        step = decades / self._space.decades(LR)
        for point in best[:1]:
            yield from ({**point, LR: u} for u in (point[LR] - step, point[LR] + step) if 0 <= u <= 1)

    def _coordinates(self, sets: str) -> list[dict[str, float | int]]:
        """The coordinates of a dimension that are tried; an empty one where it is not searched."""
        dimension = self._dimensions.get(sets)
        if dimension is None:
            return [{}]
        if isinstance(dimension, Choice):
            return [{sets: index} for index in range(len(dimension.values))]
        inside = (dimension.coordinate(ratio, self._space.defaults) for ratio in LAYER_RATIOS)
        return [{sets: u} for u in [u for u in inside if u is not None] or [0.0, 0.5, 1.0]]

    def _at_defaults(self, sets: str) -> dict[str, float | int]:
        """The coordinate of the recipe's own value; empty where the dimension does not contain it."""
        dimension = self._dimensions.get(sets)
        coordinate = dimension.coordinate(self._space.defaults.get(sets), self._space.defaults) if dimension else None
        return {} if coordinate is None else {sets: coordinate}

    def _suggestion(self, point: Point, epochs: int, level: int) -> Suggestion:
        point = active_part(self._space, point)
        return Suggestion(point=point, overrides=self._space.overrides(point), epochs=epochs, phase=f"level {level}")


def _check(dimensions: Mapping[str, Dimension]) -> None:
    if isinstance(dimensions.get(LR), Choice | None):
        raise InputError(
            f"search.sampler=hierarchical searches {LR}, and search.space has no interval for it; add one with bounds, "
            "or use the sampler hybrid"
        )
    if BATCH_SIZE in dimensions and not isinstance(dimensions[BATCH_SIZE], Choice):
        raise InputError(f"{BATCH_SIZE}: search.sampler=hierarchical needs choices of batch sizes; list them")
    others = sorted(set(dimensions) - set(SEARCHED))
    if others:
        raise InputError(
            f"search.sampler=hierarchical searches only {', '.join(SEARCHED)}, and search.space also has "
            f"{', '.join(others)}; remove these, or use the sampler hybrid"
        )
