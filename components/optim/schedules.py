"""Learning-rate schedules in closed form: a multiplier in [0, 1] of each group's own rate, after a linear warmup.

Sources: cosine and its restarts, Loshchilov & Hutter (arXiv 1608.03983); triangular, triangular2 and exp_range, Smith
(1506.01186); one-cycle, Smith & Topin (1708.07120), annealed by cosines as in torch; WSD with its 1 - √ cooldown,
Hägele et al. (2405.18392). All but `fixed`, `plateau` and the triangular ones end at `final_lr_fraction`, so that they
can be compared with each other.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from components.errors import InputError

ONE_CYCLE_START = 1 / 25  # of the peak; torch's and fastai's usual div_factor
ONE_CYCLE_MOMENTUM = 0.85, 0.95  # at the peak, and at both ends; torch's and fastai's usual ones
PLATEAU_THRESHOLD = 1e-4  # relative; a smaller gain counts as none, as in torch


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """One schedule and its settings. A schedule ignores those that it does not use.

    name: a key of SCHEDULES, or `ramp`, which rises exponentially from `cycle_low` to 1. total_steps: optimizer steps
    of the whole training, warmup included; None where it is not known, for `fixed` and `plateau` alone. warmup_steps:
    in [0, total_steps). The others are the recipe's keys of these names, whose ranges the configuration checks.
    """

    name: str
    warmup_steps: int
    total_steps: int | None
    final_lr_fraction: float
    schedule_drops: int
    schedule_cycles: int
    cycle_growth: float
    cycle_low: float
    rise_fraction: float
    cooldown_fraction: float
    plateau_factor: float
    plateau_patience: int

    def __post_init__(self) -> None:
        """Raise InputError for a length that the schedule cannot have."""
        warmup, total = self.warmup_steps, self.total_steps
        if total is None and self.name not in WITHOUT_LENGTH:
            raise InputError(
                f"recipe.schedule={self.name}: needs the length of the training, which is not given; state the epochs, "
                f"or use {' or '.join(WITHOUT_LENGTH)}"
            )
        if total is not None and total < 1:
            raise InputError(
                f"recipe.schedule={self.name}: a training of {total} steps; it needs at least 1: add images or epochs"
            )
        if total is not None and warmup >= total:
            raise InputError(
                f"recipe.warmup_epochs: a warmup of {warmup} steps must be shorter than the training's {total}; "
                "shorten it"
            )


def multiplier(schedule: Schedule, step: int) -> float:
    """Return the factor for the optimizer step with this number, the first being 0.

    Warmup: (step + 1) / (warmup_steps + 1) of the schedule's first value, so that the first step already learns. Then
    the schedule over the remaining steps; from total_steps on its final value. The reductions of `plateau` come from
    PlateauRule, not from here.
    """
    form = _FORMS[schedule.name]
    if step < schedule.warmup_steps:
        return form(schedule, 0.0) * (step + 1) / (schedule.warmup_steps + 1)
    if schedule.total_steps is None:
        return form(schedule, 0.0)
    return form(schedule, min(1.0, (step - schedule.warmup_steps) / (schedule.total_steps - schedule.warmup_steps)))


def cycled_momentum(schedule: Schedule, step: int) -> float | None:
    """Return the momentum of the optimizer step with this number; None for the optimizer's own.

    One-cycle lowers it while the rate rises (Smith & Topin; cosines as in torch). In Adam and its kin it is beta1.
    """
    if schedule.name != "one_cycle" or schedule.total_steps is None:
        return None
    low, high = ONE_CYCLE_MOMENTUM
    progress = max(0.0, (step - schedule.warmup_steps) / (schedule.total_steps - schedule.warmup_steps))
    if progress < schedule.rise_fraction:
        return _anneal(high, low, progress / schedule.rise_fraction)
    return _anneal(low, high, min(1.0, (progress - schedule.rise_fraction) / (1 - schedule.rise_fraction)))


class PlateauRule:
    """Lowers the rate when the loss has stopped falling: torch's ReduceLROnPlateau as a factor beside a schedule.

    `factor` starts at 1, is multiplied by `reduction` after more than `patience` losses in a row that are not lower
    than the best by a relative 1e-4, and is at least `least`.
    """

    def __init__(self, *, reduction: float, patience: int, least: float) -> None:
        self._reduction, self._patience, self._least = reduction, patience, least
        self.factor = 1.0
        self._best = math.inf
        self._without_gain = 0

    def update(self, loss: float) -> None:
        """Take the next loss; one that is not a number is no improvement."""
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
        """Continue from that state."""
        self.factor, self._best, self._without_gain = state["factor"], state["best"], state["without_gain"]


def _fixed(schedule: Schedule, progress: float) -> float:
    return 1.0


def _step(schedule: Schedule, progress: float) -> float:
    drops = schedule.schedule_drops
    taken = min(drops, math.floor(progress * (drops + 1) + 1e-9))  # ⅓ · 3 must not be rounded below 1
    return float(schedule.final_lr_fraction ** (taken / drops))


def _exponential(schedule: Schedule, progress: float) -> float:
    return float(schedule.final_lr_fraction**progress)


def _cosine(schedule: Schedule, progress: float) -> float:
    return _anneal(1.0, schedule.final_lr_fraction, progress)


def _cosine_restarts(schedule: Schedule, progress: float) -> float:
    if progress >= 1:
        return schedule.final_lr_fraction
    _, within = _cycle(progress, cycles=schedule.schedule_cycles, growth=schedule.cycle_growth)
    return _anneal(1.0, schedule.final_lr_fraction, within)


def _triangular(schedule: Schedule, progress: float) -> float:
    return _triangle(schedule, progress, lambda number: 1.0)


def _triangular2(schedule: Schedule, progress: float) -> float:
    return _triangle(schedule, progress, lambda number: 0.5**number)


def _exp_range(schedule: Schedule, progress: float) -> float:
    return _triangle(schedule, progress, lambda number: float(schedule.final_lr_fraction**progress))


def _one_cycle(schedule: Schedule, progress: float) -> float:
    if progress < schedule.rise_fraction:
        return _anneal(ONE_CYCLE_START, 1.0, progress / schedule.rise_fraction)
    return _anneal(1.0, schedule.final_lr_fraction, (progress - schedule.rise_fraction) / (1 - schedule.rise_fraction))


def _wsd(schedule: Schedule, progress: float) -> float:
    cooled = 1 - (1 - progress) / schedule.cooldown_fraction
    if cooled < 1e-12:  # the root would enlarge a rounding error to 1e-8
        return 1.0
    return schedule.final_lr_fraction + (1 - schedule.final_lr_fraction) * (1 - math.sqrt(cooled))


def _ramp(schedule: Schedule, progress: float) -> float:
    return float(schedule.cycle_low ** (1 - progress))


#: Functions of the progress after warmup, in [0, 1].
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
#: With the range test's, which is no recipe's.
_FORMS = SCHEDULES | {"ramp": _ramp}
WITHOUT_LENGTH = ("fixed", "plateau")


def _anneal(start: float, end: float, progress: float) -> float:
    return end + (start - end) * (1 + math.cos(math.pi * progress)) / 2


def _triangle(schedule: Schedule, progress: float, amplitude: Callable[[int], float]) -> float:
    number, within = _cycle(progress, cycles=schedule.schedule_cycles, growth=1.0)
    height = 1 - abs(2 * within - 1)
    return schedule.cycle_low + (1 - schedule.cycle_low) * height * amplitude(number)


def _cycle(progress: float, *, cycles: int, growth: float) -> tuple[int, float]:
    """Return the number of the current cycle and the share of it that is over, in [0, 1].

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
