"""The interface of the samplers: from the trials so far to the next suggestion."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from components.search.space import Space
from components.search.trial import Suggestion, TrialRecord


@dataclass(frozen=True, kw_only=True)
class SamplerSettings:
    """The settings of a sampler.

    num_trials: all trials, the defaults' trial 0 included. max_epochs: length of a trial that is not stopped.
    grace_epochs: minimum length of a trial. folds: of the cross-validation at the last level, 0 for none.
    startup_trials: trials before an adaptive sampler adapts; None: the sampler's own number. portfolio: `hybrid`: the
    first trials after the defaults.
    """

    space: Space
    num_trials: int
    max_epochs: int
    grace_epochs: int
    folds: int
    startup_trials: int | None
    seed: int
    portfolio: tuple[Suggestion, ...] = ()


class Sampler(Protocol):
    """Suggests trials. A suggestion is a function of the settings, the number and the history alone.

    So a resumed search needs no other state, and with one trial at a time a search is reproducible.
    """

    def suggest(self, number: int, history: Sequence[TrialRecord]) -> Suggestion | Literal["wait", "done"]:
        """The trial with that number (1, 2, …; trial 0 are the defaults, which no sampler suggests).

        history: all trials so far in the order of their numbers, including running ones. "wait": ask again when a
        running trial has ended. "done": nothing is left to try, now and later.
        """
        ...
