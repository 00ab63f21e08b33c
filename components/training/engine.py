"""The training loop as a generator of epochs. It knows neither MLflow nor Ray: it yields plain records.

A generator can be driven by a progress bar, a Ray trainable that is paused and resumed, or a test. An epoch is a
function of the learner's state, the seed and the epoch number alone, so a training that is resumed from a checkpoint
ends with the same weights, bit for bit on a CPU. A watcher may observe every step, end the training, or roll the
learner back.

On a GPU the host runs ahead of the device. It reads the values of `FETCH_STEPS` steps in one copy. After a loss or
gradient that is not finite, the device does not change the weights until that copy is read: the records, and the
weights of a training that is not stopped, do not depend on the interval.
"""

from __future__ import annotations

import logging
import math
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, Literal, Protocol

import numpy as np
import torch
from timm.utils import ModelEmaV3
from torch import nn

from components.data.loader import EVAL_BATCH, Batch, prefetched
from components.models.forward import Preprocessing, logits_of
from components.optim.averaging import eval_mode
from components.optim.stepper import Stepper

logger = logging.getLogger(__name__)

Evaluation = Callable[[nn.Module], Mapping[str, float]]
Request = Literal["continue", "stop", "rolled_back"]
#: Optimizer steps on a GPU from one read of their losses, norms and measurements to the next.
FETCH_STEPS = 16


@dataclass(frozen=True)
class Device:
    """Where tensors live and in which precision the forward pass runs: float32 or bfloat16."""

    target: torch.device
    precision: str = "float32"

    def forward(self, model: nn.Module, batch: Batch, preprocessing: Preprocessing) -> torch.Tensor:
        """Logits (B, K) float32 of a batch of uint8 images."""
        return logits_of(model, self.inputs(batch, preprocessing), self.precision)

    def inputs(self, batch: Batch, preprocessing: Preprocessing) -> torch.Tensor:
        """What the model sees, (B, 3, H, W) float32: images are sent to the device as bytes."""
        return preprocessing.to(self.target).apply(batch.images.to(self.target, non_blocking=True))


