"""A grid, coarse to fine: every choice with a few points of each interval, then narrower around the best.

The first level places its points in the middle of equal cells, so that none is at an end of its interval. Each next
level covers one step to both sides of the best point so far, and begins when all earlier trials have ended. With folds,
the best points and the defaults are cross-validated at the end.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations, product
from math import prod

from components.errors import InputError
from components.search.samplers.base import SamplerSettings
from components.search.samplers.folds import fold_plan, fold_trials
from components.search.samplers.levels import LevelSampler, Plan, TrialsByIdentity, plan_untried, ranked
from components.search.samplers.points import MAX_CHOICES, active_part, choice_points
from components.search.space import LR, Choice, Space
from components.search.trial import Point, Suggestion

#: Share of the remaining trials (without those of the folds) that a level uses.
LEVEL_SHARE = 2 / 3
#: Smallest step as a share of its interval: below it the search ends, even if trials are left.
MIN_STEP = 1e-3


def points_per_interval(space: Space, choices: Sequence[Point], *, most: int) -> dict[str, int]:
    """Number of points of each interval, at least one, so that the grid has at most `most` points.

    The numbers are equal, as far as possible; the rate gets another point first, then the keys in the order of the
    space. choices: the combinations of the choices.
    """
    active = [_active(space, choice) for choice in choices]
    counts = dict.fromkeys(_intervals(space), 1)
    raised = True
    while raised:
        raised = False
        for sets in counts:
            more = {**counts, sets: counts[sets] + 1}
            if _cell_count(active, counts) < _cell_count(active, more) <= most:
                counts, raised = more, True
    return counts


class GridSampler(LevelSampler):
    """`grid`. Raises `InputError` for fewer trials than the choices and the folds need."""

    def __init__(self, settings: SamplerSettings) -> None:
        super().__init__(settings)
        self._budget = settings.num_trials - 1 - fold_trials(settings.folds)
        choices = choice_points(settings.space)
        if settings.num_trials > 1 and (choices is None or self._budget < len(choices)):
            raise InputError(_too_few(settings, choices))
        choices = choices or []
        self._counts = points_per_interval(settings.space, choices, most=int(LEVEL_SHARE * self._budget))
        points = (point for choice in choices for point in _cells(settings.space, choice, self._counts))
        self._first = plan_untried(
            (self._suggestion(point, 1) for point in points), planned={}, most=max(self._budget, len(choices))
        )

    def _plans(self, trials: TrialsByIdentity) -> Iterator[Plan]:
        defaults = {key: record.suggestion for key, record in trials.items() if record.number == 0}
        planned = self._first | defaults
        yield planned
        left = self._budget - len(planned) + len(defaults)
        # A single point per interval is in its middle: the step reaches both ends.
        steps = {sets: 1 / max(count, 2) for sets, count in self._counts.items()}
        level = 2
        while left > 0 and max(steps.values(), default=0) > MIN_STEP:
            inside = [record.suggestion.point for record in ranked(planned, trials) if record.suggestion.point]
            if not inside:
                break
            parts = _parts(sum(sets in inside[0] for sets in steps), most=int(LEVEL_SHARE * left))
            around = (self._suggestion(point, level) for point in _around(inside[0], steps, parts=parts))
            plan = plan_untried(around, planned=planned, most=left)
            if plan:
                yield plan
                planned, left, level = planned | plan, left - len(plan), level + 1
            steps = {sets: step / parts for sets, step in steps.items()}
        if self._settings.folds:
            folds = fold_plan(ranked(planned, trials), folds=self._settings.folds)
            yield plan_untried(folds, planned=planned, most=len(folds))

    def _suggestion(self, point: Point, level: int) -> Suggestion:
        overrides, epochs = self._space.overrides(point), self._settings.max_epochs
        return Suggestion(point=point, overrides=overrides, epochs=epochs, phase=f"grid {level}")


def _intervals(space: Space) -> list[str]:
    names = [dimension.sets for dimension in space.dimensions if not isinstance(dimension, Choice)]
    return sorted(names, key=lambda sets: sets != LR)


def _active(space: Space, choice: Point) -> list[str]:
    """The intervals whose condition holds with these choices."""
    middle = dict.fromkeys(_intervals(space), 0.5)
    return [sets for sets in middle if sets in active_part(space, {**choice, **middle})]


def _cell_count(active: Sequence[Sequence[str]], counts: Mapping[str, int]) -> int:
    return sum(prod(counts[sets] for sets in intervals) for intervals in active)


def _cells(space: Space, choice: Point, counts: Mapping[str, int]) -> Iterator[dict[str, float | int]]:
    """The middles of equal cells of the intervals that are active with these choices."""
    active = _active(space, choice)
    for indices in product(*(range(counts[sets]) for sets in active)):
        yield {**choice, **{sets: (i + 0.5) / counts[sets] for sets, i in zip(active, indices, strict=True)}}


def _parts(intervals: int, *, most: int) -> int:
    """The number of parts of a step, at least two, that gives at most `most` new points."""
    parts = 2
    while intervals and (2 * parts + 1) ** intervals - 1 <= most:
        parts += 1
    return parts


def _around(point: Point, steps: Mapping[str, float], *, parts: int) -> Iterator[dict[str, float | int]]:
    """The points within a step to both sides, a part of the step apart; first those that change the fewest keys."""
    active = [sets for sets in steps if sets in point]
    offsets = [sign * part / parts for part in range(1, parts) for sign in (-1, 1)]
    for changed in range(1, len(active) + 1):
        for names in combinations(active, changed):
            for chosen in product(offsets, repeat=changed):
                moved = {sets: point[sets] + offset * steps[sets] for sets, offset in zip(names, chosen, strict=True)}
                if all(0 < coordinate < 1 for coordinate in moved.values()):
                    yield {**point, **moved}


def _too_few(settings: SamplerSettings, choices: Sequence[Point] | None) -> str:
    count = f"more than {MAX_CHOICES}" if choices is None else str(len(choices))
    folds = fold_trials(settings.folds)
    kept = f", and the {settings.folds} folds of the last level take {folds} more" if folds else ""
    remedy = "take choices out of search.space"
    if choices is not None:
        remedy = f"set search.num_trials to {1 + len(choices) + folds} at least, or {remedy}"
    return (
        f"search.num_trials={settings.num_trials} is too few for search.sampler=grid: besides the defaults it tries "
        f"{count} combinations of the choices{kept}; {remedy}"
    )
