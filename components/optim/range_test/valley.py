"""The valley rule of fastai's LR finder, a second way to read the same curve.

fastai states it in `callback.schedule.valley` (github.com/fastai/fastai): take the longest decreasing subsequence of
the losses, of length L and ending at e; its window starts at e - L, and the suggestion is int(L/3) + int(L/6) further
on. On a loss that never falls it returns the lowest rate, which is why it only checks here and never decides. We add a
resolution: on a curve without noise every step of a flat plateau falls by a tiny amount and would count as a valley.
"""

import numpy as np


def valley_index(losses: np.ndarray, *, resolution: float) -> int:
    """Return the position of the valley rule's suggestion.

    losses: (n,) finite, in the order of rising rates, n at least 1. resolution: nats; a fall of this or less is no
    fall. 0 is the rule as published.
    """
    length, end = longest_decrease(losses, resolution=resolution)
    return max(0, end - length) + int(length / 3) + int(length / 6)


def longest_decrease(losses: np.ndarray, *, resolution: float) -> tuple[int, int]:
    """Return the length of the longest subsequence in which each member is lower than the one before it, and its end.

    Lower by more than the resolution. The end is the first position at which one of that length ends. The time is
    O(n²), for a few hundred steps.
    """
    lengths = np.ones(len(losses), dtype=np.int64)
    for position in range(1, len(losses)):
        higher = losses[:position] - losses[position] > resolution
        lengths[position] += max(lengths[:position][higher], default=0)
    end = int(np.argmax(lengths))
    return int(lengths[end]), end
