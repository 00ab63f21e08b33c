"""The training loop as a generator of epochs. It knows neither MLflow nor Ray: it yields plain records.

A generator lets anybody drive it: a progress bar, a Ray trainable that is paused and resumed, a test. What an epoch
does is a function of the learner's state, the seed and the epoch number alone, so a training that is resumed from a
checkpoint ends with the same weights, bit for bit on a CPU.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from timm.utils import ModelEmaV3
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from components.data.loader import Batch

Evaluation = Callable[[nn.Module], Mapping[str, float]]


@dataclass(frozen=True)
class Device:
    """Where tensors live and in which precision the forward pass runs."""

    target: torch.device
    autocast: torch.dtype | None = None

    def forward(self, model: nn.Module, batch: Batch, preprocessing: Preprocessing) -> torch.Tensor:
        """Logits (B, K) float32 of a batch of uint8 images, which are sent as bytes and normalised on the device."""
        images = batch.images.to(self.target, non_blocking=True).float()
        images = images.sub_(preprocessing.mean255.to(self.target)).div_(preprocessing.std255.to(self.target))
        images = images.contiguous(memory_format=torch.channels_last)
        with torch.autocast(self.target.type, dtype=self.autocast, enabled=self.autocast is not None):
            return model(images).float()


@dataclass(frozen=True)
class Preprocessing:
    """Channel means and standard deviations on the 0–255 scale, (1, 3, 1, 1) float32."""

    mean255: torch.Tensor
    std255: torch.Tensor

    @classmethod
    def from_unit_scale(cls, mean: Iterable[float], std: Iterable[float]) -> Preprocessing:
        """From the usual constants on the 0–1 scale."""
        return cls(*(torch.tensor(list(values)).mul(255).view(1, 3, 1, 1) for values in (mean, std)))


@dataclass
class Learner:
    """All that changes during a training, and what it needs to change.

    `model` is on the device already. `averaged` follows the weights where the recipe asks for it.
    """

    model: nn.Module
    optimizer: Optimizer
    schedule: LambdaLR
    loss: nn.Module
    device: Device
    preprocessing: Preprocessing
    seed: int
    clip_grad_norm: float | None
    averaged: ModelEmaV3 | None
    epoch: int = 0
    step: int = 0

    @property
    def scored(self) -> nn.Module:
        """The weights that are evaluated and exported: the averaged ones where there are any."""
        return self.averaged.module if self.averaged is not None else self.model

    def state_dict(self) -> dict[str, Any]:
        return {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
            "averaged": self.averaged.module.state_dict() if self.averaged is not None else None,
            "epoch": self.epoch,
            "step": self.step,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.schedule.load_state_dict(state["schedule"])
        if self.averaged is not None:
            self.averaged.module.load_state_dict(state["averaged"])
        self.epoch, self.step = state["epoch"], state["step"]


@dataclass(frozen=True)
class StepRecord:
    """One optimizer step. `lr` and `lr_lowest`: rates that the fastest and the slowest group used in it."""

    step: int
    lr: float
    lr_lowest: float
    loss: float
    grad_norm: float


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


def train_epochs(
    learner: Learner,
    *,
    until: int,
    batches: Callable[[int], Iterable[Batch]],
    evaluate: Evaluation,
    on_step: Callable[[StepRecord], None],
) -> Iterator[EpochRecord]:
    """Train epoch by epoch, from the learner's own epoch to `until`; yield a record after each.

    batches: gives the batches of an epoch (numbered from 0). evaluate: metrics of the scored weights, called after
    each epoch. on_step: called after each step. A loss that is not finite ends the training with a record marked
    `diverged`, which carries no metrics.
    """
    while learner.epoch < until:
        started = time.perf_counter()
        totals = _train_one_epoch(learner, batches(learner.epoch), on_step)
        seconds = time.perf_counter() - started
        learner.epoch += 1
        diverged = not math.isfinite(totals.mean_loss)
        yield EpochRecord(
            epoch=learner.epoch,
            step=learner.step,
            train_loss=totals.mean_loss,
            lr=totals.lr,
            lr_lowest=totals.lr_lowest,
            grad_norm=totals.mean_grad_norm,
            seconds=seconds,
            images_per_second=totals.images / seconds,
            diverged=diverged,
            metrics={} if diverged else dict(evaluate(learner.scored)),
        )
        if diverged:
            return


def predict(model: nn.Module, batches: Iterable[Batch], *, device: Device, preprocessing: Preprocessing) -> np.ndarray:
    """Logits of all batches in order, (N, K) float32. Leaves the model in the mode in which it was."""
    was_training = model.training
    model.eval()
    try:
        with torch.inference_mode():
            logits = [device.forward(model, batch, preprocessing).cpu() for batch in batches]
    finally:
        model.train(was_training)
    return torch.cat(logits).numpy()


@dataclass
class _Totals:
    images: int = 0
    steps: int = 0
    loss: float = 0.0
    grad_norm: float = 0.0
    lr: float = math.nan
    lr_lowest: float = math.nan

    def add(self, record: StepRecord, images: int) -> None:
        self.images += images
        self.steps += 1
        self.loss += record.loss * images
        self.grad_norm += record.grad_norm
        self.lr, self.lr_lowest = record.lr, record.lr_lowest

    @property
    def mean_loss(self) -> float:
        return self.loss / max(self.images, 1)

    @property
    def mean_grad_norm(self) -> float:
        return self.grad_norm / max(self.steps, 1)


def _train_one_epoch(learner: Learner, batches: Iterable[Batch], on_step: Callable[[StepRecord], None]) -> _Totals:
    totals = _Totals()
    devices = [learner.device.target] if learner.device.target.type == "cuda" else []
    # Dropout and stochastic depth draw from torch's global generator: seed it per epoch, and give it back as it was.
    with torch.random.fork_rng(devices):
        torch.manual_seed(_epoch_seed(learner.seed, learner.epoch))
        learner.model.train()
        for batch in batches:
            record = _step(learner, batch)
            totals.add(record, len(batch.labels))
            if not math.isfinite(record.loss):
                break
            on_step(record)
    return totals


def _step(learner: Learner, batch: Batch) -> StepRecord:
    """One optimizer step; the gradient norm is the one before clipping. A loss that is not finite takes no step."""
    rates = [group["lr"] for group in learner.optimizer.param_groups]
    learner.optimizer.zero_grad(set_to_none=True)
    logits = learner.device.forward(learner.model, batch, learner.preprocessing)
    loss = learner.loss(logits, batch.labels.to(learner.device.target, non_blocking=True))
    value = loss.item()
    if not math.isfinite(value):
        return StepRecord(learner.step, max(rates), min(rates), value, math.nan)
    loss.backward()
    limit = learner.clip_grad_norm if learner.clip_grad_norm is not None else math.inf
    grad_norm = float(nn.utils.clip_grad_norm_(learner.model.parameters(), limit))
    learner.optimizer.step()
    learner.schedule.step()
    learner.step += 1
    if learner.averaged is not None:
        learner.averaged.update(learner.model, step=learner.step)
    return StepRecord(learner.step, max(rates), min(rates), value, grad_norm)


def _epoch_seed(seed: int, epoch: int) -> int:
    return int(np.random.SeedSequence([seed, epoch]).generate_state(1)[0])
