"""What fits into a time: so many networks, so long, with or without a range test.

The order in which time is worth something was measured (docs/budget.md): first one network, without one of the folds,
up to its full length; then a range test for its rate; then networks without the other folds; then longer trainings.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

#: Images that a network is to see until its training has its full length, and the bounds of that length in epochs.
IMAGES_SEEN, EPOCHS = 16_000, (8, 24)
#: With fewer epochs than that a network is worse than the classifier on frozen features, and so many times the full
#: length gain nothing.
LEAST_EPOCHS, MOST_LENGTHS = 2, 3
#: Steps and images per step of a ramp of the range test.
RAMP_STEPS, RAMP_BATCH = 121, 32
#: A range test may take this share of the time of the trainings.
RAMP_SHARE = 0.15
#: Seconds that delivery, report and registration take beside their predictions.
FIXED_SECONDS = 14.0
#: Share of the time that is kept back, since a pace that was measured over a few seconds varies.
RESERVE = 0.04


@dataclass(frozen=True, kw_only=True)
class Work:
    """What a run has to do. teach: images that a network learns from; held_out: that it is scored on; tested: of the
    test split. folds: 0 in the design hold_out. views: in which images are scored. at_once: networks that train beside
    each other. needs_rate: whether a range test would be of use.

    training, scoring, start: seconds for an image that is trained on, for one view of an image that is scored, and to
    build a network.
    """

    teach: int
    held_out: int
    tested: int
    folds: int
    views: int
    at_once: int
    needs_rate: bool
    training: float
    scoring: float
    start: float

    @property
    def full_epochs(self) -> int:
        """The length at which another network is worth more than a longer training."""
        low, high = EPOCHS
        return min(max(round(IMAGES_SEEN / self.teach), low), high)

    @property
    def range_test(self) -> float:
        """Seconds of one ramp."""
        return self.start + RAMP_STEPS * RAMP_BATCH * self.training

    def afterwards(self, networks: int) -> float:
        """Seconds from the last training to the end of the run."""
        return FIXED_SECONDS + self.tested * self.scoring * (1 + networks * self.views)

    def epochs(self, networks: int, seconds: float) -> int:
        """Those of each of so many networks for which there is time."""
        rounds = math.ceil(networks / self.at_once)
        each = seconds / rounds - self.start - self.held_out * self.views * self.scoring
        return max(0, math.floor(each / (self.teach * self.training)))


@dataclass(frozen=True, kw_only=True)
class Allotment:
    """What is done in the time. epochs: of each network. why: in words."""

    networks: int
    epochs: int
    range_test: bool
    afterwards: float
    why: str


def allot(seconds: float, work: Work) -> Allotment:
    """Spend the seconds that are left of a run."""
    seconds *= 1 - RESERVE
    full = work.full_epochs
    for networks in range(max(work.folds, 1), 0, -1):
        left = seconds - work.afterwards(networks)
        tested = work.needs_rate and work.range_test <= RAMP_SHARE * left
        epochs = work.epochs(networks, left - work.range_test * tested)
        if epochs >= full or (networks == 1 and epochs >= LEAST_EPOCHS):
            most = MOST_LENGTHS * full
            return Allotment(
                networks=networks,
                epochs=min(epochs, most),
                range_test=tested,
                afterwards=work.afterwards(networks),
                why=_reason(networks, epochs, full, work),
            )
    return Allotment(
        networks=0,
        epochs=1,
        range_test=False,
        afterwards=work.afterwards(0),
        why=f"no time for a network of {LEAST_EPOCHS} epochs, so the classifier on frozen features is delivered",
    )


def _reason(networks: int, epochs: int, full: int, work: Work) -> str:
    if epochs < full:
        return f"one network first, up to {full} epochs; there is time for {epochs}"
    if networks < work.folds:
        return f"a network has {full} epochs or more before another one is trained"
    if epochs > MOST_LENGTHS * full:
        return f"more than {MOST_LENGTHS * full} epochs gain nothing; the rest of the time is not used"
    return "every fold has its network, and what is left of the time makes them longer"