@dataclass
class Learner:
    """The state of a training, and what a step needs.

    model: on the device. loss: of logits (B, K) and labels (B,) or targets (B, K), a scalar. averaged: the moving
    average of the weights, if the recipe has one. calibration: gives training batches without augmentation, for the
    norms of weights that a schedule-free optimizer has averaged. eval_batch: images per batch of an evaluation. early,
    early_steps: how images are resized in the first steps of the schedule; None: as in evaluation. fetch_every: steps
    from one read of their values to the next; None: `FETCH_STEPS` on a GPU, and 1 on a CPU, where a read costs nothing.
    With 1 the host checks each step before the weights change.
    """

    model: nn.Module
    stepper: Stepper
    loss: nn.Module
    device: Device
    preprocessing: Preprocessing
    seed: int
    averaged: ModelEmaV3 | None
    calibration: Callable[[], Iterable[Batch]]
    eval_batch: int = EVAL_BATCH
    epoch: int = 0
    early: Preprocessing | None = None
    early_steps: int = 0
    fetch_every: int | None = None

    def __post_init__(self) -> None:
        """Put the constants of each step onto the device."""
        self.preprocessing = self.preprocessing.to(self.device.target)
        self.early = self.early and self.early.to(self.device.target)
        if self.fetch_every is None:
            self.fetch_every = 1 if self.device.target.type == "cpu" else FETCH_STEPS

    @property
    def step(self) -> int:
        """Successful optimizer steps so far."""
        return self.stepper.steps

    @property
    def training_preprocessing(self) -> Preprocessing:
        """That of the coming step."""
        begins = self.stepper.steps + self.stepper.skipped < self.early_steps
        return self.early if self.early is not None and begins else self.preprocessing

    @contextmanager
    def scoring(self) -> Iterator[nn.Module]:
        """The weights that are evaluated and exported, in eval mode: averaged ones if there are any.

        At the end every weight, buffer and mode of the learner is restored. Take no checkpoint inside.
        """
        if self.averaged is not None:
            yield self.averaged.module
            return

        def inputs() -> Iterator[torch.Tensor]:
            return (self.device.inputs(batch, self.preprocessing) for batch in self.calibration())

        with eval_mode(self.model), self.stepper.averaged(inputs):
            yield self.model

    def state_dict(self) -> dict[str, Any]:
        """The state to resume from; the tensors are the learner's own, no copies."""
        return {
            "model": self.model.state_dict(),
            "stepper": self.stepper.state_dict(),
            "averaged": self.averaged.module.state_dict() if self.averaged is not None else None,
            "epoch": self.epoch,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Resume from a state, which is not changed."""
        self.model.load_state_dict(state["model"])
        self.stepper.load_state_dict(state["stepper"])
        if self.averaged is not None:
            self.averaged.module.load_state_dict(state["averaged"])
        self.epoch = state["epoch"]


@dataclass(frozen=True)
class StepRecord:
    """One optimizer step. `rates`: what each parameter group used in it; `lr` and `lr_lowest` are their extremes."""

    step: int
    lr: float
    lr_lowest: float
    rates: tuple[float, ...]
    loss: float
    grad_norm: float

    @property
    def diverged(self) -> bool:
        """Whether loss or gradient was not finite, and so no step was taken."""
        return not (math.isfinite(self.loss) and math.isfinite(self.grad_norm))


@dataclass(frozen=True)
class EpochRecord:
    """One epoch. `lr` and `lr_lowest` are those of its last step; `train_loss` is the mean over its images."""

    epoch: int
    step: int
    train_loss: float
    lr: float
    lr_lowest: float
    grad_norm: float
    seconds: float
    images_per_second: float
    diverged: bool
    metrics: dict[str, float] = field(default_factory=dict)


class Watcher(Protocol):
    """Observes a training, and may end it or roll it back.

    "stop": the training ends. "rolled_back": the watcher has loaded an earlier state into the learner, with its `epoch`
    and `step`, and the training continues from there. In both cases an unfinished epoch has no record.
    """

    def before_step(self, learner: Learner) -> None:
        """Called with the unclipped gradients; `learner.stepper` has them and their norm."""

    def measure(self, learner: Learner) -> Sequence[torch.Tensor]:
        """Scalars on the device, the same number after each step, NaN for none; called after the update."""
        ...

    def after_step(self, learner: Learner, record: StepRecord, measured: Sequence[float]) -> Request:
        """Called for each step in order, with the values of `measure`, when they are read.

        By then the learner may be up to `fetch_every` - 1 steps further. Also called after a step that diverged.
        """
        ...

    def after_epoch(self, learner: Learner, record: EpochRecord) -> Request:
        """Called after the evaluation, before the record is yielded."""
        ...


def train_epochs(
    learner: Learner,
    *,
    until: int,
    batches: Callable[[int], Iterable[Batch]],
    evaluate: Evaluation | None,
    on_steps: Callable[[Sequence[StepRecord]], None],
    watcher: Watcher | None,
    evaluate_from: int = 1,
) -> Iterator[EpochRecord]:
    """Train epoch by epoch, from the learner's own epoch to `until`; yield a record after each.

    batches: gives the batches of an epoch (numbered from 0). evaluate: metrics of the scored weights, called within
    `scoring` after each epoch from `evaluate_from` (numbered from 1) on; the schedule `plateau` listens to their
    `val_loss`; None: no evaluation. on_steps: gets
    the records of successful steps in order, `learner.fetch_every` of them at most at a time, and the rest of an epoch
    before its evaluation. A step that diverged ends the training with a record marked `diverged`, without metrics,
    unless the watcher rolls back. After a rollback, epochs and steps are repeated: the later ones count.
    """
    while learner.epoch < until:
        started = time.perf_counter()
        totals, request = _train_one_epoch(learner, batches(learner.epoch), on_steps, watcher)
        if request == "rolled_back":
            continue
        if request == "stop" and not totals.diverged:
            return
        seconds = time.perf_counter() - started
        learner.epoch += 1
        scores: dict[str, float] = {}
        if evaluate is not None and learner.epoch >= evaluate_from and not totals.diverged:
            with learner.scoring() as scored:
                scores = dict(evaluate(scored))
            if "val_loss" in scores:
                learner.stepper.epoch_ended(scores["val_loss"])
        record = totals.record(learner, seconds, scores)
        if watcher is not None and not record.diverged:
            request = watcher.after_epoch(learner, record)
        yield record
        if record.diverged or request == "stop":
            return


def predict(model: nn.Module, batches: Iterable[Batch], *, device: Device, preprocessing: Preprocessing) -> np.ndarray:
    """Logits of all batches in order, (N, K) float32. The model's mode is restored."""
    preprocessing = preprocessing.to(device.target)
    with eval_mode(model), torch.inference_mode():
        return forward_all(lambda batch: device.forward(model, batch, preprocessing), batches, device.target)


def forward_all(forward: Callable[[Batch], torch.Tensor], batches: Iterable[Batch], target: torch.device) -> np.ndarray:
    """Outputs of all batches in order, (N, …), of a function that computes on the device.

    If a batch does not fit into the GPU's memory, it and the next ones are halved until they do.
    """
    outputs: list[torch.Tensor] = []
    fits = sys.maxsize
    for batch in prefetched(batches) if target.type == "cuda" else batches:
        done = 0
        while done < len(batch):
            part = batch[done : done + fits]
            try:
                outputs.append(forward(part))
                done += len(part)
            except torch.OutOfMemoryError:
                if len(part) == 1:
                    raise
                fits = len(part) // 2
                logger.warning("%d images do not fit into the GPU's memory at once: %d do next", len(part), fits)
    return torch.cat(outputs).cpu().numpy()


@dataclass
class _Totals:
    images: int = 0
    steps: int = 0
    loss: float = 0.0
    grad_norm: float = 0.0
    lr: float = math.nan
    lr_lowest: float = math.nan
    diverged: bool = False

    def add(self, record: StepRecord, images: int) -> None:
        self.images += images
        self.steps += 1
        self.loss += record.loss * images
        self.grad_norm += record.grad_norm
        self.lr, self.lr_lowest = record.lr, record.lr_lowest
        self.diverged = record.diverged

    def record(self, learner: Learner, seconds: float, metrics: dict[str, float]) -> EpochRecord:
        return EpochRecord(
            epoch=learner.epoch,
            step=learner.step,
            train_loss=self.loss / max(self.images, 1),
            lr=self.lr,
            lr_lowest=self.lr_lowest,
            grad_norm=self.grad_norm / max(self.steps, 1),
            seconds=seconds,
            images_per_second=self.images / seconds,
            diverged=self.diverged,
            metrics=metrics,
        )


def _train_one_epoch(
    learner: Learner,
    batches: Iterable[Batch],
    on_steps: Callable[[Sequence[StepRecord]], None],
    watcher: Watcher | None,
) -> tuple[_Totals, Request]:
    """Train until the batches are used up, a step diverges, or the watcher stops or rolls back."""
    assert learner.fetch_every is not None
    totals = _Totals()
    request: Request = "continue"
    unread: list[_Step] = []
    devices = [learner.device.target] if learner.device.target.type == "cuda" else []
    # Dropout and stochastic depth draw from torch's global generator: seed it per epoch, and restore it.
    with torch.random.fork_rng(devices):
        torch.manual_seed(_epoch_seed(learner.seed, learner.epoch))
        learner.stepper.train()
        for batch in batches:
            unread.append(_step(learner, batch, watcher))
            if len(unread) < learner.fetch_every:
                continue
            request = _read(learner, unread, totals, on_steps, watcher)
            unread = []
            if totals.diverged or request != "continue":
                break
        if unread:
            request = _read(learner, unread, totals, on_steps, watcher)
    return totals, request


@dataclass(frozen=True)
class _Step:
    """A step whose values are not read yet. values: loss, gradient norm, and the watcher's scalars."""

    number: int
    rates: tuple[float, ...]
    images: int
    values: list[torch.Tensor]


def _step(learner: Learner, batch: Batch, watcher: Watcher | None) -> _Step:
    """One optimizer step. The gradient norm is before clipping; if it or the loss is not finite, no weight changes."""
    stepper, number = learner.stepper, learner.step + 1
    stepper.zero_grad()
    logits = learner.device.forward(learner.model, batch, learner.training_preprocessing)
    loss = learner.loss(logits, batch.taught.to(learner.device.target, non_blocking=True))
    loss.backward()
    stepper.measure_gradients()
    if watcher is not None:
        watcher.before_step(learner)
    rates = stepper.step(loss, on_device=learner.fetch_every != 1)
    if learner.averaged is not None and learner.step == number:
        with stepper.undone_on_failure(learner.averaged.module.state_dict().values):
            learner.averaged.update(learner.model, step=number)
    measured = () if watcher is None else watcher.measure(learner)
    return _Step(number, rates, len(batch), [loss.detach(), stepper.grad_norm, *measured])


def _read(
    learner: Learner,
    steps: list[_Step],
    totals: _Totals,
    on_steps: Callable[[Sequence[StepRecord]], None],
    watcher: Watcher | None,
) -> Request:
    """Read the values of these steps in one copy; report the records up to a divergence, stop or rollback."""
    if learner.fetch_every == 1:
        values = [[value.item() for value in step.values] for step in steps]
    else:
        values = torch.stack([value for step in steps for value in step.values]).view(len(steps), -1).tolist()
    given: list[StepRecord] = []
    request: Request = "continue"
    for position, (step, (loss, grad_norm, *measured)) in enumerate(zip(steps, values, strict=True)):
        record = StepRecord(step.number, max(step.rates), min(step.rates), step.rates, loss, grad_norm)
        if record.diverged:
            if learner.fetch_every != 1:
                learner.stepper.uncount_steps(len(steps) - position)
            record = replace(record, step=learner.step, grad_norm=grad_norm if math.isfinite(loss) else math.nan)
        else:
            given.append(record)
        totals.add(record, step.images)
        if watcher is not None:
            request = watcher.after_step(learner, record, measured)
        if record.diverged or request != "continue":
            break
    if given:
        on_steps(given)
    return request


def _epoch_seed(seed: int, epoch: int) -> int:
    return int(np.random.SeedSequence([seed, epoch]).generate_state(1)[0])
