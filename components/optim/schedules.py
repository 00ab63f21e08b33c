"""Learning-rate schedules in closed form: a multiplier in [0, 1] of each group's own rate, after a linear warmup.

Sources: cosine and its restarts, Loshchilov & Hutter (arXiv 1608.03983); triangular, triangular2 and exp_range, Smith
(1506.01186); one-cycle, Smith & Topin (1708.07120), annealed by cosines as in torch; WSD with its 1 - √ cooldown,
Hägele et al. (2405.18392). All but `fixed`, `plateau` and the triangular ones arrive at `final_fraction` at the end,
so that they can be compared with each other.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from components.errors import InputError

ONE_CYCLE_START = 1 / 25  # of the peak; torch's and fastai's usual div_factor
PLATEAU_THRESHOLD = 1e-4  # relative; a smaller gain counts as none, as in torch


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """One schedule and its settings. Those that `name` has no use for are ignored.

    name: a key of SCHEDULES, or `ramp`, which rises exponentially from `cycle_low` to 1. total_steps: optimizer steps
    of the whole training, warmup included; None where it is not known, for `fixed` and `plateau` alone. warmup_steps:
    in [0, total_steps). final_fraction: what is left of the peak at the end, in [0, 1]; above 0 for step, exponential
    and exp_range. drops, cycles: at least 1. cycle_growth: length of a restart's cycle by that of the one before, at
    least 1. cycle_low: low rate by the peak, in (0, 1). rise, cooldown: shares of the steps after warmup, in (0, 1)
    and (0, 1]. plateau_factor: in (0, 1). plateau_patience: evaluations without gain that are borne.
    """

    name: str
    warmup_steps: int
    total_steps: int | None
    final_fraction: float
    drops: int
    cycles: int
    cycle_growth: float
    cycle_low: float
    rise: float
    cooldown: float
    plateau_factor: float
    plateau_patience: int

    def __post_init__(self) -> None:
        """Raise InputError with all faults, each under its key."""
        faults = [*_faulty_length(self), *_faulty_shape(self)]
        if faults:
            raise InputError("; ".join(faults))


def multiplier(schedule: Schedule, step: int) -> float:
    """Return the factor for the optimizer step with this number, the first being 0.

    Warmup: (step + 1) / (warmup_steps + 1) of the value at which the schedule starts, so that the first step already
    learns and that value follows the last warmup step. Then the schedule over the remaining steps; from total_steps
    on its final value. What `plateau` takes away comes from PlateauRule, not from here.
    """
    form = _FORMS[schedule.name]
    if step < schedule.warmup_steps:
        return form(schedule, 0.0) * (step + 1) / (schedule.warmup_steps + 1)
    if schedule.total_steps is None:
        return form(schedule, 0.0)
    return form(schedule, min(1.0, (step - schedule.warmup_steps) / (schedule.total_steps - schedule.warmup_steps)))


class PlateauRule:
    """Takes the rate down when the loss has stopped falling: torch's ReduceLROnPlateau as a factor beside a schedule.

    `factor` starts at 1, is multiplied by `reduction` after more than `patience` losses in a row that are not lower
    than the best by a relative 1e-4, and never goes below `least`.
    """

    def __init__(self, *, reduction: float, patience: int, least: float) -> None:
        self._reduction, self._patience, self._least = reduction, patience, least
        self.factor = 1.0
        self._best = math.inf
        self._without_gain = 0

    def update(self, loss: float) -> None:
        """Take the next loss; one that is not a number is no gain."""
        if loss < self._best * (1 - PLATEAU_THRESHOLD):
            self._best, self._without_gain = loss, 0
            return
        self._without_gain += 1
        if self._without_gain > self._patience:
            self.factor = max(self.factor * self._reduction, self._least)
            self._without_gain = 0

    def state_dict(self) -> dict[str, Any]:
        """Return what `load_state_dict` takes: plain numbers."""
        return {"factor": self.factor, "best": self._best, "without_gain": self._without_gain}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where that rule was."""
        self.factor, self._best, self._without_gain = state["factor"], state["best"], state["without_gain"]


def _fixed(schedule: Schedule, progress: float) -> float:
    return 1.0


def _step(schedule: Schedule, progress: float) -> float:
    taken = min(schedule.drops, math.floor(progress * (schedule.drops + 1) + 1e-9))  # ⅓ · 3 must not fall short of 1
    return schedule.final_fraction ** (taken / schedule.drops)


def _exponential(schedule: Schedule, progress: float) -> float:
    return schedule.final_fraction**progress


def _cosine(schedule: Schedule, progress: float) -> float:
    return _anneal(1.0, schedule.final_fraction, progress)


def _cosine_restarts(schedule: Schedule, progress: float) -> float:
    if progress >= 1:
        return schedule.final_fraction
    _, within = _cycle(progress, cycles=schedule.cycles, growth=schedule.cycle_growth)
    return _anneal(1.0, schedule.final_fraction, within)


def _triangular(schedule: Schedule, progress: float) -> float:
    return _triangle(schedule, progress, lambda number: 1.0)


def _triangular2(schedule: Schedule, progress: float) -> float:
    return _triangle(schedule, progress, lambda number: 0.5**number)


def _exp_range(schedule: Schedule, progress: float) -> float:
    return _triangle(schedule, progress, lambda number: schedule.final_fraction**progress)


