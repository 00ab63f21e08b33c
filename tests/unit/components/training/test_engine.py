"""The training loop on networks of a few weights: what resumes exactly, what a step records, what it leaves alone."""

import copy
import math
from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch
from timm.utils import ModelEmaV3
from torch import nn

from components.data.loader import Batch
from components.optim.optimizers import build_optimizer
from components.optim.schedules import build_schedule
from components.training.checkpoint import load_checkpoint, save_checkpoint
from components.training.engine import Device, EpochRecord, Learner, Preprocessing, StepRecord, predict, train_epochs

CPU = Device(torch.device("cpu"))
HALF = Preprocessing.from_unit_scale((0.5, 0.5, 0.5), (0.25, 0.25, 0.25))
STEPS, SIZE, EPOCHS = 3, 4, 4


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """For networks of a few weights, more threads only wait for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


class Tiny(nn.Module):
    """Convolution, batch norm, dropout, a linear head."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(3, 4, 3, bias=False)
        self.norm = nn.BatchNorm2d(4)
        self.dropout = nn.Dropout(0.5)
        self.head = nn.Linear(4, 2)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        features = self.norm(self.convolution(images)).relu().mean((2, 3))
        return self.head(self.dropout(features))


def batches(epoch: int) -> Iterator[Batch]:
    """Three batches of four 5 × 5 images, other ones in each epoch."""
    generator = np.random.default_rng([7, epoch])
    for start in range(0, STEPS * SIZE, SIZE):
        images = torch.from_numpy(generator.integers(0, 256, (SIZE, 3, 5, 5), dtype=np.uint8))
        yield Batch(images, torch.from_numpy(generator.integers(0, 2, SIZE)), torch.arange(start, start + SIZE))


def new_learner(
    *, ema: bool = False, optimizer: str = "adamw", schedule: str = "cosine", clip: float | None = None
) -> Learner:
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        model = Tiny()
    built = build_optimizer(model, name=optimizer, lr=0.1, weight_decay=0.01, layer_decay=1.0)
    return Learner(
        model=model,
        optimizer=built,
        schedule=build_schedule(
            built, name=schedule, total_steps=STEPS * EPOCHS, warmup_steps=2, final_fraction=0.01, drops=2
        ),
        loss=nn.CrossEntropyLoss(),
        device=CPU,
        preprocessing=HALF,
        seed=3,
        clip_grad_norm=clip,
        averaged=ModelEmaV3(model, decay=0.9, use_warmup=True) if ema else None,
    )


def train(
    learner: Learner, until: int, *, source: Callable = batches, on_step=lambda record: None
) -> list[EpochRecord]:
    return list(train_epochs(learner, until=until, batches=source, evaluate=score, on_step=on_step))


def score(model: nn.Module) -> dict[str, float]:
    return {"sum": float(sum(p.detach().sum() for p in model.parameters()))}


def weights(learner: Learner) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in learner.scored.state_dict().items()}


def equal(one: dict, other: dict) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


# --- resuming


@pytest.mark.parametrize("ema", [False, True])
@pytest.mark.parametrize("optimizer", ["sgd", "adam", "adamw", "rmsprop", "adagrad"])
def test_a_training_resumed_from_a_file_ends_bit_for_bit_where_a_straight_one_does(tmp_path, ema, optimizer) -> None:
    straight = new_learner(ema=ema, optimizer=optimizer)
    expected = train(straight, 4)
    first = new_learner(ema=ema, optimizer=optimizer)
    records = train(first, 2)
    save_checkpoint(tmp_path / "last.pt", first.state_dict())
    second = new_learner(ema=ema, optimizer=optimizer)
    second.load_state_dict(load_checkpoint(tmp_path / "last.pt", device=torch.device("cpu")))
    records += train(second, 4)
    assert equal(weights(second), weights(straight))
    assert equal(second.model.state_dict(), straight.model.state_dict())
    timeless = [replace(r, seconds=0, images_per_second=0) for r in expected]
    assert [replace(r, seconds=0, images_per_second=0) for r in records] == timeless
    assert [r.epoch for r in records] == [1, 2, 3, 4]


def test_resuming_does_not_depend_on_what_was_drawn_in_between(tmp_path) -> None:
    straight, resumed = new_learner(), new_learner()
    train(straight, 2)
    train(resumed, 1)
    torch.rand(100)
    train(resumed, 2)
    assert equal(weights(resumed), weights(straight))


