"""What the monitor remembers: a record per look, with the means of the steps since the last; a bounded number of them.

A look ends with a measurement of the probe batch, at most a hundred times in a training: in a long one several
measurements make one look, whose mean is steadier, so that a slope has the same meaning in short and long trainings.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass, fields
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from components.optim.monitor.monitor import Signals

#: Looks in a training, if it is long enough for them.
LOOKS = 100
#: Looks in a window: fewer prove no slope, more are late.
FEWEST, MOST = 10, 20
#: Looks after a rest whose gradient norms make the baseline.
BASELINE_LOOKS = 5
#: Steps at the very start whose gradient norms stand for weights that no step has moved far.
FIRST_STEPS = 10


@dataclass(frozen=True, kw_only=True)
class Look:
    """Some steps up to `step`. loss, probe_loss, grad_norm, cosine: means over what is known of them, else NaN.

    update_ratio: the largest. lr: of the last step. highest_lr: of all steps so far; distance: the sum of their rates.
    resting: whether any of the steps rested.
    """

    step: int
    loss: float
    probe_loss: float
    grad_norm: float
    cosine: float
    update_ratio: float
    lr: float
    highest_lr: float
    distance: float
    resting: bool


class Looks:
    """Gathers steps into looks.

    first: the first look that did not rest. largest_update: largest update ratio of all looks, NaN before one is known.
    """

    def __init__(self, *, total_steps: int, start: int) -> None:
        """Take the length of the training, and the step from which it is looked at."""
        self.first: Look | None = None
        self.largest_update = math.nan
        self._total_steps = total_steps
        self._last_look = start
        self._looks: deque[Look] = deque(maxlen=MOST)
        self._steps: list[tuple[float, float, float, float, float]] = []
        self._distance = 0.0
        self._highest_lr = 0.0
        self._rested = False
        self._first_norms: list[float] = []
        self._baseline_norms: list[float] = []

    def update(self, signals: Signals) -> Look | None:
        """Take a step; return the look that it ends."""
        self._steps.append((signals.loss, signals.probe_loss, signals.grad_norm, signals.cosine, signals.update_ratio))
        self._distance += signals.lr
        self._highest_lr = max(self._highest_lr, signals.lr)
        self._rested |= signals.resting
        if len(self._first_norms) < FIRST_STEPS:
            self._first_norms.append(signals.grad_norm)
        if math.isnan(signals.probe_loss) or signals.step - self._last_look < self._total_steps / LOOKS:
            return None
        return self._end_look(signals.step, signals.lr)

    def window(self) -> list[Look]:
        """The latest looks without rest between them; empty where there are too few to judge."""
        looks: list[Look] = []
        for look in reversed(self._looks):
            early = len(looks) >= FEWEST and self._last_look - look.step > MOST / LOOKS * self._total_steps
            if look.resting or early:
                break
            looks.append(look)
        return looks[::-1] if len(looks) >= FEWEST else []

    @property
    def baseline_norm(self) -> float:
        """Median gradient norm of the first looks that did not rest; NaN before there are enough."""
        return float(np.median(self._baseline_norms)) if len(self._baseline_norms) == BASELINE_LOOKS else math.nan

    @property
    def first_norm(self) -> float:
        """Median gradient norm of the first steps of all; NaN before the first."""
        return float(np.median(self._first_norms)) if self._first_norms else math.nan

    def state_dict(self) -> dict[str, Any]:
        return {
            "first": None if self.first is None else list(astuple(self.first)),
            "largest_update": self.largest_update,
            "last_look": self._last_look,
            "looks": [list(astuple(look)) for look in self._looks],
            "steps": [list(step) for step in self._steps],
            "distance": self._distance,
            "highest_lr": self._highest_lr,
            "rested": self._rested,
            "first_norms": list(self._first_norms),
            "baseline_norms": list(self._baseline_norms),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.first = None if state["first"] is None else _look(state["first"])
        self.largest_update = state["largest_update"]
        self._last_look = state["last_look"]
        self._looks = deque((_look(values) for values in state["looks"]), maxlen=MOST)
        self._steps = [tuple(step) for step in state["steps"]]
        self._distance, self._highest_lr = state["distance"], state["highest_lr"]
        self._rested = state["rested"]
        self._first_norms, self._baseline_norms = list(state["first_norms"]), list(state["baseline_norms"])

    def _end_look(self, step: int, lr: float) -> Look:
        losses, probe_losses, norms, cosines, ratios = zip(*self._steps, strict=True)
        look = Look(
            step=step,
            loss=mean_known(losses),
            probe_loss=mean_known(probe_losses),
            grad_norm=mean_known(norms),
            cosine=mean_known(cosines),
            update_ratio=max((ratio for ratio in ratios if not math.isnan(ratio)), default=math.nan),
            lr=lr,
            highest_lr=self._highest_lr,
            distance=self._distance,
            resting=self._rested,
        )
        self._looks.append(look)
        self._last_look, self._steps, self._rested = step, [], False
        if not look.update_ratio <= self.largest_update:
            self.largest_update = look.update_ratio
        if not look.resting:
            self.first = self.first or look
            self._baseline_norms = [*self._baseline_norms, look.grad_norm][:BASELINE_LOOKS]
        return look


def mean_known(values: Sequence[float]) -> float:
    """The mean without NaN; NaN where nothing else is there."""
    known = [value for value in values if not math.isnan(value)]
    return sum(known) / len(known) if known else math.nan


def _look(values: Sequence[Any]) -> Look:
    return Look(**dict(zip((entry.name for entry in fields(Look)), values, strict=True)))