def _one_cycle(schedule: Schedule, progress: float) -> float:
    if progress < schedule.rise:
        return _anneal(ONE_CYCLE_START, 1.0, progress / schedule.rise)
    return _anneal(1.0, schedule.final_fraction, (progress - schedule.rise) / (1 - schedule.rise))


def _wsd(schedule: Schedule, progress: float) -> float:
    cooled = 1 - (1 - progress) / schedule.cooldown
    if cooled < 1e-12:  # the root would blow rounding up to 1e-8
        return 1.0
    return schedule.final_fraction + (1 - schedule.final_fraction) * (1 - math.sqrt(cooled))


def _ramp(schedule: Schedule, progress: float) -> float:
    return schedule.cycle_low ** (1 - progress)


# Of the progress after warmup, in [0, 1].
SCHEDULES: dict[str, Callable[[Schedule, float], float]] = {
    "fixed": _fixed,
    "step": _step,
    "exponential": _exponential,
    "cosine": _cosine,
    "cosine_restarts": _cosine_restarts,
    "triangular": _triangular,
    "triangular2": _triangular2,
    "exp_range": _exp_range,
    "one_cycle": _one_cycle,
    "wsd": _wsd,
    "plateau": _fixed,
}
#: With that of the range test, which no recipe may name.
_FORMS = SCHEDULES | {"ramp": _ramp}
WITHOUT_LENGTH = ("fixed", "plateau")


def _anneal(start: float, end: float, progress: float) -> float:
    return end + (start - end) * (1 + math.cos(math.pi * progress)) / 2


def _triangle(schedule: Schedule, progress: float, amplitude: Callable[[int], float]) -> float:
    number, within = _cycle(progress, cycles=schedule.cycles, growth=1.0)
    height = 1 - abs(2 * within - 1)
    return schedule.cycle_low + (1 - schedule.cycle_low) * height * amplitude(number)


def _cycle(progress: float, *, cycles: int, growth: float) -> tuple[int, float]:
    """Return the number of the cycle under way and the share of it that is over, in [0, 1].

    Cycle k has length proportional to growth^k, so k cycles end at (growth^k - 1) / (growth^cycles - 1).
    """
    lengths = [growth**number for number in range(cycles)]
    position = progress * math.fsum(lengths)
    number, start = 0, 0.0
    # 1e-9: a step on the border belongs to the new cycle, whatever the rounding.
    while number < cycles - 1 and position >= start + lengths[number] - 1e-9:
        start += lengths[number]
        number += 1
    return number, min(max((position - start) / lengths[number], 0.0), 1.0)


def _faulty_length(schedule: Schedule) -> list[str]:
    if schedule.name not in _FORMS:
        return [f"recipe.schedule={schedule.name}: unknown; use one of {', '.join(SCHEDULES)}"]
    warmup, total = schedule.warmup_steps, schedule.total_steps
    if warmup < 0:
        return [f"recipe.warmup_epochs: {warmup} steps of warmup; use 0 for none"]
    if total is None:
        if schedule.name in WITHOUT_LENGTH:
            return []
        return [
            f"recipe.schedule={schedule.name}: needs the length of the training, which is not given; "
            f"state the epochs, or use {' or '.join(WITHOUT_LENGTH)}"
        ]
    if total < 1:
        return [
            f"recipe.schedule={schedule.name}: a training of {total} steps; it needs at least 1: add images or epochs"
        ]
    if warmup >= total:
        return [
            f"recipe.warmup_epochs: a warmup of {warmup} steps must be shorter than the training's {total}; shorten it"
        ]
    return []


def _faulty_shape(schedule: Schedule) -> list[str]:
    """Return the faults among the settings that the schedule uses."""
    name, final = schedule.name, schedule.final_fraction
    cyclic = name in ("cosine_restarts", "triangular", "triangular2", "exp_range")
    powers = name in ("step", "exponential", "exp_range")
    low = "(0, 1]" if powers else "[0, 1]"
    rules = [
        (not 0 <= final <= 1 or (powers and final == 0), "final_lr_fraction", final, f"in {low}; 0.01 is usual"),
        (name == "step" and schedule.drops < 1, "schedule_drops", schedule.drops, "at least 1; 2 is usual"),
        (cyclic and schedule.cycles < 1, "schedule_cycles", schedule.cycles, "at least 1; 3 is usual"),
        (
            name == "cosine_restarts" and not 1 <= schedule.cycle_growth < math.inf,
            "cycle_growth",
            schedule.cycle_growth,
            "at least 1; 1 makes all cycles alike",
        ),
        (
            cyclic and name != "cosine_restarts" and not 0 < schedule.cycle_low < 1,
            "cycle_low",
            schedule.cycle_low,
            "in (0, 1); 0.25 is usual",
        ),
        (name == "one_cycle" and not 0 < schedule.rise < 1, "rise_fraction", schedule.rise, "in (0, 1); 0.3 is usual"),
        (
            name == "wsd" and not 0 < schedule.cooldown <= 1,
            "cooldown_fraction",
            schedule.cooldown,
            "in (0, 1]; 0.2 is usual",
        ),
        (
            name == "plateau" and not 0 < schedule.plateau_factor < 1,
            "plateau_factor",
            schedule.plateau_factor,
            "in (0, 1); 0.3 is usual",
        ),
        (
            name == "plateau" and schedule.plateau_patience < 0,
            "plateau_patience",
            schedule.plateau_patience,
            "at least 0; 2 is usual",
        ),
    ]
    return [f"recipe.{key}={value}: must be {rule}" for broken, key, value, rule in rules if broken]
