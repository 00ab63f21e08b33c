"""The training loop on networks of a few weights: what resumes exactly, what a step records, what it leaves alone."""

import contextlib
import copy
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from PIL import Image
from schedules import schedule_of
from timm.utils import ModelEmaV3
from torch import nn

from components.data.loader import Batch
from components.models.forward import Preprocessing
from components.optim.layerwise import LayerRates
from components.optim.optimizers import OPTIMIZERS, build_optimizer
from components.optim.schedules import SCHEDULES, Schedule
from components.optim.stepper import Stepper
from components.training.checkpoint import load_checkpoint, save_checkpoint
from components.training.engine import (
    Device,
    EpochRecord,
    Learner,
    Request,
    StepRecord,
    Watcher,
    predict,
    train_epochs,
)

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
    *,
    ema: bool = False,
    optimizer: str = "adamw",
    schedule: str | None = None,
    clip: float | None = None,
    freeze_steps: int = 0,
    layer_decay: float = 1.0,
    fetch_every: int = 1,
    fused: bool = False,
) -> Learner:
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        model = Tiny()
    layers = LayerRates(layer_decay=layer_decay, towards="input", head_ratio=1.0)
    built = build_optimizer(model, name=optimizer, lr=0.1, weight_decay=0.01, layers=layers)
    for group in built.param_groups if fused else ():
        group["fused"] = True
    averages = OPTIMIZERS[optimizer].schedule_free
    return Learner(
        model=model,
        stepper=Stepper(
            model,
            built,
            new_schedule(schedule or ("fixed" if averages else "cosine")),
            clip_grad_norm=clip,
            freeze_steps=freeze_steps,
        ),
        loss=nn.CrossEntropyLoss(),
        device=CPU,
        preprocessing=HALF,
        seed=3,
        averaged=ModelEmaV3(model, decay=0.9, use_warmup=True) if ema else None,
        calibration=lambda: batches(99),
        fetch_every=fetch_every,
    )


def new_schedule(name: str) -> Schedule:
    return schedule_of(name, warmup_steps=2, total_steps=STEPS * EPOCHS, plateau_patience=0)


def train(
    learner: Learner,
    until: int,
    *,
    source: Callable = batches,
    evaluate: Callable | None = None,
    on_steps: Callable = lambda records: None,
    watcher: Watcher | None = None,
) -> list[EpochRecord]:
    return list(
        train_epochs(
            learner, until=until, batches=source, evaluate=evaluate or score, on_steps=on_steps, watcher=watcher
        )
    )


def score(model: nn.Module) -> dict[str, float]:
    return {"sum": float(sum(p.detach().sum() for p in model.parameters()))}


def weights(learner: Learner) -> dict[str, torch.Tensor]:
    with learner.scoring() as scored:
        return {name: tensor.clone() for name, tensor in scored.state_dict().items()}


def ignored(records: Sequence[StepRecord]) -> None:
    """For whom the steps do not matter."""


def timeless(records: list[EpochRecord]) -> list[EpochRecord]:
    return [replace(record, seconds=0, images_per_second=0) for record in records]


def equal(one: dict, other: dict) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


# --- resuming


def assert_resumed_ends_like_straight(folder: Path, *, evaluate: Callable = score, **settings: Any) -> None:
    straight = new_learner(**settings)
    steps: list[StepRecord] = []
    expected = train(straight, 4, evaluate=evaluate, on_steps=steps.extend)
    first = new_learner(**settings)
    again: list[StepRecord] = []
    records = train(first, 2, evaluate=evaluate, on_steps=again.extend)
    save_checkpoint(folder / "last.pt", first.state_dict())
    second = new_learner(**settings)
    second.load_state_dict(load_checkpoint(folder / "last.pt", device=torch.device("cpu")))
    records += train(second, 4, evaluate=evaluate, on_steps=again.extend)
    assert equal(weights(second), weights(straight))
    assert equal(second.model.state_dict(), straight.model.state_dict())
    assert timeless(records) == timeless(expected)
    assert again == steps
    assert [record.epoch for record in records] == [1, 2, 3, 4]


@pytest.mark.parametrize("ema", [False, True])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_training_resumed_from_a_file_ends_bit_for_bit_where_a_straight_one_does(tmp_path, ema, optimizer) -> None:
    assert_resumed_ends_like_straight(tmp_path, ema=ema, optimizer=optimizer)


