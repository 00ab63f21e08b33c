"""The ramp: it raises every group's rate in proportion, measures without changing the training, and stops in time."""

import copy
import itertools
import math
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from components.data.loader import Batch
from components.optim.layerwise import LayerRates
from components.optim.optimizers import OPTIMIZERS, build_optimizer
from components.optim.stepper import Stepper
from components.training.engine import Device, Learner, Preprocessing
from components.training.ramp import (
    RampStep,
    held_out_interval,
    ramp_rates,
    ramp_schedule,
    recycling_warning,
    run_ramp,
)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """For networks of a few weights, more threads only wait for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def small_model(dropout: float) -> nn.Module:
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


def epoch_of(*numbers: int) -> Any:
    return lambda epoch: (batch(100 * epoch + number) for number in numbers)


def new_learner(
    rates: np.ndarray,
    *,
    optimizer: str = "sgd",
    dropout: float = 0.5,
    seed: int = 0,
    clip: float | None = None,
    freeze_steps: int = 0,
    fetch_every: int = 1,
    loss: nn.Module | None = None,
    layer_decay: float = 1.0,
) -> Learner:
    model = small_model(dropout)
    layers = LayerRates(layer_decay=layer_decay, towards="input", head_ratio=1.0)
    built = build_optimizer(model, name=optimizer, lr=float(rates[-1]), weight_decay=0.0, layers=layers)
    return Learner(
        model=model,
        stepper=Stepper(model, built, ramp_schedule(rates), clip_grad_norm=clip, freeze_steps=freeze_steps),
        loss=loss or nn.CrossEntropyLoss(),
        device=Device(torch.device("cpu")),
        preprocessing=Preprocessing.from_unit_scale((0.5, 0.5, 0.5), (1.0, 1.0, 1.0)),
        seed=seed,
        averaged=None,
        calibration=lambda: (),
        fetch_every=fetch_every,
    )


def ramp(
    learner: Learner | None = None,
    *,
    low: float = 1e-4,
    high: float = 1e-1,
    per_decade: int = 10,
    batches: Any = None,
    held_out: Batch | None = None,
    **options: Any,
) -> list[RampStep]:
    rates = ramp_rates(low, high, per_decade)
    return run_ramp(
        learner or new_learner(rates, **options),
        batches or epoch_of(*range(7)),
        held_out or batch(999, size=32),
        rates=rates,
        interval=held_out_interval(per_decade),
        num_classes=2,
    )


def test_both_losses_are_of_soft_targets_where_there_are_any() -> None:
    """Of even targets, the loss of no prediction falls below log 2; the labels are easily told apart."""

    def even(one: Batch) -> Batch:
        return replace(one, targets=torch.full((len(one), 2), 0.5))

    steps = ramp(
        batches=lambda epoch: map(even, epoch_of(*range(7))(epoch)), held_out=even(batch(999, size=32)), dropout=0.0
    )
    assert min(step.loss for step in steps) >= math.log(2) - 1e-6
    assert np.nanmin([step.heldout_loss for step in steps]) >= math.log(2) - 1e-6
    assert min(step.loss for step in ramp(dropout=0.0)) < 0.5


@pytest.mark.parametrize("name", [*OPTIMIZERS, "lion", "lamb", "adopt"])
def test_every_optimizer_climbs_the_ramp_and_moves_the_weights(name: str) -> None:
    steps = ramp(optimizer=name, dropout=0.0)
    assert all(step.grad_norm > 0 for step in steps)
    measured = [step.heldout_loss for step in steps if not math.isnan(step.heldout_loss)]
    assert len(set(measured)) == len(measured)


def test_a_schedule_free_optimizer_stays_at_its_training_weights() -> None:
    seen = []
    learner = new_learner(ramp_rates(1e-4, 1e-1, 10), optimizer="schedulefree_sgd")
    learner.stepper.optimizer.register_step_pre_hook(lambda o, *_: seen.append(o.param_groups[0]["train_mode"]))
    ramp(learner)
    assert seen == [True] * 31


@pytest.mark.parametrize(("per_decade", "interval"), [(5, 6), (10, 6), (20, 10), (40, 20)])
def test_six_decades_give_at_least_ten_held_out_losses_from_ten_steps_per_decade_on(per_decade, interval) -> None:
    assert held_out_interval(per_decade) == interval
    assert per_decade < 10 or len(range(0, 6 * per_decade + 1, interval)) >= 10


def test_a_ramp_is_a_function_of_its_seed_and_leaves_the_global_random_state() -> None:
    torch.manual_seed(5)
    before = torch.get_rng_state()
    first = ramp(seed=1)
    assert torch.equal(torch.get_rng_state(), before)
    torch.rand(17)
    assert repr(ramp(seed=1)) == repr(first)  # nan is not equal to itself
    assert [step.loss for step in first] != [step.loss for step in ramp(seed=2)]


def test_what_the_host_reads_later_is_the_same() -> None:
    assert repr(ramp(fetch_every=16)) == repr(ramp())
    explosion = {"low": 1e-2, "high": 1e4}
    assert repr(ramp(fetch_every=16, **explosion)) == repr(ramp(**explosion))


def test_the_rate_rises_by_the_same_factor_from_low_to_high() -> None:
    steps = ramp()
    rates = np.array([step.lr for step in steps])
    assert (rates[0], rates[-1]) == pytest.approx((1e-4, 1e-1))
    assert np.diff(np.log10(rates)) == pytest.approx(0.1)
    assert [step.step for step in steps] == list(range(31))


def test_every_group_keeps_its_ratio_to_the_rate_that_is_recorded() -> None:
    seen = []
    learner = new_learner(ramp_rates(1e-4, 1e-1, 10), layer_decay=0.1)
    rates = np.array([group["lr"] for group in learner.stepper.optimizer.param_groups])
    ratios = rates / rates.max()
    learner.stepper.optimizer.register_step_pre_hook(
        lambda o, *_: seen.append([group["lr"] for group in o.param_groups])
    )
    rates = [step.lr for step in ramp(learner)]
    assert len(set(ratios)) > 1
    assert np.array(seen) == pytest.approx(np.outer(rates, ratios))


def test_the_held_out_loss_falls_and_is_measured_on_a_regular_subset() -> None:
    steps = ramp(dropout=0.0, high=1e-2, per_decade=20)
    measured = [step for step in steps if not math.isnan(step.heldout_loss)]
    assert [step.step for step in measured] == [0, 10, 20, 30, 40]
    assert measured[-1].heldout_loss < measured[0].heldout_loss


def test_measuring_the_held_out_loss_does_not_change_the_training() -> None:
    small, large = (ramp(held_out=batch(999, size=size)) for size in (4, 32))
    assert [step.loss for step in small] == [step.loss for step in large]
    assert small[0].heldout_loss != large[0].heldout_loss


def test_the_gradient_norm_is_that_of_the_batch_before_the_step() -> None:
    learner = new_learner(ramp_rates(1e-4, 1e-1, 10), dropout=0.0)
    twin = copy.deepcopy(learner.model).train()
    nn.functional.cross_entropy(twin(batch(0).images.float() / 255 - 0.5), batch(0).labels).backward()
    expected = math.sqrt(sum(float(p.grad.pow(2).sum()) for p in twin.parameters()))
    assert ramp(learner)[0].grad_norm == pytest.approx(expected, rel=1e-5)


def test_clipping_is_applied_to_the_step_and_not_to_the_record() -> None:
    free, clipped = ramp(low=1e-2), ramp(low=1e-2, clip=1e-6)
    assert clipped[0].grad_norm == free[0].grad_norm
    assert abs(clipped[-1].heldout_loss - clipped[0].heldout_loss) < 1e-4
    assert abs(free[-1].heldout_loss - free[0].heldout_loss) > 1e-2


def test_a_frozen_body_does_not_move_in_the_first_steps() -> None:
    learner = new_learner(ramp_rates(1e-4, 1e-1, 10), freeze_steps=100)
    before = copy.deepcopy(learner.model.state_dict())
    ramp(learner)
    after = learner.model.state_dict()
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert moved == {"5.weight", "5.bias"}


def test_it_stops_after_the_first_loss_that_is_not_finite() -> None:
    class Breaks(nn.CrossEntropyLoss):
        calls = 0

        def forward(self, logits, labels):
            self.calls += logits.requires_grad
            return super().forward(logits, labels) * (math.nan if self.calls > 4 else 1.0)

    steps = ramp(loss=Breaks())
    assert [math.isnan(step.loss) for step in steps] == [False] * 4 + [True]


def test_it_stops_when_the_loss_explodes() -> None:
    steps = ramp(low=1e-2, high=1e4)
    assert len(steps) < len(ramp_rates(1e-2, 1e4, 10))
    assert steps[-1].loss > 1.4 or not math.isfinite(steps[-1].loss)
    assert np.median([step.loss for step in steps[:5]]) < 1.4


def test_batches_that_run_out_are_an_error() -> None:
    first = itertools.chain([epoch_of(0, 1, 2)(0)], itertools.repeat(()))
    with pytest.raises(ValueError, match="ran out after 3 of the ramp's 31 steps"):
        ramp(batches=lambda epoch: next(first))


def test_more_than_two_passes_over_the_images_are_said() -> None:
    assert recycling_warning(steps=100, batch_size=16, images=800) is None
    assert "3.2 times" in recycling_warning(steps=100, batch_size=16, images=500)
