"""What every sampler does: from what has been tried to what is tried next."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from components.search.space import Space
from components.search.trial import Suggestion, TrialRecord


@dataclass(frozen=True, kw_only=True)
class SamplerSettings:
    """What a sampler has to know.

    num_trials: trials in all, the defaults' trial 0 among them. max_epochs: length of a trial that is not stopped.
    grace_epochs: of the shortest that means anything. folds: of the cross-validation at a sampler's last level, 0 for
    none. startup_trials: random trials before an adaptive sampler adapts; None: as many as suit it.
    """

    space: Space
    num_trials: int
    max_epochs: int
    grace_epochs: int
    folds: int
    startup_trials: int | None
    seed: int


class Sampler(Protocol):
    """Suggests trials. It keeps no state that `history` does not give: a resumed search needs nothing else.

    A suggestion is a function of the settings, the number and the history, so that one trial at a time, the same
    history leads to the same trials.
    """

    def suggest(self, number: int, history: Sequence[TrialRecord]) -> Suggestion | Literal["wait", "done"]:
        """The trial of that number (1, 2, …; trial 0 is the defaults', and not a sampler's to suggest).

        history: every trial so far in the order of their numbers, running ones among them. "wait": not before one that
        is running has ended. "done": nothing is left to try, which stays so.
        """
        ...