@pytest.mark.parametrize("optimizer", ["sgd", "adamw", "schedulefree_adamw"])
@pytest.mark.parametrize("freeze_steps", [4, 7])
def test_a_training_resumes_exactly_before_and_after_the_body_is_let_go(tmp_path, optimizer, freeze_steps) -> None:
    assert_resumed_ends_like_straight(tmp_path, optimizer=optimizer, freeze_steps=freeze_steps, layer_decay=0.5)


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_a_training_resumes_exactly_under_every_schedule(tmp_path, schedule) -> None:
    assert_resumed_ends_like_straight(tmp_path, schedule=schedule, evaluate=lambda model: {"val_loss": 1.0})


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
    with learner.scoring() as scored:
        assert scored is learner.averaged.module
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
    epochs = train_epochs(new_learner(), until=2, batches=batches, evaluate=score, on_steps=ignored, watcher=None)
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
    records = train(new_learner(), EPOCHS, on_steps=steps.extend)
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
    """Two layers: the head at the full rate, what lies before it at half of it."""
    steps: list[StepRecord] = []
    records = train(new_learner(layer_decay=0.5), 1, on_steps=steps.extend)
    assert records[0].lr_lowest == pytest.approx(records[0].lr / 2)
    assert sorted(set(steps[0].rates)) == pytest.approx([closed_form(0) / 2, closed_form(0)])
    assert (steps[0].lr, steps[0].lr_lowest) == (max(steps[0].rates), min(steps[0].rates))


def test_the_train_loss_is_the_mean_over_the_images_and_not_over_the_batches() -> None:
    steps: list[StepRecord] = []

    def uneven(epoch: int) -> list[Batch]:
        first, second, _ = batches(0)
        return [first, Batch(second.images[:2], second.labels[:2], second.index[:2])]

    (record,) = train(new_learner(), 1, source=uneven, on_steps=steps.extend)
    assert record.train_loss == pytest.approx((4 * steps[0].loss + 2 * steps[1].loss) / 6)
    assert record.step == 2
    assert record.images_per_second == pytest.approx(6 / record.seconds)


def test_the_gradient_norm_is_recorded_before_it_is_clipped() -> None:
    free: list[StepRecord] = []
    clipped: list[StepRecord] = []
    learner = new_learner(clip=1e-3)
    train(new_learner(), 1, on_steps=free.extend)
    train(learner, 1, on_steps=clipped.extend)
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


# --- the size that the model sees


def squares(side: int, count: int = 4) -> Batch:
    pixels = np.random.default_rng(1).integers(0, 256, (count, side, side, 3), dtype=np.uint8)
    return Batch(torch.from_numpy(pixels).permute(0, 3, 1, 2), torch.arange(count) % 2, torch.arange(count))


@pytest.mark.parametrize(("side", "size"), [(48, 32), (64, 32), (33, 32), (96, 40)])
def test_images_are_reduced_as_pillow_does_it(side: int, size: int) -> None:
    """Pillow's bilinear filter widens with the reduction: antialiased, and written independently of torch."""
    batch = squares(side)
    found = CPU.inputs(batch, replace(HALF, size=size))
    assert found.shape == (4, 3, size, size)
    assert found.dtype == torch.float32
    assert found.is_contiguous(memory_format=torch.channels_last)
    for image, seen in zip(batch.images.numpy(), found.numpy(), strict=True):
        for channel, values in zip(image, seen, strict=True):
            small = Image.fromarray(channel.astype(np.float32)).resize((size, size), Image.Resampling.BILINEAR)
            np.testing.assert_allclose(values, (np.asarray(small) / 255 - 0.5) / 0.25, atol=2e-5)


@pytest.mark.parametrize("size", [None, 40])
def test_images_of_the_size_that_is_asked_for_stay_as_they_are(size: int | None) -> None:
    batch = squares(40)
    expected = (batch.images.float() - HALF.mean255) / HALF.std255
    assert torch.equal(CPU.inputs(batch, Preprocessing(HALF.mean255, HALF.std255, size)), expected)


