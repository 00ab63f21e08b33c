"""Losses step by step: a single bad batch, several spikes, or a divergence.

A bad batch and a divergence both begin with a loss far above the recent ones. After a bad batch the loss is normal
again within a few steps.
"""

from __future__ import annotations

import copy
import math
import statistics
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

#: Losses in the recent mean.
WINDOW = 50
#: Number of losses from which on they are judged: the first batch alone is no reference.
FEWEST = 3
#: A loss above this multiple of the recent mean is high.
HIGH = 2.0
#: High losses in a row that make a divergence.
IN_A_ROW = 5
#: A spike also exceeds this multiple of the largest recent loss. Good runs reached 1.5, batches with wrong labels 3.2.
ABOVE_LARGEST = 2.0
#: Number of losses from which on spikes are detected: the loss varies more at the start of a training.
SPIKE_FEWEST = 20
#: This many spikes within this many steps are oscillation, not bad batches.
MANY_SPIKES, MANY_WITHIN = 3, 100
#: Normal losses after which a divergence is over.
CALM = 50


@dataclass(frozen=True)
class LossEvent:
    """step: the first high loss. kind: `oscillating` for several spikes."""

    kind: Literal["diverged", "oscillating", "spike"]
    step: int
    evidence: dict[str, float]


class LossWatch:
    """Finds these events. All attributes are plain values."""

    def __init__(self, *, floor: float) -> None:
        """floor: a loss below it is never high. Once the mean is near 0, one wrong image in a batch doubles it."""
        self._floor = floor
        self._recent: list[float] = []
        self._high: list[float] = []
        self._began = 0
        self._spikes: list[int] = []
        self._calm = CALM

    def update(self, step: int, loss: float, grad_norm: float, *, in_grace_period: bool) -> LossEvent | None:
        """Take the next loss and gradient norm. One that is not finite is a divergence, also in a grace period."""
        if not (math.isfinite(loss) and math.isfinite(grad_norm)):
            return self._diverge(step, {"loss": loss, "grad_norm": grad_norm, "recent_mean_loss": self._mean})
        if len(self._recent) < FEWEST or loss <= max(HIGH * self._mean, self._floor):
            event = None if in_grace_period else self._spike()
            self._high = []
            self._calm += 1
            self._recent = [*self._recent, loss][-WINDOW:]
            return event
        if not self._high:
            self._began = step
        self._high.append(loss)
        if in_grace_period or len(self._high) < IN_A_ROW:
            return None
        mean = sum(self._high[-IN_A_ROW:]) / IN_A_ROW
        return self._diverge(self._began, {"loss": mean, "recent_mean_loss": self._mean, "steps": len(self._high)})

    def state_dict(self) -> dict[str, Any]:
        return copy.deepcopy(vars(self))

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        vars(self).update(copy.deepcopy(dict(state)))

    @property
    def _mean(self) -> float:
        return statistics.fmean(self._recent) if self._recent else math.nan

    def _spike(self) -> LossEvent | None:
        """Judge the high losses that have just ended; recent losses of similar size make them no spike."""
        if not self._high or self._calm < CALM or len(self._recent) < SPIKE_FEWEST:
            return None
        top, largest = max(self._high), max(self._recent)
        if top <= ABOVE_LARGEST * largest:
            return None
        evidence = {"loss": top, "recent_mean_loss": self._mean, "recent_largest_loss": largest}
        self._spikes = [step for step in self._spikes if step > self._began - MANY_WITHIN] + [self._began]
        if len(self._spikes) < MANY_SPIKES:
            return LossEvent("spike", self._began, evidence | {"steps": len(self._high)})
        first, self._calm = self._spikes[0], 0
        return LossEvent("oscillating", first, evidence | {"spikes": len(self._spikes)})

    def _diverge(self, step: int, evidence: dict[str, float]) -> LossEvent | None:
        again, self._calm = self._calm < CALM, 0
        return None if again else LossEvent("diverged", step, evidence)
