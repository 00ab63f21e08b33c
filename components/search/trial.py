"""A suggested trial and its record, as the sampler, the scheduler and the journal share them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

#: Coordinates by key: a position in [0, 1] for an interval, the index of a value for a choice.
Point = Mapping[str, float | int]
#: running: started and not ended, even if its worker is lost. stopped: by the scheduler, or since a budget was spent.
Status = Literal["running", "completed", "stopped", "diverged", "failed"]


@dataclass(frozen=True, kw_only=True)
class Suggestion:
    """A trial to run.

    point: its coordinates, empty where it is outside of the space (as the defaults may be). overrides: its settings by
    dotted path. epochs: its length if nothing stops it. seed: 0 is the seed of the defaults; another number gives
    another initialisation and order of the images. fold: validate on this fold, and train on the others of train and
    val; None: train on train, validate on val. phase: the phase of the sampler, for display.
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

    scores: epoch → score, to maximise; without an epoch in which it diverged. unstopped: the scheduler never stops it.
    seconds: of all its epochs, repeated ones included. message: of a failure. checkpoint: folder or URI of the last
    one, after `checkpoint_epoch`. metrics: epoch → other metrics of its session.
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
        """The last epoch with a score; 0 for none."""
        return max(self.scores, default=0)

    @property
    def score(self) -> float | None:
        """The last score; None for a trial that failed or diverged, or has none."""
        if self.status in ("failed", "diverged") or not self.scores:
            return None
        return self.scores[self.epochs]

    @property
    def ended(self) -> bool:
        return self.status != "running"


def best_trial(history: Sequence[TrialRecord]) -> int | None:
    """The number of the trial with the best final score among the completed trials of the greatest planned length.

    If none of these is complete: with the best last score among the trials that reached the latest epoch. Of equals the
    earlier one; None without a score. Trials that diverged or failed, or ran on a fold, do not count.
    """
    whole = [record for record in history if record.suggestion.fold is None]
    longest = max((record.suggestion.epochs for record in whole), default=0)
    scored = [(record.score, record) for record in whole if record.ended and record.score is not None]
    candidates = [(s, r) for s, r in scored if r.status == "completed" and r.suggestion.epochs == longest]
    if not candidates:
        furthest = max((record.epochs for _, record in scored), default=0)
        candidates = [(score, record) for score, record in scored if record.epochs == furthest]
    return max(candidates, key=lambda pair: (pair[0], -pair[1].number))[1].number if candidates else None
