"""What one image costs, and the choice among models: the limit first, then noise, then speed."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from components.errors import InputError
from components.models.forward import Ensemble, MemberModel, Preprocessing
from components.serving import latency
from components.serving.latency import Candidate, choose_delivery, latency_ms

NOISE = np.array([-1.0, 1.0])
"""Resampled scores with a standard deviation of 1."""


def candidate(name: str, score: float, latency_ms: float, *, noise: float = 0.0) -> Candidate:
    return of(name, round(1000 * latency_ms), latency_ms, (score, score + noise * NOISE))


def of(name: str, passes: int, latency_ms: float, *measures: tuple[float, np.ndarray]) -> Candidate:
    """measures: each a score, and the same on two resamples."""
    scores, resampled = zip(*measures, strict=True)
    return Candidate(
        name=name, passes=passes, scores=np.array(scores), resampled=np.stack(resampled, axis=1), latency_ms=latency_ms
    )


def chosen(*candidates: Candidate, limit_ms: float | None = None) -> str:
    return choose_delivery(candidates, limit_ms=limit_ms).name


def test_without_noise_and_limit_the_best_is_delivered() -> None:
    assert chosen(candidate("one", 0.90, 2), candidate("three", 0.93, 6), candidate("two", 0.92, 4)) == "three"


def test_the_limit_leaves_the_slower_ones_out_and_holds_for_the_very_value() -> None:
    models = candidate("one", 0.90, 2), candidate("three", 0.93, 6), candidate("two", 0.92, 4)
    assert chosen(*models, limit_ms=6.0) == "three"
    assert chosen(*models, limit_ms=5.9) == "two"
    assert chosen(*models, limit_ms=2) == "one"


def test_the_fewest_passes_within_one_standard_error_of_the_best_are_delivered() -> None:
    best = candidate("eight views", 0.930, 16)
    assert chosen(best, candidate("one view", 0.925, 2, noise=0.0051)) == "one view"
    assert chosen(best, candidate("one view", 0.925, 2, noise=0.0049)) == "eight views"
    four = candidate("four views", 0.928, 8, noise=0.003)
    assert chosen(best, four, candidate("one view", 0.925, 2, noise=0.004)) == "four views"


def test_noise_that_two_models_share_is_no_reason_to_take_the_worse() -> None:
    """The difference is what counts: the same images are hard for both."""
    shared = 0.05 * NOISE
    models = [
        of("better", 8, 8, (0.93, 0.93 + shared)),
        of("worse", 1, 1, (0.92, 0.92 + shared)),
    ]
    assert choose_delivery(models, limit_ms=None).name == "better"


def test_noise_is_counted_from_the_best_that_the_limit_allows() -> None:
    slow, middle = candidate("slow", 0.95, 50, noise=1.0), candidate("middle", 0.92, 9)
    assert chosen(slow, middle, candidate("fast", 0.90, 3, noise=0.01), limit_ms=10) == "middle"


def test_measured_milliseconds_choose_nothing_but_the_limit() -> None:
    one, two = of("one view", 1, 7, (0.9, 0.9 + NOISE)), of("two views", 2, 6, (0.9, 0.9 - NOISE))
    assert chosen(one, two) == "one view"
    assert chosen(one, two, limit_ms=6.5) == "two views"


def test_of_equally_fast_ones_the_better_is_delivered() -> None:
    assert chosen(candidate("a", 0.91, 3, noise=1), candidate("b", 0.92, 3), candidate("c", 0.90, 3, noise=1)) == "b"


def test_a_candidate_has_to_be_within_noise_by_each_measure() -> None:
    alike = (0.9, 0.9 + NOISE)
    one = of("one view", 1, 1, alike, (-0.5, np.full(2, -0.5)))
    eight = of("eight views", 8, 8, (0.89, 0.89 - NOISE), (-0.4, np.full(2, -0.4)))
    assert chosen(one, eight) == "eight views"
    assert chosen(one, of("two views", 2, 2, alike, (-0.5, np.full(2, -0.5)))) == "one view"
    behind = of("eight views", 8, 8, (0.8, np.full(2, 0.8) + NOISE), (-0.4, np.full(2, -0.4)))
    assert chosen(one, behind) == "one view"  # none is close by both: the first measure decides


def test_a_limit_that_nothing_meets_is_refused_with_the_fastest_and_the_remedy() -> None:
    models = candidate("three networks", 0.93, 31.234), candidate("one network", 0.91, 12.345)
    with pytest.raises(InputError) as caught:
        choose_delivery(models, limit_ms=5)
    assert str(caught.value) == (
        "serving.max_latency_ms=5: nothing meets it; the fastest, one network, takes 12.3 ms for an image on this "
        "machine; raise the limit or serving.num_threads, for which no network is trained again; or choose a smaller "
        "model.backbone or recipe.image_size, or, where frozen features alone are delivered, fewer embed.views"
    )


class Watching(nn.Module):
    """Counts the passes, and notes the shapes and the number of threads."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[int, ...]] = []

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        self.seen.append((*images.shape, torch.get_num_threads()))
        return images.mean((2, 3))


@pytest.fixture
def watching() -> Watching:
    return Watching()


def ensemble(model: nn.Module, views: tuple[int, ...]) -> Ensemble:
    preprocessing = Preprocessing.from_unit_scale((0.5,) * 3, (0.5,) * 3, size=8)
    return Ensemble((MemberModel(model, preprocessing, "float32", 1.0, views),))


def test_the_latency_is_of_one_image_in_all_its_views_on_the_threads_asked_for(watching: Watching) -> None:
    before = torch.get_num_threads()
    assert latency_ms(ensemble(watching, (0, 4)), side=16, threads=before + 1, repeats=3) > 0
    assert watching.seen == [(2, 3, 8, 8, before + 1)] * (latency.WARMUP + 3)
    assert torch.get_num_threads() == before


def test_the_latency_is_the_median_in_milliseconds_without_the_first_passes(watching: Watching, monkeypatch) -> None:
    seconds = [9.0] * latency.WARMUP + [0.004, 0.002, 0.5]
    readings = iter([reading for duration in seconds for reading in (0.0, duration)])
    monkeypatch.setattr(latency, "time", SimpleNamespace(perf_counter=lambda: next(readings)))
    assert latency_ms(ensemble(watching, (0,)), side=8, threads=1, repeats=3) == pytest.approx(4.0)


def test_the_number_of_threads_is_restored_after_a_failure(watching: Watching, monkeypatch) -> None:
    before = torch.get_num_threads()
    monkeypatch.setattr(watching, "forward", lambda images: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        latency_ms(ensemble(watching, (0,)), side=8, threads=before + 1, repeats=1)
    assert torch.get_num_threads() == before