def test_a_loaded_learner_shares_no_memory_with_the_one_that_was_saved() -> None:
    learner, other = new_learner(ema=True), new_learner(ema=True)
    train(learner, 1)
    state = copy.deepcopy(learner.state_dict())
    other.load_state_dict(learner.state_dict())
    train(other, 2)
    assert equal(learner.state_dict()["model"], state["model"])


def test_another_seed_draws_another_dropout() -> None:
    one, other = new_learner(), new_learner()
    other.seed = 4
    train(one, 1)
    train(other, 1)
    assert not equal(weights(one), weights(other))


def test_nothing_is_left_to_do_at_the_last_epoch() -> None:
    learner = new_learner()
    train(learner, 2)
    assert train(learner, 2) == []


def test_the_averaged_weights_follow_the_trained_ones_and_are_those_that_count() -> None:
    learner = new_learner(ema=True)
    assert learner.averaged is not None
    records = train(learner, 1)
    assert learner.scored is learner.averaged.module
    assert not equal(learner.model.state_dict(), weights(learner))
    assert records[0].metrics == score(learner.averaged.module)


# --- what is left alone


def test_the_global_generators_are_left_as_they_were() -> None:
    torch.manual_seed(11)
    before, numpy_before = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    learner = new_learner()
    train(learner, 2)
    predict(learner.model, batches(0), device=CPU, preprocessing=HALF)
    assert torch.equal(torch.get_rng_state(), before)
    assert (np.random.get_state()[1] == numpy_before).all()  # noqa: NPY002


def test_the_callers_generator_is_given_back_while_the_epochs_are_driven_one_by_one() -> None:
    torch.manual_seed(11)
    before = torch.get_rng_state()
    epochs = train_epochs(new_learner(), until=2, batches=batches, evaluate=score, on_step=lambda record: None)
    next(epochs)
    assert torch.equal(torch.get_rng_state(), before)


def test_the_images_of_a_batch_are_not_changed() -> None:
    batch = next(batches(0))
    before = batch.images.clone()
    CPU.forward(Tiny(), batch, HALF)
    assert torch.equal(batch.images, before)


# --- what is recorded


def closed_form(step: int) -> float:
    """Peak 0.1, warmup of 2 steps at 1/3 and 2/3, then a cosine to 1 % over the remaining 10 steps."""
    if step < 2:
        return 0.1 * (step + 1) / 3
    return 0.1 * (0.01 + 0.99 * (1 + math.cos(math.pi * (step - 2) / 10)) / 2)


def test_the_recorded_rate_is_the_one_that_the_step_used() -> None:
    steps: list[StepRecord] = []
    records = train(new_learner(), EPOCHS, on_step=steps.append)
    assert [step.lr for step in steps] == pytest.approx([closed_form(n) for n in range(STEPS * EPOCHS)])
    assert [step.step for step in steps] == list(range(1, STEPS * EPOCHS + 1))
    assert [record.lr for record in records] == pytest.approx([closed_form(n) for n in (2, 5, 8, 11)])


def test_the_first_step_moves_the_weights_by_the_warmed_up_rate() -> None:
    """Plain arithmetic of SGD with Nesterov momentum: the first step is −lr · (1 + 0.9) · gradient."""
    learner = new_learner(optimizer="sgd", schedule="fixed")
    bias = learner.model.head.bias  # biases have no weight decay
    before = bias.detach().clone()
    train(learner, 1, source=lambda epoch: [next(batches(0))])
    assert torch.allclose(bias, before - 0.1 / 3 * 1.9 * bias.grad)


def test_the_lowest_rate_is_that_of_the_slowest_group() -> None:
    learner = new_learner()
    learner.optimizer.param_groups[0]["lr"] *= 0.5
    learner.schedule.base_lrs[0] *= 0.5
    records = train(learner, 1)
    assert records[0].lr_lowest == pytest.approx(records[0].lr / 2)


def test_the_train_loss_is_the_mean_over_the_images_and_not_over_the_batches() -> None:
    steps: list[StepRecord] = []

    def uneven(epoch: int) -> list[Batch]:
        first, second, _ = batches(0)
        return [first, Batch(second.images[:2], second.labels[:2], second.index[:2])]

    (record,) = train(new_learner(), 1, source=uneven, on_step=steps.append)
    assert record.train_loss == pytest.approx((4 * steps[0].loss + 2 * steps[1].loss) / 6)
    assert record.step == 2
    assert record.images_per_second == pytest.approx(6 / record.seconds)


