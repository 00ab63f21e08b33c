"""Every optimizer: what it is built with, that it learns, and which names are refused with what words."""

import importlib.util

import pytest
import timm.optim
import torch
from torch import nn

from components.errors import InputError
from components.optim.layerwise import LayerRates
from components.optim.optimizers import OPTIMIZERS, batch_factor, build_optimizer, optimizer_spec

# One of each kind of timm's: trust ratios, signs, three momenta, orthogonal updates, factored moments, corrected decay.
OF_TIMM = ("lamb", "lion", "adan", "muon", "adafactor", "lars", "nadam", "sgdw", "madgrad", "adamc", "adadelta")


@pytest.fixture(autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def small_model() -> nn.Module:
    model = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 2))
    with torch.no_grad():
        for number, parameter in enumerate(model.parameters()):
            parameter.copy_(torch.linspace(-0.5, 0.5, parameter.numel()).view_as(parameter) + 0.01 * number)
    return model


def build(name="adamw", model=None, *, layer_decay=1.0, head_ratio=1.0, **changes):
    layers = LayerRates(layer_decay=layer_decay, towards="input", head_ratio=head_ratio)
    settings = {"lr": 1e-3, "weight_decay": 0.01, "layers": layers} | changes
    return build_optimizer(model or small_model(), name=name, **settings)


