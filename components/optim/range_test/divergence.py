"""When a ramp has diverged: a median-of-5 rule that the run uses to stop and the analysis uses to cut the curve."""

import math
import statistics
from collections import deque
from collections.abc import Sequence

WINDOW = 5
RISE = 4.0


class DivergenceMonitor:
    """Fires on a loss that is not finite, or where the median of five exceeds 4 × the lowest such median *and* `floor`.

    Without the floor, every rebound of a loss near zero would count. A single bad batch cannot fire it: three of five
    losses have to be high.
    """

    def __init__(self, *, floor: float) -> None:
        self._floor = floor
        self._recent: deque[float] = deque(maxlen=WINDOW)
        self._best = math.inf

    def update(self, loss: float) -> bool:
        """Take the next loss; return whether the run has diverged."""
        if not math.isfinite(loss):
            return True
        self._recent.append(loss)
        if len(self._recent) < WINDOW:
            return False
        median = statistics.median(self._recent)
        self._best = min(self._best, median)
        return median > max(RISE * self._best, self._floor)


def divergence_onset(losses: Sequence[float], *, floor: float) -> int | None:
    """Return the position of the divergence, or None: two before the rule fires, at the centre of its window."""
    monitor = DivergenceMonitor(floor=floor)
    for position, loss in enumerate(losses):
        if monitor.update(loss):
            return position if not math.isfinite(loss) else position - WINDOW // 2
    return None
