"""The body stands still while the head learns, its norms included, and then learns as if it had just begun."""

import pytest
import torch
from schedules import schedule_of
from torch import nn

from components.errors import InputError
from components.optim.freezing import FrozenBody, norms_with_statistics
from components.optim.layerwise import LayerRates, head_modules
from components.optim.optimizers import build_optimizer, optimizer_spec
from components.optim.stepper import Stepper

FLAT = schedule_of("fixed")


@pytest.fixture(autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def network():
    model = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 2))
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(0.5 * torch.randn(parameter.shape, generator=generator))
    return model


def stepper_over(model, *, name="adamw", freeze_steps=3, lr=None):
    layers = LayerRates(layer_decay=1.0, towards="input", head_ratio=1.0)
    rate = optimizer_spec(name).default_lr if lr is None else lr
    optimizer = build_optimizer(model, name=name, lr=rate, weight_decay=0.0, layers=layers)
    return Stepper(model, optimizer, FLAT, clip_grad_norm=None, freeze_steps=freeze_steps)


def take(stepper, model, steps):
    taken = []
    for _ in range(steps):
        generator = torch.Generator().manual_seed(stepper.steps)
        images = torch.randn(16, 4, generator=generator)
        stepper.train()
        stepper.zero_grad()
        nn.functional.cross_entropy(model(images), (images[:, 0] > 0).long()).backward()
        taken.append(stepper.step())
    return taken


def copy_of(module):
    return {name: value.clone() for name, value in module.state_dict().items()}


def same(module, before):
    return all(torch.equal(value, before[name]) for name, value in module.state_dict().items())


@pytest.mark.parametrize("name", ["sgd", "adamw", "schedulefree_adamw", "schedulefree_sgd", "lamb"])
def test_the_body_stands_still_for_as_many_steps_and_then_moves(name):
    model = network()
    stepper = stepper_over(model, name=name)
    body, head = [copy_of(model[0]), copy_of(model[1])], copy_of(model[3])
    take(stepper, model, 3)
    assert same(model[0], body[0])
    assert same(model[1], body[1])  # weights and running averages alike
    assert not same(model[3], head)
    take(stepper, model, 1)
    assert not same(model[0], body[0])
    assert not torch.equal(model[1].running_mean, body[1]["running_mean"])


def test_the_rate_of_a_frozen_group_is_zero():
    model = network()
    stepper = stepper_over(model, lr=0.01)
    assert stepper.group_names == ("body", "body_no_decay", "head", "head_no_decay")
    assert take(stepper, model, 4) == [(0.0, 0.0, 0.01, 0.01)] * 3 + [(0.01,) * 4]


def test_the_norms_of_the_head_keep_learning():
    class Headed(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8))
            self.head = nn.Sequential(nn.BatchNorm1d(8), nn.Linear(8, 2))

        def get_classifier(self):
            return self.head

        def forward(self, images):
            return self.head(self.body(images))

    model = Headed()
    stepper = stepper_over(model)
    stepper.train()
    assert [norm.training for norm in norms_with_statistics(model)] == [False, True]
    assert head_modules(model) == [model.head]


@pytest.mark.parametrize("name", ["adamw", "schedulefree_adamw", "adan", "lamb", "madgrad"])
def test_a_body_that_is_let_go_takes_the_first_step_of_a_new_optimizer(name):
    # Counting the frozen steps would spoil the bias correction: 200 steps with beta2 = 0.999 make it 0.18 for 0.001.
    frozen, fresh = network(), network()
    waiting = stepper_over(frozen, name=name, freeze_steps=200)
    take(waiting, frozen, 200)
    fresh.load_state_dict(frozen.state_dict())
    beginning = stepper_over(fresh, name=name, freeze_steps=0)
    beginning.steps = 200  # the same images
    take(waiting, frozen, 1)
    take(beginning, fresh, 1)
    for parameter, other in zip(frozen[:2].parameters(), fresh[:2].parameters(), strict=True):
        assert torch.equal(parameter, other)


def test_what_was_not_trainable_before_is_not_afterwards():
    model = network()
    model[0].bias.requires_grad_(False)
    bias = model[0].bias.clone()
    stepper = stepper_over(model)
    assert [parameter.requires_grad for parameter in model[0].parameters()] == [False, False]
    take(stepper, model, 5)
    assert [parameter.requires_grad for parameter in model[0].parameters()] == [True, False]
    assert torch.equal(model[0].bias, bias)


def test_a_body_that_is_let_go_in_the_middle_trains_at_once():
    model = network()
    stepper = stepper_over(model, freeze_steps=1)
    take(stepper, model, 1)
    assert model[1].training  # without another call of train()


@pytest.mark.parametrize("name", ["adamw", "schedulefree_adamw"])
@pytest.mark.parametrize("at", [1, 3, 5])
def test_a_checkpoint_before_at_or_after_the_release_is_resumed_exactly(name, at):
    whole, first, second = network(), network(), network()
    take(stepper_over(whole, name=name), whole, 8)
    before = stepper_over(first, name=name)
    take(before, first, at)
    after = stepper_over(second, name=name)
    second.load_state_dict(first.state_dict())
    after.load_state_dict(before.state_dict())
    take(after, second, 8 - at)
    assert same(second, copy_of(whole))


def test_going_back_to_before_the_release_freezes_again():
    model = network()
    stepper = stepper_over(model)
    state, weights = stepper.state_dict(), copy_of(model)
    take(stepper, model, 5)
    model.load_state_dict(weights)
    stepper.load_state_dict(state)
    take(stepper, model, 3)
    assert torch.equal(model[0].weight, weights["0.weight"])


def test_without_anything_to_freeze_nothing_changes():
    model = network()
    take(stepper_over(model, freeze_steps=0), model, 1)
    assert all(parameter.requires_grad for parameter in model.parameters())
    FrozenBody(model, []).release(training=False)
    assert model[1].training


def test_a_frozen_body_needs_a_head_that_learns():
    model = network()
    model[3].requires_grad_(False)
    with pytest.raises(InputError, match=r"recipe\.freeze_epochs"):
        stepper_over(model)