def test_the_gradient_norm_is_recorded_before_it_is_clipped() -> None:
    free: list[StepRecord] = []
    clipped: list[StepRecord] = []
    learner = new_learner(clip=1e-3)
    train(new_learner(), 1, on_step=free.append)
    train(learner, 1, on_step=clipped.append)
    assert clipped[0].grad_norm == free[0].grad_norm > 1e-3
    norm = math.sqrt(sum(float(p.grad.square().sum()) for p in learner.model.parameters()))
    assert norm == pytest.approx(1e-3, rel=1e-2)


def test_the_images_arrive_normalised_on_the_scale_of_the_constants() -> None:
    seen = []

    class Eye(nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            seen.append(images)
            return images.mean((2, 3))

    images = torch.tensor([0, 51, 255], dtype=torch.uint8).view(1, 3, 1, 1).expand(1, 3, 5, 5)
    constants = Preprocessing.from_unit_scale((0.0, 0.2, 0.5), (1.0, 0.5, 0.25))
    logits = CPU.forward(Eye(), Batch(images, torch.zeros(1), torch.zeros(1)), constants)
    assert logits[0].tolist() == pytest.approx([0.0, 0.0, 2.0], abs=1e-6)
    assert seen[0].dtype == torch.float32
    assert seen[0].is_contiguous(memory_format=torch.channels_last)


# --- divergence


class Poisoned(nn.CrossEntropyLoss):
    """Gives `value` at the given call."""

    def __init__(self, at: int, value: float) -> None:
        super().__init__()
        self.calls, self.at, self.value = 0, at, value

    def forward(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        loss = super().forward(logits, labels)
        return loss * self.value if self.calls == self.at else loss


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("at", [1, STEPS + 2])
def test_a_loss_that_is_not_finite_ends_the_training_and_changes_no_weight(value: float, at: int) -> None:
    learner, before, steps = new_learner(ema=True), [], []
    learner.loss = Poisoned(at, value)

    def watched(epoch: int) -> Iterator[Batch]:
        for batch in batches(epoch):
            before.append({name: p.detach().clone() for name, p in learner.model.named_parameters()})
            yield batch

    records = train(learner, EPOCHS, source=watched, on_step=steps.append)
    assert [record.diverged for record in records] == [False] * (at // STEPS) + [True]
    assert records[-1].metrics == {}
    assert not math.isfinite(records[-1].train_loss)
    assert equal(dict(learner.model.named_parameters()), before[-1])
    assert len(before) == at  # no further batch was asked for
    assert learner.step == at - 1 == len(steps)
    assert learner.optimizer.param_groups[0]["lr"] == pytest.approx(closed_form(at - 1))


# --- prediction


def test_predictions_come_in_the_order_of_the_images_whatever_the_batches() -> None:
    model = Tiny().eval()
    images = torch.cat([batch.images for batch in batches(0)])
    whole = predict(model, [Batch(images, torch.zeros(12), torch.arange(12))], device=CPU, preprocessing=HALF)
    parts = [Batch(images[i : i + 5], torch.zeros(1), torch.zeros(1)) for i in (0, 5, 10)]
    assert whole.shape == (12, 2)
    assert whole.dtype == np.float32
    assert predict(model, parts, device=CPU, preprocessing=HALF) == pytest.approx(whole, abs=1e-6)


@pytest.mark.parametrize("training", [True, False])
def test_prediction_is_without_dropout_and_leaves_the_mode_as_it_was(training: bool) -> None:
    model = Tiny().train(training)
    buffers = copy.deepcopy(dict(model.named_buffers()))
    first = predict(model, batches(0), device=CPU, preprocessing=HALF)
    assert (predict(model, batches(0), device=CPU, preprocessing=HALF) == first).all()
    assert {module.training for module in model.modules()} == {training}
    assert equal(dict(model.named_buffers()), buffers)


def test_prediction_restores_the_mode_when_a_batch_fails() -> None:
    model = Tiny().train()
    with pytest.raises(RuntimeError):
        predict(model, [Batch(torch.zeros(1, 5, 5, 5), torch.zeros(1), torch.zeros(1))], device=CPU, preprocessing=HALF)
    assert model.training


def test_bfloat16_gives_logits_in_float32_near_those_of_full_precision() -> None:
    model, batch = Tiny().eval(), next(batches(0))
    half = Device(torch.device("cpu"), torch.bfloat16).forward(model, batch, HALF)
    full = CPU.forward(model, batch, HALF)
    assert half.dtype == torch.float32
    assert not torch.equal(half, full)
    assert torch.allclose(half, full, atol=0.05)
