"""The valley rule of fastai's LR finder, as a cross-check from another way of reading the same curve.

Rule as fastai states it (github.com/fastai/fastai, `callback.schedule.valley`), written anew: take the longest
strictly decreasing subsequence of the losses, of length L and ending at e; its window starts at e - L, and the
suggestion is int(L/3) + int(L/6) further on. On a loss that never falls it silently returns the lowest rate,
which is why it only checks here and never decides.
"""

import bisect
from collections.abc import Sequence


def valley_index(losses: Sequence[float]) -> int:
    """Return the position of the valley rule's suggestion.

    Args:
        losses: (n,) finite, in the order of rising rates, n at least 1.
    """
    length, end = longest_decrease(losses)
    return max(0, end - length) + int(length / 3) + int(length / 6)


def longest_decrease(values: Sequence[float]) -> tuple[int, int]:
    """Return the length of the longest strictly decreasing subsequence and the first position where one ends.

    Patience sorting, O(n log n): `tails[k]` is minus the largest value on which a subsequence of length k + 1 ends.
    """
    tails: list[float] = []
    longest, end = 0, 0
    for position, value in enumerate(values):
        place = bisect.bisect_left(tails, -value)
        if place == len(tails):
            tails.append(-value)
        else:
            tails[place] = -value
        if place + 1 > longest:
            longest, end = place + 1, position
    return longest, end