def test_training_prediction_and_calibration_see_the_same_size() -> None:
    seen = []

    class Watching(Tiny):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            seen.append(tuple(images.shape[-2:]))
            return super().forward(images)

    learner = new_learner(optimizer="schedulefree_sgd")
    learner.preprocessing = replace(HALF, size=4)
    learner.model.__class__ = Watching
    train(learner, 1, evaluate=lambda model: {"val_score": 0.5})
    assert len(seen) == STEPS + 3  # and the three batches of the calibration
    predict(learner.model, batches(0), device=CPU, preprocessing=learner.preprocessing)
    assert set(seen) == {(4, 4)}


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

    records = train(learner, EPOCHS, source=watched, on_steps=steps.extend)
    assert [record.diverged for record in records] == [False] * (at // STEPS) + [True]
    assert records[-1].metrics == {}
    assert not math.isfinite(records[-1].train_loss)
    assert equal(dict(learner.model.named_parameters()), before[-1])
    assert len(before) == at  # no further batch was asked for
    assert learner.step == at - 1 == len(steps)
    assert learner.stepper.rates()[0] == pytest.approx(closed_form(at - 1))


def test_a_gradient_that_is_not_finite_ends_the_training_too() -> None:
    learner = new_learner()

    class Endless(nn.CrossEntropyLoss):
        def forward(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
            return super().forward(logits, labels) + logits.detach().sum() * 0 + Cliff.apply(logits)

    class Cliff(torch.autograd.Function):
        @staticmethod
        def forward(ctx, logits):
            return logits.sum() * 0

        @staticmethod
        def backward(ctx, gradient):
            return torch.full((SIZE, 2), math.inf)

    learner.loss = Endless()
    before = {name: p.detach().clone() for name, p in learner.model.named_parameters()}
    (record,) = train(learner, EPOCHS)
    assert record.diverged
    assert math.isfinite(record.train_loss)
    assert equal(dict(learner.model.named_parameters()), before)


# --- steps that the host does not wait for


def gated(optimizer: str, *, fused: bool, **options: Any) -> Learner:
    return new_learner(optimizer=optimizer, fused=fused, ema=optimizer == "adamw", clip=0.5, **options)


OPTIMIZERS_ON_A_GPU = [("adamw", True), ("sgd", True), ("rmsprop", False), ("schedulefree_adamw", False)]


@pytest.mark.parametrize(("optimizer", "fused"), OPTIMIZERS_ON_A_GPU)
@pytest.mark.parametrize("fetch_every", [2, 16])
def test_what_is_read_later_is_the_same(optimizer: str, fused: bool, fetch_every: int) -> None:
    at_once, later = gated(optimizer, fused=fused), gated(optimizer, fused=fused, fetch_every=fetch_every)
    first: list[StepRecord] = []
    second: list[StepRecord] = []
    sizes: list[int] = []

    def take(records: Sequence[StepRecord]) -> None:
        sizes.append(len(records))
        second.extend(records)

    assert timeless(train(later, 2, on_steps=take)) == timeless(train(at_once, 2, on_steps=first.extend))
    assert second == first
    assert sizes == ([2, 1, 2, 1] if fetch_every == 2 else [3, 3])
    assert equal(everything(later), everything(at_once))


@pytest.mark.parametrize(("optimizer", "fused"), OPTIMIZERS_ON_A_GPU)
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_after_a_loss_that_is_not_finite_nothing_moves_until_it_is_read(
    optimizer: str, fused: bool, value: float
) -> None:
    at_once, later = gated(optimizer, fused=fused), gated(optimizer, fused=fused, fetch_every=16)
    # The batch statistics move with each forward pass, as they do in the step that failed.
    for learner in (at_once, later):
        learner.loss = Poisoned(STEPS + 2, value)
        learner.model.norm.momentum = 0.0
    steps: list[StepRecord] = []
    first, second = train(at_once, EPOCHS), train(later, EPOCHS, on_steps=steps.extend)
    assert str(timeless(second)) == str(timeless(first))
    assert (second[-1].diverged, later.step, len(steps)) == (True, STEPS + 1, STEPS + 1)
    after, before = everything(later), everything(at_once)
    assert (after.pop("norm.num_batches_tracked"), before.pop("norm.num_batches_tracked")) == (2 * STEPS, STEPS + 2)
    assert equal(after, before)
    if later.averaged is not None:
        assert equal(later.averaged.module.state_dict(), at_once.averaged.module.state_dict())
    assert later.stepper.rates() == at_once.stepper.rates()


def test_a_watcher_is_asked_about_each_step_in_order_and_goes_back_from_where_it_says() -> None:
    learner, straight = new_learner(fetch_every=16), new_learner()
    watcher = Script(at_step={STEPS + 2: "rolled_back"})
    steps: list[StepRecord] = []
    records = train(learner, EPOCHS, on_steps=steps.extend, watcher=watcher)
    assert [step.step for step in steps] == [1, 2, 3, 4, 5, 4, 5, 6, 7, 8, 9, 10, 11, 12]
    assert [step.step for step in watcher.seen] == [step.step for step in steps]
    assert timeless(records) == timeless(train(straight, EPOCHS))
    assert equal(learner.model.state_dict(), straight.model.state_dict())


def test_a_watcher_may_save_a_training_whose_failed_loss_is_read_late() -> None:
    learner = new_learner(fetch_every=16)
    learner.loss = Poisoned(STEPS + 2, math.nan)
    records = train(learner, EPOCHS, watcher=Script(at_step={STEPS + 2: "rolled_back"}))
    assert [record.epoch for record in records] == [1, 2, 3, 4]
    assert not any(record.diverged for record in records)


# --- scoring


def everything(learner: Learner) -> dict[str, torch.Tensor]:
    """Each tensor that a step reads: weights, buffers, and what the optimizer remembers."""
    memory = learner.stepper.optimizer.state_dict()["state"]
    return {name: tensor.clone() for name, tensor in learner.model.state_dict().items()} | {
        f"{number} {key}": value.clone()
        for number, values in memory.items()
        for key, value in values.items()
        if isinstance(value, torch.Tensor)
    }


@pytest.mark.parametrize("ema", [False, True])
@pytest.mark.parametrize("optimizer", ["adamw", "schedulefree_adamw", "schedulefree_sgd"])
def test_scoring_gives_everything_back_bit_for_bit_also_after_a_failure(ema: bool, optimizer: str) -> None:
    learner = new_learner(optimizer=optimizer, ema=ema, freeze_steps=100)
    train(learner, 1)
    before, modes = everything(learner), [module.training for module in learner.model.modules()]
    flags = [dict(group, params=None) for group in learner.stepper.optimizer.param_groups]
    generator = torch.get_rng_state()
    with contextlib.suppress(KeyError), learner.scoring() as scored:
        assert not any(module.training for module in scored.modules())
        raise KeyError
    assert equal(everything(learner), before)
    assert [module.training for module in learner.model.modules()] == modes
    assert [dict(group, params=None) for group in learner.stepper.optimizer.param_groups] == flags
    assert torch.equal(torch.get_rng_state(), generator)


def test_a_schedule_free_optimizer_is_scored_in_its_averages_with_statistics_of_the_calibration() -> None:
    """Its averages are z and y mixed: x = (y − (1 − β) z) / β; the statistics are the means over three batches."""
    learner = new_learner(optimizer="schedulefree_sgd")
    train(learner, 2)
    optimizer = learner.stepper.optimizer
    y = learner.model.convolution.weight.detach().clone()
    z = optimizer.state[learner.model.convolution.weight]["z"]
    expected = (y - 0.1 * z) / 0.9
    found = weights(learner)
    assert torch.allclose(found["convolution.weight"], expected, atol=1e-6)
    features = [nn.functional.conv2d(CPU.inputs(batch, HALF), expected) for batch in batches(99)]
    means = torch.stack([feature.mean((0, 2, 3)) for feature in features]).mean(0)
    assert torch.allclose(found["norm.running_mean"], means, atol=1e-5)
    assert not torch.allclose(learner.model.norm.running_mean, means, atol=1e-3)


def test_an_evaluation_sees_the_scored_weights_and_its_loss_moves_the_plateau() -> None:
    learner = new_learner(schedule="plateau")
    losses = iter([1.0, 1.0, 0.5, 0.5])  # patience 0: the second and the fourth are no gain
    records = train(learner, EPOCHS, evaluate=lambda model: {"val_loss": next(losses)})
    assert [record.lr for record in records] == pytest.approx([0.1, 0.1, 0.03, 0.03])
    assert learner.stepper.rates()[0] == pytest.approx(0.009)


# --- a watcher


class Script:
    """Answers as it is told: `at_step` and `at_epoch` by the number of the call; goes back to `kept`."""

    def __init__(
        self, *, at_step: dict[int, Request] | None = None, at_epoch: dict[int, Request] | None = None
    ) -> None:
        self.at_step, self.at_epoch = at_step or {}, at_epoch or {}
        self.kept: dict[str, Any] = {}
        self.seen: list[StepRecord] = []
        self.epochs: list[int] = []
        self.norms: list[float] = []

    def before_step(self, learner: Learner) -> None:
        if not self.kept:
            self.kept = copy.deepcopy(learner.state_dict())
        self.norms.append(math.sqrt(sum(float(p.grad.square().sum()) for p in learner.model.parameters())))

    def measure(self, learner: Learner) -> Sequence[torch.Tensor]:
        return ()

    def after_step(self, learner: Learner, record: StepRecord, measured: Sequence[float]) -> Request:
        self.seen.append(record)
        return self._do(learner, self.at_step.get(len(self.seen), "continue"))

    def after_epoch(self, learner: Learner, record: EpochRecord) -> Request:
        self.epochs.append(record.epoch)
        request = self._do(learner, self.at_epoch.get(len(self.epochs), "continue"))
        if len(self.epochs) == 1:
            self.kept = copy.deepcopy(learner.state_dict())
        return request

    def _do(self, learner: Learner, request: Request) -> Request:
        if request == "rolled_back":
            learner.load_state_dict(copy.deepcopy(self.kept))
        return request


@pytest.mark.parametrize("optimizer", ["adamw", "schedulefree_adamw"])
def test_a_watcher_that_only_looks_changes_nothing_and_sees_gradients_unclipped(optimizer: str) -> None:
    watched, watcher = new_learner(optimizer=optimizer, clip=1e-3), Script()
    alone = new_learner(optimizer=optimizer, clip=1e-3)
    steps: list[StepRecord] = []
    assert timeless(train(watched, 2, watcher=watcher)) == timeless(train(alone, 2, on_steps=steps.extend))
    assert equal(watched.model.state_dict(), alone.model.state_dict())
    assert watcher.seen == steps
    assert watcher.norms == pytest.approx([step.grad_norm for step in steps], rel=1e-5)
    assert watcher.epochs == [1, 2]


def test_stopped_inside_an_epoch_only_the_whole_ones_are_given_out() -> None:
    learner, steps = new_learner(), []
    records = train(learner, EPOCHS, on_steps=steps.extend, watcher=Script(at_step={STEPS + 2: "stop"}))
    assert [record.epoch for record in records] == [1]
    assert learner.step == len(steps) == STEPS + 2


def test_stopped_after_an_epoch_its_record_is_the_last() -> None:
    records = train(new_learner(), EPOCHS, watcher=Script(at_epoch={2: "stop"}))
    assert [record.epoch for record in records] == [1, 2]


def test_rolled_back_inside_an_epoch_that_epoch_is_repeated_from_where_the_learner_was_put() -> None:
    """Back from the second step of epoch 3 to the end of epoch 1: epoch 2 comes twice, bit for bit the same."""
    learner, straight = new_learner(optimizer="schedulefree_adamw"), new_learner(optimizer="schedulefree_adamw")
    steps: list[StepRecord] = []
    watcher = Script(at_step={2 * STEPS + 2: "rolled_back"})
    records = train(learner, EPOCHS, on_steps=steps.extend, watcher=watcher)
    assert [record.epoch for record in records] == [1, 2, 2, 3, 4]
    assert [step.step for step in steps] == [1, 2, 3, 4, 5, 6, 7, 8, 4, 5, 6, 7, 8, 9, 10, 11, 12]
    expected = timeless(train(straight, EPOCHS))
    assert timeless(records[:2] + records[3:]) == expected
    assert timeless(records[2:3]) == expected[1:2]
    assert equal(learner.model.state_dict(), straight.model.state_dict())


def test_rolled_back_after_an_epoch_its_record_is_given_out_and_the_next_is_an_earlier_one() -> None:
    records = train(new_learner(), 3, watcher=Script(at_epoch={2: "rolled_back"}))
    assert [record.epoch for record in records] == [1, 2, 2, 3]


def test_a_watcher_may_save_a_training_whose_loss_is_not_finite() -> None:
    learner = new_learner()
    learner.loss = Poisoned(STEPS + 2, math.nan)
    watcher = Script(at_step={STEPS + 2: "rolled_back"})
    records = train(learner, EPOCHS, watcher=watcher)
    assert [record.epoch for record in records] == [1, 2, 3, 4]
    assert not any(record.diverged for record in records)
    assert watcher.seen[STEPS + 1].diverged


def test_a_watcher_that_stops_at_a_loss_that_is_not_finite_leaves_the_record_marked() -> None:
    learner = new_learner()
    learner.loss = Poisoned(2, math.nan)
    (record,) = train(learner, EPOCHS, watcher=Script(at_step={2: "stop"}))
    assert record.diverged


# --- prediction


def test_predictions_come_in_the_order_of_the_images_whatever_the_batches() -> None:
    model = Tiny().eval()
    images = torch.cat([batch.images for batch in batches(0)])
    whole = predict(model, [Batch(images, torch.zeros(12), torch.arange(12))], device=CPU, preprocessing=HALF)
    parts = [Batch(images, torch.zeros(12), torch.arange(12))[i : i + 5] for i in (0, 5, 10)]
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


class Small(Device):
    """Runs out of memory with more than two images, and always where `everything`."""

    sizes: ClassVar[list[int]] = []
    everything = False

    def forward(self, model: nn.Module, batch: Batch, preprocessing: Preprocessing) -> torch.Tensor:
        self.sizes.append(len(batch))
        if self.everything or len(batch) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return super().forward(model, batch, preprocessing)


def test_batches_that_do_not_fit_into_memory_are_halved_until_they_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Small, "sizes", [])
    model = Tiny().eval()
    whole = predict(model, batches(0), device=CPU, preprocessing=HALF)
    images = torch.cat([batch.images for batch in batches(0)])
    large = [Batch(images, torch.zeros(12), torch.arange(12))[:7], Batch(images, torch.zeros(12), torch.arange(12))[7:]]
    found = predict(model, large, device=Small(torch.device("cpu")), preprocessing=HALF)
    assert found == pytest.approx(whole, abs=1e-6)
    assert Small.sizes == [7, 3, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1]


def test_a_single_image_that_does_not_fit_into_memory_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Small, "everything", True)
    with pytest.raises(torch.OutOfMemoryError):
        predict(Tiny(), batches(0), device=Small(torch.device("cpu")), preprocessing=HALF)


