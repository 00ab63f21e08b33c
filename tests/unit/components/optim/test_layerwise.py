"""Layer-wise rates: baked into lr, smaller towards the input, and kept by torch's schedules."""

import pytest
import timm
import torch
from torch import nn

from components.errors import InputError
from components.optim.layerwise import parameter_groups


@pytest.fixture(scope="module")
def resnet():
    return timm.create_model("test_resnet", num_classes=2)


def rate_of(groups, parameter):
    return next(group["lr"] for group in groups if any(p is parameter for p in group["params"]))


def test_the_classifier_has_the_full_rate_and_the_stem_the_smallest(resnet):
    groups = parameter_groups(resnet, lr=0.1, weight_decay=0.01, layer_decay=0.5)
    rates = [group["lr"] for group in groups]
    assert rate_of(groups, resnet.get_classifier().weight) == pytest.approx(0.1)
    assert rate_of(groups, next(resnet.parameters())) == min(rates) < 0.1
    # each layer's rate is a power of the decay
    assert all(torch.log2(torch.tensor(rate / 0.1)).item() % 1 == pytest.approx(0, abs=1e-5) for rate in rates)


def test_the_ratio_is_remembered_and_nothing_is_left_for_timm_to_apply(resnet):
    for group in parameter_groups(resnet, lr=0.1, weight_decay=0.01, layer_decay=0.7):
        assert group["lr"] == pytest.approx(0.1 * group["lr_ratio"])
        assert "lr_scale" not in group


def test_a_decay_of_one_gives_every_layer_the_same_rate(resnet):
    groups = parameter_groups(resnet, lr=0.1, weight_decay=0.01, layer_decay=1.0)
    assert {group["lr"] for group in groups} == {0.1}
    assert {group["lr_ratio"] for group in groups} == {1.0}


@pytest.mark.parametrize("layer_decay", [1.0, 0.8])
def test_every_trainable_parameter_is_in_one_group(resnet, layer_decay):
    groups = parameter_groups(resnet, lr=0.1, weight_decay=0.01, layer_decay=layer_decay)
    grouped = [id(parameter) for group in groups for parameter in group["params"]]
    assert sorted(grouped) == sorted(id(parameter) for parameter in resnet.parameters())


def test_a_model_without_anything_to_train_is_refused():
    model = nn.Linear(2, 2).requires_grad_(False)
    with pytest.raises(InputError, match="requires a gradient"):
        parameter_groups(model, lr=0.1, weight_decay=0.0, layer_decay=1.0)
