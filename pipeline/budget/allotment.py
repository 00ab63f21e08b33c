"""What fits into a time: the size of the images, so many networks, so long, with or without a range test.

The order in which time is worth something was measured (docs/budget.md): first one network, without one of the folds,
up to its full length, at a smaller size if need be; then a range test for its rate; then networks without the other
folds; then longer trainings.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

#: Images that a network is to see until its training has its full length, and the bounds of that length in epochs.
IMAGES_SEEN, EPOCHS = 30_000, (12, 40)
#: With fewer epochs than that a network is worse than the classifier on frozen features, and so many times the full
#: length gain nothing.
LEAST_EPOCHS, MOST_LENGTHS = 2, 2
#: Steps of a ramp of the range test until it diverges, images per step; the share of the trainings' time for it.
RAMP_STEPS, RAMP_BATCH, RAMP_SHARE = 100, 32, 0.15
#: What an image costs in a training, in passes that score it: 5.5 on two CPU cores.
TRAINING_PASSES = 5.0
#: Shares of the time that is left, for further views of frozen features beside networks, and without any.
VIEWS_BESIDE_NETWORK, VIEWS_ALONE = 0.1, 0.75
#: Trainings begin at this share of the side, in whole steps of so many px, for this share of their steps.
GROW_FROM, SIDE_STEP, GROW_SHARE = 0.75, 32, 0.6
#: With fewer folds a network would learn from too few of the images.
LEAST_FOLDS = 5
#: Decay of the averaged weights that are scored and delivered, and the steps of a training from which they are: in a
#: shorter one the average still holds weights of high rates.
EMA_DECAY, EMA_STEPS = 0.99, 300
#: Seconds that delivery, report and registration take beside their predictions.
FIXED_SECONDS = 10.0
#: Share of the time that is kept back, since a pace that was measured over a few seconds varies.
RESERVE = 0.04


@dataclass(frozen=True, kw_only=True)
class Work:
    """What a run has to do. teach: images that a network learns from; held_out: that it is scored on; tested: of the
    test split. folds: 0 in the design hold_out. views: in which images are scored, frozen_views: by the classifier on
    frozen features. at_once: networks that train beside each other. needs_rate: whether a range test would be of use.
    sizes: sides that may be trained at, px, the largest first; the pace is of that.

    training, scoring, start: seconds for an image that is trained on, for one view of an image that is scored, and to
    build a network.
    """

    teach: int
    held_out: int
    tested: int
    folds: int
    frozen_views: int
    views: int
    at_once: int
    needs_rate: bool
    sizes: tuple[int, ...]
    training: float
    scoring: float
    start: float

    @property
    def full_epochs(self) -> int:
        """The length at which another network is worth more than a longer training."""
        low, high = EPOCHS
        return min(max(round(IMAGES_SEEN / self.teach), low), high)


@dataclass(frozen=True, kw_only=True)
class Allotment:
    """What is done in the time. size: px; grow_from: where trainings begin, None for the size itself. epochs: of each
    network. afterwards: seconds from the last training to the end. why: in words.
    """

    size: int
    grow_from: int | None
    networks: int
    epochs: int
    range_test: bool
    afterwards: float
    why: str


def allot(seconds: float, work: Work) -> Allotment:
    """Spend the seconds that are left of a run."""
    options = list(_options(seconds * (1 - RESERVE), work))
    full = next((one for one in options if one.epochs >= work.full_epochs), None)
    some = [one for one in options if one.networks == 1 and one.epochs >= LEAST_EPOCHS]
    if full is not None:
        return full
    if some:
        return some[-1]  # of the smallest images
    return Allotment(
        size=work.sizes[0],
        grow_from=None,
        networks=0,
        epochs=1,
        range_test=False,
        afterwards=_afterwards(work, 0, 1.0),
        why=f"no time for a network of {LEAST_EPOCHS} epochs, so the classifier on frozen features is delivered",
    )


def frozen_views(seconds: float, allowed: Collection[int], *, images: int, tested: int, scoring: float) -> int:
    """How many of the allowed numbers of views frozen features are averaged over. seconds: that are left of a run.

    They have a small share of the time where a network fits into the rest, else most of it. images: that are embedded.
    tested: of the test split, which are scored in as many views. scoring: seconds for a view of an image.
    """
    left, view = seconds - FIXED_SECONDS, (images + tested) * scoring
    network = scoring * (LEAST_EPOCHS * TRAINING_PASSES * images + max(allowed) * tested)
    share = VIEWS_BESIDE_NETWORK if network <= (1 - VIEWS_BESIDE_NETWORK) * left else VIEWS_ALONE
    return max(count for count in allowed if count == 1 or (count - 1) * view <= share * left)


def begins_at(size: int) -> int | None:
    """The side at which trainings with images of this size begin, px; None where it would be the size itself."""
    side = round(GROW_FROM * size / SIDE_STEP) * SIDE_STEP
    return side if SIDE_STEP < side < size else None


def smaller_size(size: int) -> int | None:
    """About half of the side, px; None where images are small already."""
    side = math.ceil(size / 2 / SIDE_STEP) * SIDE_STEP
    return side if size >= 160 else None


def _options(seconds: float, work: Work) -> Iterator[Allotment]:
    """The largest images first, of each size the most networks."""
    for size in work.sizes:
        pixels, begin = (size / work.sizes[0]) ** 2, begins_at(size)
        grown = 1.0 if begin is None else 1 - GROW_SHARE * (1 - (begin / size) ** 2)
        ramp = work.start + RAMP_STEPS * RAMP_BATCH * work.training * pixels
        for networks in range(max(work.folds, 1), 0, -1):
            afterwards = _afterwards(work, networks, pixels)
            left = seconds - afterwards
            tested = work.needs_rate and ramp <= RAMP_SHARE * left
            rounds = math.ceil(networks / work.at_once)
            each = (left - ramp * tested) / rounds - work.start
            each -= work.held_out * work.views * work.scoring * pixels
            epochs = max(0, math.floor(each / (work.teach * work.training * pixels * grown)))
            yield Allotment(
                size=size,
                grow_from=begin,
                networks=networks,
                epochs=min(epochs, MOST_LENGTHS * work.full_epochs),
                range_test=tested,
                afterwards=afterwards,
                why=_reason(networks, epochs, size, work),
            )


def _afterwards(work: Work, networks: int, pixels: float) -> float:
    return FIXED_SECONDS + work.tested * work.scoring * pixels * (work.frozen_views + networks * work.views)


def _reason(networks: int, epochs: int, size: int, work: Work) -> str:
    full, largest = work.full_epochs, work.sizes[0]
    smaller = "" if size == largest else f"images of {largest} px would leave it fewer epochs; "
    if epochs < full:
        return f"{smaller}one network comes first, with up to {full} epochs"
    if networks < work.folds:
        return f"{smaller}a network has {full} epochs before there is another one"
    if epochs > MOST_LENGTHS * full:
        return f"{smaller}more than {MOST_LENGTHS * full} epochs would gain nothing, so time is left"
    return f"{smaller}each fold has its network, and the rest of the time makes them longer"


def close_sizes(scores: Sequence[tuple[int, float, float | None]]) -> tuple[int, ...]:
    """The sides, the largest first, at which frozen features score as well as at the largest, up to its noise.

    scores: side, px, score, and lower end of its interval, of each.
    """
    ordered = sorted(scores, reverse=True)
    _, score, low = ordered[0]
    least = score if low is None else (score + low) / 2  # half of the way to a bound of 95 %: one standard error
    return tuple(side for position, (side, found, _) in enumerate(ordered) if not position or found >= least)
