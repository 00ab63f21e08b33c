"""The ramp: it leaves no trace in what it was given, raises every group's rate in proportion, and stops in time."""

import copy
import itertools
import math
import random
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from components.data.loader import Batch
from components.optim.layerwise import LayerRates
from components.optim.optimizers import OPTIMIZERS, build_optimizer
from components.training.ramp import held_out_interval, ramp_rates, recycling_warning, run_ramp


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """For networks of a few weights, more threads only wait for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def small_model(dropout: float = 0.5) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.Sequential(
            nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Dropout(dropout), nn.Linear(144, 2)
        )


def batch(seed: int, size: int = 8) -> Batch:
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, 2, size)
    images = generator.integers(0, 120, size=(size, 3, 8, 8)) + 100 * labels[:, None, None, None]
    return Batch(
        torch.from_numpy(images.astype(np.uint8)), torch.from_numpy(labels), torch.arange(size, dtype=torch.int64)
    )


def forward(model: nn.Module, batch: Batch) -> torch.Tensor:
    return model(batch.images.float() / 255 - 0.5)


def sgd(model: nn.Module, lr: float) -> torch.optim.Optimizer:
    groups = [
        {"params": list(model[0].parameters()), "lr": 0.1 * lr},
        {"params": [*model[1].parameters(), *model[5].parameters()], "lr": lr},
    ]
    return torch.optim.SGD(groups, momentum=0.9)


def ramp(model=None, *, batches=None, factory=sgd, loss=None, held_out=None, **changes):
    settings = {"low": 1e-4, "high": 1e-1, "steps_per_decade": 10, "seed": 0, "clip_grad_norm": None}
    settings["device"] = torch.device("cpu")
    return run_ramp(
        model or small_model(),
        factory,
        loss or nn.CrossEntropyLoss(),
        batches or (batch(number) for number in itertools.count()),
        held_out or batch(999, size=32),
        **({"forward": forward} | settings | changes),
    )


def test_model_buffers_gradients_and_mode_are_the_same_after_two_ramps():
    model = small_model().eval()
    model[0].weight.grad = torch.ones_like(model[0].weight)
    before = copy.deepcopy(model.state_dict())
    for _ in range(2):
        list(ramp(model))
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    assert torch.equal(model[0].weight.grad, torch.ones_like(model[0].weight))
    assert model[5].weight.grad is None
    assert not any(module.training for module in model.modules())


class Training:
    """A training under way: Adam with moments, gradients that wait, a scaler that has grown, random states in use."""

    def __init__(self) -> None:
        self.model = small_model().train()
        self.model[5].eval()  # flags that differ among the modules
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=1e-3)
        self.scaler = torch.amp.GradScaler("cpu", init_scale=256.0, growth_interval=1)
        for number in range(3):
            self.optimizer.zero_grad()
            loss = nn.functional.cross_entropy(forward(self.model, batch(number)), batch(number).labels)
            self.scaler.scale(loss).backward()
            self.scaler.step(self.optimizer)
            self.scaler.update()
        random.random(), np.random.standard_normal(), torch.rand(3)  # noqa: NPY002 - a half-used normal pair as well

    def state(self) -> list[Any]:
        """Every byte that a test might touch."""
        moments = [value for entry in self.optimizer.state.values() for value in entry.values()]
        groups = [{k: v for k, v in group.items() if k != "params"} for group in self.optimizer.param_groups]
        tensors = [*self.model.state_dict().values(), *(p.grad for p in self.model.parameters()), *moments]
        kind, keys, *rest = np.random.get_state()  # noqa: NPY002
        return [
            *(tensor.detach().numpy().tobytes() for tensor in tensors),
            [id(p) for p in self.model.parameters()],
            [module.training for module in self.model.modules()],
            [p.requires_grad for p in self.model.parameters()],
            repr(groups),
            self.scaler.state_dict(),
            random.getstate(),
            (kind, keys.tobytes(), rest),
            torch.get_rng_state().numpy().tobytes(),
        ]


def drawing_forward(model: nn.Module, batch: Batch) -> torch.Tensor:
    """Draws from all three global generators, as an augmentation might."""
    noise = random.gauss(0, 0.1) + np.random.standard_normal() + torch.randn(1)  # noqa: NPY002
    return model(batch.images.float() / 255 - 0.5 + 0.01 * noise)


@pytest.mark.parametrize("factory", ["sgd", "adam", "schedulefree_adamw"])
def test_two_tests_in_a_row_leave_every_byte_of_a_training_and_say_the_same(factory: str) -> None:
    training = Training()
    before = training.state()
    first, second = (list(ramp(training.model, factory=built(factory), forward=drawing_forward)) for _ in range(2))
    assert training.state() == before
    assert repr(first) == repr(second)  # nan is not equal to itself
    assert len(first) == 31


def test_a_test_that_is_abandoned_half_way_leaves_every_byte_too() -> None:
    training = Training()
    before = training.state()
    under_way = ramp(training.model, forward=drawing_forward)
    for _ in range(7):
        next(under_way)
        assert training.state() == before
    under_way.close()
    assert training.state() == before


def test_a_test_that_fails_leaves_every_byte_too() -> None:
    training = Training()
    before = training.state()

    def breaks(model: nn.Module, batch: Batch) -> torch.Tensor:
        drawing_forward(model, batch)
        raise RuntimeError("out of memory")

    with pytest.raises(RuntimeError, match="out of memory"):
        list(ramp(training.model, forward=breaks))
    assert training.state() == before


def built(name: str):
    layers = LayerRates(layer_decay=1.0, towards="input", head_ratio=1.0)
    return lambda model, lr: build_optimizer(model, name=name, lr=lr, weight_decay=0.01, layers=layers)


@pytest.mark.parametrize("name", [*OPTIMIZERS, "lion", "lamb", "adopt"])
def test_every_optimizer_climbs_the_ramp_and_moves_the_weights(name: str) -> None:
    steps = list(ramp(model=small_model(dropout=0.0), factory=built(name)))
    assert all(step.grad_norm > 0 for step in steps)
    measured = [step.heldout_loss for step in steps if not math.isnan(step.heldout_loss)]
    assert len(set(measured)) == len(measured)


def test_a_schedule_free_optimizer_stays_at_its_training_weights() -> None:
    seen = []

    def recorded(model, lr):
        optimizer = built("schedulefree_sgd")(model, lr)
        optimizer.register_step_pre_hook(lambda o, *_: seen.append(o.param_groups[0]["train_mode"]))
        return optimizer

    list(ramp(factory=recorded))
    assert seen == [True] * 31


@pytest.mark.parametrize(("per_decade", "interval"), [(5, 6), (10, 6), (20, 10), (40, 20)])
def test_six_decades_give_at_least_ten_held_out_losses_from_ten_steps_per_decade_on(per_decade, interval) -> None:
    assert held_out_interval(per_decade) == interval
    assert per_decade < 10 or len(range(0, 6 * per_decade + 1, interval)) >= 10


def test_the_callers_random_state_is_its_own_between_the_steps_and_afterwards():
    torch.manual_seed(5)
    expected = [torch.rand(1) for _ in range(32)]
    torch.manual_seed(5)
    drawn = [torch.rand(1) for _ in ramp()]
    assert len(drawn) == 31
    assert all(torch.equal(mine, theirs) for mine, theirs in zip(drawn, expected, strict=False))
    assert torch.equal(torch.rand(1), expected[31])


def test_a_ramp_is_a_function_of_its_seed_whatever_the_caller_draws():
    quiet = list(ramp(seed=1))
    disturbed = []
    for step in ramp(seed=1):
        torch.rand(17)
        disturbed.append(step)
    assert [step.loss for step in quiet] == [step.loss for step in disturbed]
    assert [step.loss for step in quiet] != [step.loss for step in ramp(seed=2)]


def test_the_rate_rises_by_the_same_factor_from_low_to_high():
    steps = list(ramp())
    rates = np.array([step.lr for step in steps])
    assert (rates[0], rates[-1]) == pytest.approx((1e-4, 1e-1))
    assert np.diff(np.log10(rates)) == pytest.approx(0.1)
    assert [step.step for step in steps] == list(range(31))


def test_every_group_keeps_its_ratio():
    seen = []

    def recorded(model, lr):
        optimizer = sgd(model, lr)
        optimizer.register_step_pre_hook(lambda o, *_: seen.append([group["lr"] for group in o.param_groups]))
        return optimizer

    rates = [step.lr for step in ramp(factory=recorded)]
    assert np.array(seen) == pytest.approx(np.array([[0.1 * lr, lr] for lr in rates]))


def test_the_held_out_loss_falls_and_is_measured_on_a_regular_subset():
    steps = list(ramp(model=small_model(dropout=0.0), high=1e-2, steps_per_decade=20))
    measured = [step for step in steps if not math.isnan(step.heldout_loss)]
    assert [step.step for step in measured] == [0, 10, 20, 30, 40]
    assert measured[-1].heldout_loss < measured[0].heldout_loss


def test_measuring_the_held_out_loss_does_not_change_the_training():
    small, large = (list(ramp(held_out=batch(999, size=size))) for size in (4, 32))
    assert [step.loss for step in small] == [step.loss for step in large]
    assert small[0].heldout_loss != large[0].heldout_loss


def test_the_gradient_norm_is_that_of_the_batch_before_the_step():
    model = small_model(dropout=0.0)
    first = next(iter(ramp(model)))
    twin = copy.deepcopy(model).train()
    nn.functional.cross_entropy(forward(twin, batch(0)), batch(0).labels).backward()
    expected = math.sqrt(sum(float(p.grad.pow(2).sum()) for p in twin.parameters()))
    assert first.grad_norm == pytest.approx(expected, rel=1e-5)


def test_clipping_is_applied_to_the_step_and_not_to_the_record():
    free = list(ramp(low=1e-2, high=1e-1))
    clipped = list(ramp(low=1e-2, high=1e-1, clip_grad_norm=1e-6))
    assert clipped[0].grad_norm == free[0].grad_norm
    assert abs(clipped[-1].heldout_loss - clipped[0].heldout_loss) < 1e-4
    assert abs(free[-1].heldout_loss - free[0].heldout_loss) > 1e-2


def test_it_stops_after_the_first_loss_that_is_not_finite():
    class Breaks(nn.CrossEntropyLoss):
        calls = 0

        def forward(self, logits, labels):
            self.calls += logits.requires_grad
            return super().forward(logits, labels) * (math.nan if self.calls > 4 else 1.0)

    steps = list(ramp(loss=Breaks()))
    assert [math.isnan(step.loss) for step in steps] == [False] * 4 + [True]


def test_it_stops_when_the_loss_explodes():
    steps = list(ramp(low=1e-2, high=1e4))
    assert len(steps) < len(ramp_rates(1e-2, 1e4, 10))
    assert steps[-1].loss > 1.4 or not math.isfinite(steps[-1].loss)
    assert np.median([step.loss for step in steps[:5]]) < 1.4


def test_batches_that_run_out_are_an_error():
    with pytest.raises(ValueError, match="ran out after 3 of the ramp's 31 steps"):
        list(ramp(batches=iter([batch(number) for number in range(3)])))


def test_more_than_two_passes_over_the_images_are_said():
    assert recycling_warning(steps=100, batch_size=16, images=800) is None
    assert "3.2 times" in recycling_warning(steps=100, batch_size=16, images=500)
