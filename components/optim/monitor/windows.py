"""The monitor's memory: statistics of a bounded number of windows of steps.

A window ends with a measurement of the probe batch. A training has at most a hundred windows, whatever its length, so
that a slope means the same in short and long trainings.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

#: Windows in a training that is long enough for them.
WINDOWS = 100
#: Windows that a rule uses: fewer prove no slope, more react late.
FEWEST, MOST = 10, 20
#: Windows outside of grace periods whose gradient norms are the baseline.
BASELINE_WINDOWS = 5
#: Steps at the very start whose gradient norms belong to weights near their initial values.
FIRST_STEPS = 10


@dataclass(frozen=True, kw_only=True)
class Signals:
    """The measurements of one optimizer step.

    step: its number, from 1. loss: of its batch. grad_norm: before clipping. cosine: between its gradient and that of
    the step before, NaN where unknown. update_ratio: length of the step divided by that of the weights; probe_loss: on
    the fixed batch; both NaN where not measured. lr: of the fastest group. in_grace_period: during warmup, after a
    restart or after unfreezing, when the loss is not judged.
    """

    step: int
    loss: float
    grad_norm: float
    cosine: float
    update_ratio: float
    probe_loss: float
    lr: float
    in_grace_period: bool


@dataclass(frozen=True, kw_only=True)
class WindowStats:
    """Statistics of the steps of one window, the last of which is `step`.

    loss, probe_loss, grad_norm, cosine: means of the known values, else NaN. update_ratio: the largest. lr: of the last
    step. highest_lr: of all steps so far; distance: the sum of their rates. in_grace_period: whether any step was.
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
    in_grace_period: bool


class WindowHistory:
    """Gathers steps into windows.

    first: the first window outside of a grace period. largest_update: largest update ratio so far, NaN before one is
    known.
    """

    def __init__(self, *, total_steps: int, start: int) -> None:
        """Take the length of the training, and the step after which the first window begins."""
        self.first: WindowStats | None = None
        self.largest_update = math.nan
        self._total_steps = total_steps
        self._last_end = start
        self._windows: list[WindowStats] = []
        self._steps: list[list[float]] = []
        self._distance = 0.0
        self._highest_lr = 0.0
        self._in_grace_period = False
        self._first_norms: list[float] = []
        self._baseline_norms: list[float] = []

    def update(self, signals: Signals) -> WindowStats | None:
        """Take a step; return the window that it ends."""
        self._steps.append([signals.loss, signals.probe_loss, signals.grad_norm, signals.cosine, signals.update_ratio])
        self._distance += signals.lr
        self._highest_lr = max(self._highest_lr, signals.lr)
        self._in_grace_period |= signals.in_grace_period
        if len(self._first_norms) < FIRST_STEPS:
            self._first_norms.append(signals.grad_norm)
        if math.isnan(signals.probe_loss) or signals.step - self._last_end < self._total_steps / WINDOWS:
            return None
        return self._end_window(signals.step, signals.lr)

    def recent(self) -> list[WindowStats]:
        """Return the latest windows after the last grace period; [] if there are too few."""
        windows: list[WindowStats] = []
        for window in reversed(self._windows):
            early = len(windows) >= FEWEST and self._last_end - window.step > MOST / WINDOWS * self._total_steps
            if window.in_grace_period or early:
                break
            windows.append(window)
        return windows[::-1] if len(windows) >= FEWEST else []

    @property
    def baseline_norm(self) -> float:
        """Median gradient norm of the first windows outside of grace periods; NaN before there are enough."""
        return float(np.median(self._baseline_norms)) if len(self._baseline_norms) == BASELINE_WINDOWS else math.nan

    @property
    def first_norm(self) -> float:
        """Median gradient norm of the first steps of all; NaN before the first."""
        return float(np.median(self._first_norms)) if self._first_norms else math.nan

    def state_dict(self) -> dict[str, Any]:
        state = copy.deepcopy(vars(self))
        state["_windows"] = [asdict(window) for window in self._windows]
        return state | {"first": None if self.first is None else asdict(self.first)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        vars(self).update(copy.deepcopy(dict(state)))
        self._windows = [WindowStats(**values) for values in state["_windows"]]
        self.first = None if state["first"] is None else WindowStats(**state["first"])

    def _end_window(self, step: int, lr: float) -> WindowStats:
        losses, probe_losses, norms, cosines, ratios = zip(*self._steps, strict=True)
        window = WindowStats(
            step=step,
            loss=mean_known(losses),
            probe_loss=mean_known(probe_losses),
            grad_norm=mean_known(norms),
            cosine=mean_known(cosines),
            update_ratio=max((ratio for ratio in ratios if not math.isnan(ratio)), default=math.nan),
            lr=lr,
            highest_lr=self._highest_lr,
            distance=self._distance,
            in_grace_period=self._in_grace_period,
        )
        self._windows = [*self._windows, window][-MOST:]
        self._last_end, self._steps, self._in_grace_period = step, [], False
        if not window.update_ratio <= self.largest_update:
            self.largest_update = window.update_ratio
        if not window.in_grace_period:
            self.first = self.first or window
            self._baseline_norms = [*self._baseline_norms, window.grad_norm][:BASELINE_WINDOWS]
        return window


def mean_known(values: Sequence[float]) -> float:
    """Return the mean of the values that are not NaN; NaN if all are."""
    known = [value for value in values if not math.isnan(value)]
    return sum(known) / len(known) if known else math.nan
