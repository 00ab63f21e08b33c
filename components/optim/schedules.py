"""Learning-rate schedules in closed form: a multiplier in (0, 1] of each group's own rate, after a linear
warmup.

Cosine is that of Loshchilov & Hutter (arXiv 1608.03983) without restarts. All but `fixed` arrive at
`final_fraction` at the end, so that they can be compared with each other.
"""

import math
from collections.abc import Callable

import torch
from torch.optim.lr_scheduler import LambdaLR

from components.errors import InputError


def _fixed(progress: float, *, final_fraction: float, drops: int) -> float:
    return 1.0


def _step(progress: float, *, final_fraction: float, drops: int) -> float:
    taken = min(drops, math.floor(progress * (drops + 1) + 1e-9))  # 1e-9: 1/3 · 3 must not fall short of 1
    return final_fraction ** (taken / drops)


def _exponential(progress: float, *, final_fraction: float, drops: int) -> float:
    return final_fraction**progress


def _cosine(progress: float, *, final_fraction: float, drops: int) -> float:
    return final_fraction + (1 - final_fraction) * (1 + math.cos(math.pi * progress)) / 2


# Of the progress after warmup, in [0, 1].
SCHEDULES: dict[str, Callable[..., float]] = {
    "fixed": _fixed,
    "step": _step,
    "exponential": _exponential,
    "cosine": _cosine,
}


def multiplier(
    name: str, step: int, *, total_steps: int, warmup_steps: int, final_fraction: float, drops: int
) -> float:
    """Return the factor for the optimizer step with this number, the first being 0.

    Warmup: (step + 1) / (warmup_steps + 1), so that the first step already learns and the full rate follows
    the last warmup step. Then the schedule over the remaining steps; from total_steps on its final value.

    Args:
        name: a key of SCHEDULES.
        step: at least 0.
        total_steps: optimizer steps of the whole training, warmup included.
        warmup_steps: in [0, total_steps).
        final_fraction: what is left of the rate at the end, in [0, 1]; above 0 for step and exponential.
        drops: equal drops of `step`, evenly spaced, at least 1; the others ignore it.

    Returns:
        A factor in [0, 1], positive before total_steps.
    """
    if step < warmup_steps:
        return (step + 1) / (warmup_steps + 1)
    progress = min(1.0, (step - warmup_steps) / max(1, total_steps - warmup_steps))
    return SCHEDULES[name](progress, final_fraction=final_fraction, drops=drops)


def build_schedule(
    optimizer: torch.optim.Optimizer,
    *,
    name: str,
    total_steps: int,
    warmup_steps: int,
    final_fraction: float,
    drops: int,
) -> LambdaLR:
    """Return torch's scheduler over `multiplier`, to be stepped once after each optimizer step.

    Each group is scaled from its own rate, so the ratios between groups stay.

    Raises:
        InputError: an unknown name, or a value outside the ranges that `multiplier` states.
    """
    _check(name, total_steps=total_steps, warmup_steps=warmup_steps, final_fraction=final_fraction, drops=drops)

    def factor(step: int) -> float:
        return multiplier(
            name,
            step,
            total_steps=total_steps,
            warmup_steps=warmup_steps,
            final_fraction=final_fraction,
            drops=drops,
        )

    return LambdaLR(optimizer, factor)


def _check(name: str, *, total_steps: int, warmup_steps: int, final_fraction: float, drops: int) -> None:
    faults = []
    if name not in SCHEDULES:
        faults.append(f"recipe.schedule={name!r} is unknown; use one of {', '.join(SCHEDULES)}")
    if total_steps < 1:
        faults.append(f"the training has {total_steps} steps; it needs at least 1: add images or epochs")
    elif not 0 <= warmup_steps < total_steps:
        faults.append(f"warmup of {warmup_steps} steps must be shorter than the training's {total_steps}; shorten it")
    positive = name in ("step", "exponential")
    if not 0 <= final_fraction <= 1 or (positive and final_fraction == 0):
        interval = "(0, 1]" if positive else "[0, 1]"
        faults.append(f"recipe.final_lr_fraction={final_fraction} must be in {interval} for {name}; 0.01 is usual")
    if drops < 1:
        faults.append(f"recipe.schedule_drops={drops} must be at least 1; 2 is usual")
    if faults:
        raise InputError("; ".join(faults))
