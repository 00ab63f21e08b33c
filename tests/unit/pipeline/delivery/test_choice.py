"""What is delivered: of made scores and latencies, so that every answer can be worked out by hand.

A network takes 1 ms for a view, the classifier on frozen features half a millisecond.
"""

import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from components.errors import InputError
from pipeline.config import ServingConfig
from pipeline.delivery.choice import choose

COUNT = 400
TRUTH = np.where(np.arange(COUNT) % 2 == 0, 1.0, -1.0)


def fake(*, folds: int = 3) -> SimpleNamespace:
    learner = SimpleNamespace(device=SimpleNamespace(target=torch.device("cpu")))
    return SimpleNamespace(
        counts=(1, 2, 4),
        data=SimpleNamespace(folds=folds, classes=("bad", "good")),
        trained=[None] * max(1, folds),
        learner=learner,
        latency=lambda count, counts, *, threads: {views: float(count * views) for views in counts},
        frozen_member=lambda part: "frozen",
        latency_with=lambda member, count, views, *, threads: count * views + 0.5,
    )


@pytest.fixture
def scored(unseen):
    """Four views and a classifier that all err on their own."""
    noise = np.random.default_rng(0).normal(size=(5, COUNT))
    return unseen(TRUTH + 3 * noise[:4], TRUTH + 1.5 * noise[4])


def test_without_a_limit_all_networks_are_delivered_with_the_views_that_gain_and_the_frozen_features(
    scored, scorer
) -> None:
    found = choose(fake(), scored, scorer, None, ServingConfig(), threads=2)
    assert (found.deliver, found.assembly.views) == ("ensemble", 4)
    assert found.assembly.frozen > 0
    record = json.loads(json.dumps(found.record))
    assert record["latency_ms"] == {
        "ensemble": {"1": 3, "2": 6, "4": 12}, "single": {"1": 1, "2": 2, "4": 4},
        "delivered": 12.5, "threads": 2, "device": "cpu", "limit": None,
    }  # fmt: skip
    assert [row["views"] for row in record["compared_views"]] == [1, 2, 4]
    assert record["deliver"] == "ensemble"


@pytest.mark.parametrize(
    ("limit", "deliver", "views", "delivered"),
    [
        (12.5, "ensemble", 4, 12.5),
        (12.4, "ensemble", 4, 12.0),  # no room for the frozen features
        (11.9, "ensemble", 2, 6.5),
        (3.0, "ensemble", 1, 3.0),
        (2.9, "single", 2, 2.5),
        (1.2, "single", 1, 1.0),
    ],
)
def test_a_limit_takes_views_first_then_networks(scored, scorer, limit, deliver, views, delivered) -> None:
    found = choose(fake(), scored, scorer, None, ServingConfig(max_latency_ms=limit), threads=1)
    assert (found.deliver, found.assembly.views) == (deliver, views)
    assert found.latency["delivered"] == delivered
    assert (found.assembly.frozen > 0) == (delivered % 1 > 0)


@pytest.mark.parametrize(("deliver", "cost"), [("auto", 1), ("single", 1), ("ensemble", 3)])
def test_a_limit_that_nothing_meets_is_refused_with_the_fastest(scored, scorer, deliver, cost) -> None:
    serving = ServingConfig(max_latency_ms=0.9, deliver=deliver)
    with pytest.raises(
        InputError, match=rf"max_latency_ms=0\.9.*the fastest, 1 view, takes {cost} ms.*no network is tr"
    ):
        choose(fake(), scored, scorer, None, serving, threads=1)


def test_an_ensemble_of_one_split_is_refused(scored, scorer) -> None:
    with pytest.raises(InputError, match=r"^serving\.deliver=ensemble: .*set data\.design to cross_fit"):
        choose(fake(folds=0), scored, scorer, None, ServingConfig(deliver="ensemble"), threads=1)


def test_what_is_asked_for_is_delivered(scored, scorer) -> None:
    single = choose(fake(), scored, scorer, None, ServingConfig(deliver="single", blend="never"), threads=1)
    assert (single.deliver, single.assembly.views, single.latency["delivered"]) == ("single", 4, 4.0)
    assert single.record["blend"] is None
    alone = fake()
    alone.trained = alone.trained[:1]
    found = choose(alone, scored, scorer, None, ServingConfig(blend="never"), threads=1)
    assert (found.deliver, found.latency["delivered"]) == ("ensemble", 4.0)  # of one network
    one_view = choose(fake(), scored, scorer, None, ServingConfig(views=1), threads=1)
    assert (one_view.deliver, one_view.assembly.views) == ("ensemble", 1)
    assert [row["views"] for row in one_view.record["compared_views"]] == [1]


def test_views_that_the_chosen_recipe_does_not_allow_are_refused_with_those_it_does(scored, scorer) -> None:
    with pytest.raises(InputError, match=r"serving\.views=8: .* allows 1, 2, 4 only"):
        choose(fake(), scored, scorer, None, ServingConfig(views=8), threads=1)


def test_the_design_hold_out_has_one_network(scored, scorer) -> None:
    found = choose(fake(folds=0), scored, scorer, None, ServingConfig(), threads=1)
    assert (found.deliver, found.assembly.views) == ("single", 4)
    assert "ensemble" not in found.latency


def test_frozen_features_that_are_not_known_of_all_images_stay_out(unseen, scorer) -> None:
    known = TRUTH.copy()
    known[0] = np.nan
    found = choose(fake(), unseen(TRUTH + np.zeros((4, COUNT)), known), scorer, None, ServingConfig(), threads=1)
    assert (found.assembly.frozen, found.assembly.views, found.latency["delivered"]) == (0.0, 1, 3.0)
    assert found.record["blend"]["reason"].startswith("it has no score of 1 of the 400 images")


def test_frozen_features_that_the_limit_keeps_out_are_named_with_what_they_would_cost(scored, scorer) -> None:
    found = choose(fake(), scored, scorer, None, ServingConfig(max_latency_ms=12.4), threads=1)
    assert found.record["blend"] == {
        "taken": False,
        "reason": "with it an image would take 12.5 ms, more than serving.max_latency_ms=12.4",
    }
