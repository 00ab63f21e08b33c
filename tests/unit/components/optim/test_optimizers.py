"""Every optimizer: what it is built with, that it learns, and which parameters decay."""

import pytest
import torch
from torch import nn

from components.errors import InputError
from components.optim.optimizers import OPTIMIZERS, build_optimizer


def small_model() -> nn.Module:
    model = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 2))
    with torch.no_grad():
        for number, parameter in enumerate(model.parameters()):
            parameter.copy_(torch.linspace(-0.5, 0.5, parameter.numel()).view_as(parameter) + 0.01 * number)
    return model


def build(name="adamw", model=None, **changes):
    settings = {"lr": 1e-3, "weight_decay": 0.01, "layer_decay": 1.0} | changes
    return build_optimizer(model or small_model(), name=name, **settings)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_each_optimizer_lowers_a_simple_loss_at_its_default_rate(name):
    model = small_model()
    images, target = torch.eye(4), torch.tensor([0, 1, 0, 1])
    optimizer = build(name, model, lr=OPTIMIZERS[name].default_lr)
    losses = []
    for _ in range(30):
        loss = nn.functional.cross_entropy(model(images), target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < losses[0]


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_the_defaults_lie_inside_the_ramp_and_in_order(name):
    spec = OPTIMIZERS[name]
    low, high = spec.default_bounds
    assert spec.ramp[0] < low < spec.default_lr < high < spec.ramp[1]
    assert spec.ramp[1] / spec.ramp[0] == pytest.approx(1e6)
    assert spec.name == name


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_norms_and_biases_do_not_decay(name):
    groups = build(name, weight_decay=0.05).param_groups
    for group in groups:
        assert group["weight_decay"] == (0.05 if group["params"][0].ndim > 1 else 0.0)
    assert sum(len(group["params"]) for group in groups) == 6


def test_sgd_has_nesterov_momentum():
    group = build("sgd").param_groups[0]
    assert (group["momentum"], group["nesterov"]) == (0.9, True)


def test_frozen_parameters_are_left_out():
    model = small_model()
    model[0].requires_grad_(False)
    assert sum(len(group["params"]) for group in build(model=model).param_groups) == 4


def test_an_unknown_name_lists_the_known_ones():
    with pytest.raises(InputError, match=r"recipe.optimizer='lion'.*sgd, adam, adamw, rmsprop, adagrad"):
        build("lion")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"lr": 0.0}, "recipe.lr=0.0"),
        ({"lr": float("nan")}, "recipe.lr=nan"),
        ({"weight_decay": -1.0}, "recipe.weight_decay=-1.0"),
        ({"layer_decay": 0.0}, "recipe.layer_decay=0.0"),
        ({"layer_decay": 1.1}, "recipe.layer_decay=1.1"),
    ],
)
def test_a_value_outside_its_range_is_refused_with_its_key(changes, said):
    with pytest.raises(InputError, match=said):
        build(**changes)
