"""Losses step by step: a single bad batch, spike upon spike, or a divergence.

Both begin alike, with a loss far above the recent ones. The bad batch is over after a few steps; a divergence is not.
"""

from __future__ import annotations

import math
import statistics
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

#: Losses that make the recent mean.
WINDOW = 50
#: Losses before which nothing is judged, so that the first batch alone is no yardstick.
FEWEST = 3
#: Times the recent mean: from here on a loss is high.
HIGH = 2.0
#: High losses in a row that make a divergence.
IN_A_ROW = 5
#: Times the largest recent loss: what a spike reaches besides. Good runs came to 1.5, batches with wrong labels to 3.2
#: and more.
ABOVE_LARGEST = 2.0
#: Losses before which no spike is told from the ups and downs of a beginning.
SPIKE_FEWEST = 20
#: Spikes within so many steps that are no bad batches any more.
MANY_SPIKES, MANY_WITHIN = 3, 100
#: Normal losses after a divergence that end it.
CALM = 50


@dataclass(frozen=True)
class LossEvent:
    """step: where it began. oscillating: spike upon spike."""

    kind: Literal["diverged", "oscillating", "spike"]
    step: int
    evidence: dict[str, float]


class LossWatch:
    """floor: a loss below it is never high. Once the mean is near 0, one wrong image in a batch doubles it."""

    def __init__(self, *, floor: float) -> None:
        self._floor = floor
        self._recent: deque[float] = deque(maxlen=WINDOW)
        self._high: list[float] = []
        self._began = 0
        self._spikes: list[int] = []
        self._calm = CALM

    def update(self, step: int, loss: float, grad_norm: float, *, resting: bool) -> LossEvent | None:
        """Take the next loss and gradient norm. One that is not finite is a divergence at once, also at rest."""
        if not (math.isfinite(loss) and math.isfinite(grad_norm)):
            return self._diverge(step, {"loss": loss, "grad_norm": grad_norm, "recent_mean_loss": self._mean})
        if not self._is_high(loss):
            event = None if resting else self._spike()
            self._high = []
            self._calm += 1
            self._recent.append(loss)
            return event
        if not self._high:
            self._began = step
        self._high.append(loss)
        if resting or len(self._high) < IN_A_ROW:
            return None
        mean = sum(self._high[-IN_A_ROW:]) / IN_A_ROW
        return self._diverge(self._began, {"loss": mean, "recent_mean_loss": self._mean, "steps": len(self._high)})

    def state_dict(self) -> dict[str, Any]:
        return {
            "recent": list(self._recent),
            "high": list(self._high),
            "began": self._began,
            "spikes": list(self._spikes),
            "calm": self._calm,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._recent = deque(state["recent"], maxlen=WINDOW)
        self._high = list(state["high"])
        self._began, self._calm = state["began"], state["calm"]
        self._spikes = list(state["spikes"])

    @property
    def _mean(self) -> float:
        return statistics.fmean(self._recent) if self._recent else math.nan

    def _is_high(self, loss: float) -> bool:
        return len(self._recent) >= FEWEST and loss > max(HIGH * self._mean, self._floor)

    def _spike(self) -> LossEvent | None:
        """The high losses that have just ended, unless they were a divergence or the recent ones came near them."""
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
