"""How long a model takes for one image, and which of several models to deliver for it."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch

from components.errors import InputError
from components.models.forward import Ensemble

WARMUP, REPEATS = 5, 10
"""Passes before the timed ones, and as many timed ones as a choice needs."""


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A model that could be delivered.

    name: in words, for messages. passes: of a network for one image, its cost apart from the machine. scores: (M,) by
    several measures, the higher the better. resampled: (R, M) the scores on R resamples of the images, the same
    resamples for all candidates, so that differences are paired. latency_ms: for one image.
    """

    name: str
    passes: int
    scores: np.ndarray
    resampled: np.ndarray
    latency_ms: float


def latency_ms(ensemble: Ensemble, *, side: int, threads: int, repeats: int) -> float:
    """Median milliseconds for one image, from its pixels on this machine to its logits there, all views included.

    side: of the framed square, px. threads: of the CPU; without effect for a model on a GPU. repeats: timed passes.
    """
    pixels = torch.zeros(1, 3, side, side, dtype=torch.uint8)
    times = []
    with _threads(threads):
        for _ in range(WARMUP + repeats):
            started = time.perf_counter()
            ensemble.logits(pixels.to(ensemble.device)).cpu()
            times.append(time.perf_counter() - started)
    return 1000 * statistics.median(times[WARMUP:])


def choose_delivery(candidates: Sequence[Candidate], *, limit_ms: float | None) -> Candidate:
    """Of the candidates within the limit that are within noise of the best of them by each measure, the one with the
    fewest passes; where none is, the best by the first measure.

    Noise is one standard error of the paired difference (the rule of Breiman et al., Classification and Regression
    Trees, 1984, section 3.4.3). Of equal ones the better by the first measure is taken. Milliseconds vary from run to
    run, and would choose otherwise each time. limit_ms: None for none.

    Raises InputError: no candidate is within the limit.
    """
    allowed = [one for one in candidates if limit_ms is None or one.latency_ms <= limit_ms]
    if not allowed:
        fastest = min(candidates, key=lambda one: one.latency_ms)
        raise InputError(
            f"serving.max_latency_ms={limit_ms:g}: nothing meets it; the fastest, {fastest.name}, takes "
            f"{fastest.latency_ms:.3g} ms for an image on this machine; raise the limit or serving.num_threads, for "
            "which no network is trained again; or choose a smaller model.backbone or recipe.image_size, or, where "
            "frozen features alone are delivered, fewer embed.views"
        )
    best = [max(allowed, key=lambda one: one.scores[measure]) for measure in range(len(allowed[0].scores))]
    close = [one for one in allowed if all(_close(one, to, measure) for measure, to in enumerate(best))]
    return min(close or best[:1], key=lambda one: (one.passes, -one.scores[0]))


def _close(one: Candidate, best: Candidate, measure: int) -> bool:
    noise = float(np.std(best.resampled[:, measure] - one.resampled[:, measure]))
    return bool(best.scores[measure] - one.scores[measure] <= noise)


@contextmanager
def _threads(count: int) -> Iterator[None]:
    """PyTorch's number of CPU threads, for as long as this lasts."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
