"""What passes between a search's sampler, its scheduler and its journal: a suggestion, and what became of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

#: Coordinates by the key that they set: a position in [0, 1] for an interval, a value's index for a choice.
Point = Mapping[str, float | int]
#: running: begun and not ended, even if its worker is gone. stopped: by the scheduler, or since a budget was spent.
Status = Literal["running", "completed", "stopped", "diverged", "failed"]


@dataclass(frozen=True, kw_only=True)
class Suggestion:
    """A trial to be made.

    point: its coordinates in the space, empty where it has none (the defaults, outside the space). overrides: what it
    sets, by dotted path. epochs: its length if nothing stops it. seed: 0 starts as the defaults do, another number
    from another start and in another order of the images. fold: validated on that fold, and trained on the others of
    train and val; None: trained on train, validated on val. phase: what the sampler was at, for people to read.
    """

    point: Point
    overrides: Mapping[str, Any]
    epochs: int
    seed: int = 0
    fold: int | None = None
    phase: str = ""

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(kw_only=True)
class TrialRecord:
    """A trial from its suggestion to its end.

    scores: epoch → score, to maximise; nothing of an epoch in which it diverged. unstopped: the scheduler lets it run
    to its end whatever its scores are. seconds: its epochs took, those that a lost worker had to repeat counted again.
    message: of a failure. checkpoint: the last one, as the tuner names it, after `checkpoint_epoch`. metrics: epoch →
    what else its session told.
    """

    number: int
    suggestion: Suggestion
    unstopped: bool
    status: Status = "running"
    scores: dict[int, float] = field(default_factory=dict)
    seconds: float = 0.0
    seconds_at: dict[int, float] = field(default_factory=dict)
    message: str = ""
    checkpoint: str | None = None
    checkpoint_epoch: int = 0
    metrics: dict[int, dict[str, float]] = field(default_factory=dict)

    @property
    def epochs(self) -> int:
        """The last epoch that has a score; 0 for none."""
        return max(self.scores, default=0)

    @property
    def score(self) -> float | None:
        """The last score; None of a trial that failed or diverged, or has none."""
        if self.status in ("failed", "diverged") or not self.scores:
            return None
        return self.scores[self.epochs]

    @property
    def ended(self) -> bool:
        return self.status != "running"


def best_trial(history: Sequence[TrialRecord]) -> int | None:
    """The best final score among the completed trials of the greatest length that any trial was meant to have.

    Where none of them was completed: the best last score among the trials that came furthest. Of equals the earlier;
    None where no trial has a score that counts. Trials that diverged or failed never do, nor those on a fold.
    """
    whole = [record for record in history if record.suggestion.fold is None]
    longest = max((record.suggestion.epochs for record in whole), default=0)
    scored = [(record.score, record) for record in whole if record.ended and record.score is not None]
    candidates = [(s, r) for s, r in scored if r.status == "completed" and r.suggestion.epochs == longest]
    if not candidates:
        furthest = max((record.epochs for _, record in scored), default=0)
        candidates = [(score, record) for score, record in scored if record.epochs == furthest]
    return max(candidates, key=lambda pair: (pair[0], -pair[1].number))[1].number if candidates else None
