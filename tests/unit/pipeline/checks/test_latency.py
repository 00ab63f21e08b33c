"""A latency limit that no model can meet is refused before anything starts; the times are made up."""

import pytest
import torch

from components.errors import InputError
from pipeline.checks import latency
from pipeline.checks.latency import check_latency
from pipeline.loading import load


@pytest.fixture(autouse=True)
def timed(monkeypatch):
    """What was timed. A view takes a millisecond for 16 px."""
    seen = []

    def measure(ensemble, *, side, threads, repeats):
        (member,) = ensemble.members
        ensemble.logits(torch.zeros(1, 3, side, side, dtype=torch.uint8))  # it can be served
        seen.append((side, threads, member.precision))
        return member.preprocessing.size / 16 * len(member.views)

    monkeypatch.setattr(latency, "latency_ms", measure)
    return seen


def check(limit: float, **overrides: object) -> None:
    settings = {"serving.max_latency_ms": limit, "model.backbone": "test_resnet"} | overrides
    check_latency(load("smoke", {key: str(value) for key, value in settings.items()}), threads=2)


def test_the_least_that_can_be_delivered_must_be_within_the_limit(timed) -> None:
    check(3.0)
    assert timed == [(48, 2, "float32")]
    with pytest.raises(InputError, match=r"max_latency_ms=2\.9: nothing meets it; the fastest, one test_resnet at 48"):
        check(2.9)


def test_a_smaller_size_or_backbone_that_may_be_found_counts(timed) -> None:
    check(2.0, **{"search.space": "[{sets: recipe.image_size, choices: [32, 48]}]"})
    check(3.0, **{"embed.backbones": "[test_resnet, test_efficientnet]"})
    assert len(timed) == 3


def test_both_precisions_are_timed_where_it_is_not_known_which_is_trained(timed, monkeypatch) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"amx_bf16": True})
    check(3.0, **{"recipe.precision": "auto", "compute.device": "cpu"})
    assert [precision for _, _, precision in timed] == ["float32", "bfloat16"]


def test_views_that_are_asked_for_are_all_timed() -> None:
    augmented = {"serving.views": 2, "recipe.augment": "[horizontal_flip]"}
    check(6.0, **augmented)
    with pytest.raises(InputError, match=r"at 48 px, 2 views, takes 6 ms"):
        check(5.9, **augmented)
