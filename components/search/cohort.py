"""Successive halving of the first few trials of a search, all at once (Jamieson and Talwalkar, arXiv 1502.07943).

ASHA judges a trial by those that came to its rung before it. With a handful of trials too many go on, since the first
have nothing to be compared with. So the first trials wait for each other at the first rung.
"""

from __future__ import annotations


class Cohort:
    """The trials 0 … size − 1: after the epoch `rung` they wait until each has come there or ended, and the best one in
    `factor` of them go on.
    """

    def __init__(self, size: int, *, rung: int, factor: int) -> None:
        self._size, self.rung, self._factor = size, rung, factor
        self._scores: dict[int, float] = {}

    def __contains__(self, number: int) -> bool:
        return number < self._size

    def arrive(self, number: int, score: float) -> None:
        """Record a trial's score at the rung, or the worst score of one that ended before it. The first one counts."""
        self._scores.setdefault(number, score)

    def verdict(self, number: int) -> bool | None:
        """Whether a trial goes on beyond the rung; None before all have come to it. Of equals the earlier one does."""
        if len(self._scores) < self._size:
            return None
        ranked = sorted(self._scores, key=lambda number: (-self._scores[number], number))
        return number in ranked[: max(1, self._size // self._factor)]
