"""Layer-wise rates: baked into lr, in either direction, and the classifier apart from the body."""

import math

import pytest
import timm.optim
from torch import nn

from components.errors import InputError
from components.optim.layerwise import LayerRates, head_modules, parameter_groups


@pytest.fixture(scope="module")
def resnet():
    return timm.create_model("test_resnet", num_classes=2)


def grouped(model, *, lr=0.1, weight_decay=0.01, layer_decay=1.0, towards="input", head_ratio=1.0):
    layers = LayerRates(layer_decay=layer_decay, towards=towards, head_ratio=head_ratio)
    return parameter_groups(model, lr=lr, weight_decay=weight_decay, layers=layers)


def group_of(groups, parameter):
    return next(group for group in groups if any(p is parameter for p in group["params"]))


def plain():
    return nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.Conv2d(4, 4, 1), nn.Flatten(), nn.Linear(4, 2))


def test_the_classifier_has_the_full_rate_and_the_stem_the_smallest(resnet):
    groups = grouped(resnet, layer_decay=0.5)
    rates = [group["lr"] for group in groups]
    assert group_of(groups, resnet.get_classifier().weight)["lr"] == pytest.approx(0.1)
    assert group_of(groups, next(resnet.parameters()))["lr"] == min(rates) < 0.1
    # each layer's rate is a power of the decay
    assert all(math.log2(rate / 0.1) % 1 == pytest.approx(0, abs=1e-9) for rate in rates)


def test_towards_the_output_the_order_is_turned_round(resnet):
    inwards, outwards = grouped(resnet, layer_decay=0.5), grouped(resnet, layer_decay=0.5, towards="output")
    least = min(group["lr"] for group in inwards)
    for parameter in resnet.parameters():
        # powers of the decay that add up to the number of layers
        product = group_of(inwards, parameter)["lr"] * group_of(outwards, parameter)["lr"]
        assert product == pytest.approx(0.1 * least)
    assert group_of(outwards, next(resnet.parameters()))["lr"] == pytest.approx(0.1)


def test_nothing_is_left_for_timm_to_apply(resnet):
    assert all("lr_scale" not in group for group in grouped(resnet, layer_decay=0.7, head_ratio=3.0))


def test_the_decay_is_that_of_timm(resnet):
    theirs = timm.optim.param_groups_layer_decay(resnet, weight_decay=0.01, layer_decay=0.7)
    ours = grouped(resnet, layer_decay=0.7)
    for group in theirs:
        for parameter in group["params"]:
            mine = group_of(ours, parameter)
            assert mine["lr"] == pytest.approx(0.1 * group["lr_scale"])
            assert mine["weight_decay"] == group["weight_decay"]


def test_a_decay_of_one_gives_every_layer_the_same_rate(resnet):
    groups = grouped(resnet)
    assert {group["lr"] for group in groups} == {0.1}
    assert [group["name"] for group in groups] == ["body", "body_no_decay", "head", "head_no_decay"]


def test_the_head_alone_gets_its_ratio(resnet):
    for group in grouped(resnet, head_ratio=10.0):
        assert group["lr"] == pytest.approx(1.0 if group["part"] == "head" else 0.1)
    head = [parameter for group in grouped(resnet) if group["part"] == "head" for parameter in group["params"]]
    assert {id(parameter) for parameter in head} == {
        id(parameter) for parameter in resnet.get_classifier().parameters()
    }


@pytest.mark.parametrize("layer_decay", [1.0, 0.8])
@pytest.mark.parametrize("name", ["test_resnet", "test_efficientnet", "test_vit"])
def test_every_trainable_parameter_is_in_one_group_and_every_group_has_a_name_of_its_own(name, layer_decay):
    model = timm.create_model(name, num_classes=2)
    groups = grouped(model, layer_decay=layer_decay)
    found = [id(parameter) for group in groups for parameter in group["params"]]
    assert sorted(found) == sorted(id(parameter) for parameter in model.parameters())
    names = [group["name"] for group in groups]
    assert len(set(names)) == len(names)
    assert names == [group["name"] for group in grouped(model, weight_decay=0.0, layer_decay=layer_decay)]


def test_vectors_and_what_the_model_exempts_do_not_decay():
    vit = timm.create_model("test_vit", num_classes=2)
    groups = grouped(vit)
    assert group_of(groups, vit.pos_embed)["weight_decay"] == 0.0
    for group in groups:
        assert all(
            (group["weight_decay"] == 0.01) == (p.ndim > 1)
            for p in group["params"]
            if p is not vit.pos_embed
            and p is not getattr(vit, "cls_token", None)
            and p is not getattr(vit, "reg_token", None)
        )


def test_a_plain_module_counts_its_matrices_as_layers_and_the_last_as_its_head():
    model = plain()
    groups = grouped(model, layer_decay=0.5, head_ratio=4.0)
    rates = [group_of(groups, model[i].weight)["lr"] for i in (0, 1, 2, 4)]
    assert rates == pytest.approx([0.025, 0.025, 0.05, 0.4])
    assert [group["name"] for group in groups][:4] == ["body_0", "body_0_no_decay", "body_1", "body_1_no_decay"]
    assert head_modules(model) == [model[4]]


def test_a_model_without_a_classifier_ends_with_its_last_layer():
    headless = timm.create_model("test_resnet", num_classes=0)
    parts = [group["part"] for group in grouped(headless)]
    assert {"head", "body"} == set(parts)
    assert head_modules(nn.ReLU()) == []


def test_a_model_without_anything_to_train_is_refused():
    with pytest.raises(InputError, match="requires a gradient"):
        grouped(nn.Linear(2, 2).requires_grad_(False))