@pytest.mark.parametrize("name", [*OPTIMIZERS, *OF_TIMM])
def test_each_optimizer_lowers_a_simple_loss_at_its_default_rate(name):
    model = small_model()
    images, target = torch.eye(4), torch.tensor([0, 1, 0, 1])
    spec = optimizer_spec(name)
    optimizer = build(name, model, lr=spec.default_lr)
    if spec.schedule_free:
        optimizer.train()
    losses = []
    for _ in range(30):
        loss = nn.functional.cross_entropy(model(images), target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < losses[0]


@pytest.mark.parametrize("name", [*OPTIMIZERS, *OF_TIMM])
def test_the_defaults_lie_inside_the_ramp_and_in_order(name):
    spec = optimizer_spec(name)
    low, high = spec.default_bounds
    assert spec.ramp[0] < low < spec.default_lr < high < spec.ramp[1]
    assert spec.ramp[1] / spec.ramp[0] == pytest.approx(1e6)
    assert spec.name == name


@pytest.mark.parametrize("name", [*OPTIMIZERS, *OF_TIMM])
def test_rates_and_decay_of_the_groups_stay_ours(name):
    optimizer = build(name, weight_decay=0.05, layer_decay=0.5, head_ratio=3.0)
    for group in optimizer.param_groups:
        assert group["lr"] == pytest.approx(1e-3 * (3.0 if group["part"] == "head" else 0.5))
        assert group["weight_decay"] == (0.05 if group["params"][0].ndim > 1 else 0.0)
    assert sum(len(group["params"]) for group in optimizer.param_groups) == 6


@pytest.mark.parametrize(
    ("name", "momentum", "nesterov"), [("sgd", 0.9, True), ("momentum", 0.9, False), ("sgd_plain", 0, False)]
)
def test_the_three_kinds_of_sgd_differ_in_their_momentum(name, momentum, nesterov):
    group = build(name).param_groups[0]
    assert (group["momentum"], group["nesterov"]) == (momentum, nesterov)


def test_schedule_free_warms_up_through_the_schedule_alone():
    assert {name for name, spec in OPTIMIZERS.items() if spec.schedule_free} == {
        "schedulefree_adamw",
        "schedulefree_sgd",
    }
    assert build("schedulefree_sgd").param_groups[0]["warmup_steps"] == 0


@pytest.mark.parametrize(
    ("name", "family"),
    [
        ("sgd_plain", "sgd"),
        ("schedulefree_sgd", "sgd"),
        ("schedulefree_adamw", "adaptive"),
        ("nesterov", "sgd"),
        ("csgdw", "sgd"),
        ("nlarc", "sgd"),
        ("lion", "adaptive"),
        ("lamb", "adaptive"),
        ("muon", "adaptive"),
    ],
)
def test_the_family_says_how_the_rate_goes_with_the_batch_size(name, family):
    assert optimizer_spec(name).family == family


def test_signs_get_a_lower_rate_than_adam():
    assert optimizer_spec("lion").default_lr < optimizer_spec("adam").default_lr


def test_corrected_decay_refers_to_the_peak_of_each_group():
    for group in build("adamc", layer_decay=0.5).param_groups:
        assert group["max_lr_snapshot"] == group["lr"]


def test_frozen_parameters_are_left_out():
    model = small_model()
    model[0].requires_grad_(False)
    assert sum(len(group["params"]) for group in build(model=model).param_groups) == 4


def test_an_unknown_name_lists_the_known_ones_and_the_nearest():
    listed = r"recipe.optimizer=admw: unknown; use one of sgd, momentum, .*schedulefree_sgd.*timm's.*did you mean"
    with pytest.raises(InputError, match=listed + r".*adamw"):
        build("admw")
    with pytest.raises(InputError, match=r"schedulefre_sgd: unknown.*did you mean schedulefree_sgd"):
        optimizer_spec("schedulefre_sgd")
    with pytest.raises(InputError, match=r"recipe.optimizer=zzz: unknown") as caught:
        optimizer_spec("zzz")
    assert "did you mean" not in str(caught.value)


@pytest.mark.parametrize("name", ["SGD", "sgd_adamw", "", "adam w"])
def test_names_that_timm_would_bend_into_others_are_unknown(name):
    with pytest.raises(InputError, match="unknown"):
        optimizer_spec(name)


@pytest.mark.parametrize(("name", "said"), [("adahessian", "second-order"), ("lookahead_adamw", "lookahead")])
def test_what_this_training_cannot_drive_is_refused_with_the_reason(name, said):
    with pytest.raises(InputError, match=rf"recipe.optimizer={name}: .*{said}"):
        optimizer_spec(name)


@pytest.mark.parametrize(("name", "package"), [("bnbadamw8bit", "bitsandbytes"), ("fusedlamb", "apex")])
def test_what_needs_another_package_is_refused_by_the_name_of_the_package(name, package, monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda asked: None if asked == package else find(asked))
    with pytest.raises(InputError, match=rf"needs the package {package}, which is not installed"):
        optimizer_spec(name)


def test_what_needs_a_gpu_is_refused_without_one(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda asked: asked)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(InputError, match=r"recipe\.optimizer=bnblion: needs a CUDA device"):
        optimizer_spec("bnblion")


def test_every_other_name_of_timm_has_a_record():
    refused = []
    for name in timm.optim.list_optimizers():
        try:
            spec = optimizer_spec(name)
        except InputError:
            refused.append(name)
        else:
            assert spec.ramp[0] < spec.default_bounds[0] < spec.default_lr < spec.default_bounds[1] < spec.ramp[1]
    assert all(name == "adahessian" or name.startswith(("bnb", "fused")) for name in refused)


# --- the rate at another batch size


@pytest.mark.parametrize(
    ("optimizer", "batch_size", "expected"),
    [
        ("sgd", 64, 4.0),
        ("schedulefree_sgd", 8, 0.5),
        ("adamw", 64, 2.0),
        ("lamb", 4, 0.5),
        ("rmsprop", 16, 1.0),
    ],
)
def test_sgd_follows_in_proportion_and_the_adaptive_ones_by_the_root(optimizer, batch_size, expected) -> None:
    assert batch_factor(optimizer, batch_size=batch_size, measured=16) == expected


def test_an_unknown_optimizer_has_no_factor() -> None:
    with pytest.raises(InputError, match="adamq"):
        batch_factor("adamq", batch_size=16, measured=16)