def test_prediction_restores_the_mode_when_a_batch_fails() -> None:
    model = Tiny().train()
    with pytest.raises(RuntimeError):
        predict(model, [Batch(torch.zeros(1, 5, 5, 5), torch.zeros(1), torch.zeros(1))], device=CPU, preprocessing=HALF)
    assert model.training


def test_bfloat16_gives_logits_in_float32_near_those_of_full_precision() -> None:
    model, batch = Tiny().eval(), next(batches(0))
    half = Device(torch.device("cpu"), "bfloat16").forward(model, batch, HALF)
    full = CPU.forward(model, batch, HALF)
    assert half.dtype == torch.float32
    assert not torch.equal(half, full)
    assert torch.allclose(half, full, atol=0.05)


# --- epochs that are not scored


@pytest.mark.parametrize("first", [1, 3, EPOCHS, EPOCHS + 1])
def test_only_epochs_from_the_given_one_on_are_scored_and_the_weights_do_not_depend_on_it(first: int) -> None:
    def run(learner: Learner, evaluate_from: int) -> list[EpochRecord]:
        return list(
            train_epochs(
                learner, until=EPOCHS, batches=batches, evaluate=score, on_steps=ignored, watcher=None,
                evaluate_from=evaluate_from,
            )
        )  # fmt: skip

    some, every = new_learner(optimizer="schedulefree_adamw"), new_learner(optimizer="schedulefree_adamw")
    records, all_records = run(some, first), run(every, 1)
    scored = [record for record in records if record.metrics]
    assert [record.epoch for record in scored] == list(range(first, EPOCHS + 1))
    assert [record.metrics for record in scored] == [record.metrics for record in all_records[first - 1 :]]
    assert all(torch.equal(one, other) for one, other in zip(
        weights(some).values(), weights(every).values(), strict=True
    ))  # fmt: skip
