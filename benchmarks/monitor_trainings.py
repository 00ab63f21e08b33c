"""The trainings of the monitor's benchmark: two problems, two networks, and what is planted in them.

A perceptron on scikit-learn's digits and a convolutional network with batch norm on drawn parts, through the real
engine, with the monitor on `observe`.
"""

from __future__ import annotations

import collections
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import nn

from components.data.loader import Batch
from components.models.forward import Preprocessing
from components.optim.layerwise import LayerRates
from components.optim.optimizers import build_optimizer
from components.optim.schedules import Schedule
from components.optim.stepper import Stepper
from components.training.engine import Device, EpochRecord, Learner, predict, train_epochs
from components.training.watch import MonitorWatcher

CPU = Device(torch.device("cpu"))
SCALE = Preprocessing.from_unit_scale((0.5, 0.5, 0.5), (0.25, 0.25, 0.25))
BATCH, PROBE, PROBE_EVERY, VAL = 16, 64, 10, 400


@dataclass(frozen=True)
class Plant:
    """One kind of training, and which verdicts are true of it. Data noise is what makes plateaus and overfitting.

    wrong_labels: share of training labels that are drawn at random once. fresh_labels: share of all labels drawn at
    random, of training labels anew in each step, so that they cannot be learned by heart. poison: what is wrong with
    one batch somewhere after the third epoch: all its labels, or besides these the images, which are noise.
    """

    true: tuple[str, ...]
    factor: float = 1.0
    images: int = 800
    epochs: int = 8
    schedules: tuple[str, ...] = ("cosine",)
    wrong_labels: float = 0.0
    fresh_labels: float = 0.0
    poison: Literal["none", "labels", "images"] = "none"


@dataclass
class Outcome:
    """A finished training: its verdicts, and the losses after each epoch on validation and on unseen images."""

    verdicts: list[dict[str, Any]]
    val_losses: list[float] = field(default_factory=list)
    unseen_losses: list[float] = field(default_factory=list)

    @property
    def kinds(self) -> set[str]:
        return {entry["kind"] for entry in self.verdicts}

    @property
    def honestly_good(self) -> bool:
        """See the head of monitor.py."""
        losses = self.unseen_losses
        return losses[-1] <= 1.05 * min(losses) and losses[-1] < 0.75 * losses[len(losses) // 4 - 1]


@dataclass(frozen=True)
class Images:
    """images: (N, 3, S, S) uint8. labels: (N,) int64 in [0, classes)."""

    images: torch.Tensor
    labels: torch.Tensor

    def batch(self, index: torch.Tensor) -> Batch:
        return Batch(self.images[index], self.labels[index], index)

    def batches(self) -> Iterator[Batch]:
        return (self.batch(index) for index in torch.arange(len(self.labels)).split(512))


def draw_digits(generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """All of scikit-learn's digits in a random order: (1797, 3, 8, 8) uint8 and (1797,) int64."""
    digits = load_digits()
    order = generator.permutation(len(digits.target))
    images = (digits.images[order] / 16 * 255).astype(np.uint8)
    return np.repeat(images[:, None], 3, axis=1), digits.target[order].astype(np.int64)


def draw_parts(generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Noisy surfaces, a third each good, with a hole and with a scratch: (2600, 3, 16, 16) uint8, (2600,) int64."""
    count, side = 2600, 16
    labels = generator.integers(0, 3, count)
    images = generator.normal(0, 22, (count, side, side)) + generator.uniform(90, 150, (count, 1, 1))
    images += generator.uniform(-20, 20, (count, 1, 1)) * np.linspace(-1, 1, side)[:, None]
    for image, label in zip(images, labels, strict=True):
        contrast = generator.uniform(35, 70) * generator.choice([-1, 1])
        row, column = generator.integers(2, side - 3, 2)
        if label == 1:
            image[row : row + 3, column : column + 3] += contrast
        elif label == 2:
            start = generator.integers(0, side // 2)
            surface = image if generator.random() < 0.5 else image.T
            surface[row, start : start + side // 2] += contrast
    return np.repeat(images.clip(0, 255).astype(np.uint8)[:, None], 3, axis=1), labels


def perceptron() -> nn.Module:
    hidden = [nn.Linear(192, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU()]
    return nn.Sequential(nn.Flatten(), *hidden, nn.Linear(64, 10))


def convolutional() -> nn.Module:
    layers: list[nn.Module] = []
    for inputs, outputs in ((3, 12), (12, 24)):
        layers += [nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()]
        layers += [nn.MaxPool2d(2)] if inputs == 3 else [nn.AdaptiveMaxPool2d(1)]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(24, 3))


PROBLEMS: dict[str, tuple[Callable[..., tuple[np.ndarray, np.ndarray]], Callable[[], nn.Module], int]] = {
    "digits": (draw_digits, perceptron, 10),
    "parts": (draw_parts, convolutional, 3),
}


def train(problem: str, optimizer: str, plant: Plant, seed: int, *, rate: float) -> Outcome:
    """One training with the monitor beside it."""
    draw, network, classes = PROBLEMS[problem]
    generator = np.random.default_rng([seed, 1])
    images, labels = draw(generator)
    train_set, val, unseen = _split(images, labels, plant, generator, classes)
    steps = len(train_set.labels) // BATCH
    with torch.random.fork_rng([]):
        torch.manual_seed(seed)
        model = network()
    schedule = plant.schedules[seed % len(plant.schedules)]
    learner = make_learner(model, optimizer, rate * plant.factor, schedule, steps * plant.epochs, seed)
    watcher = MonitorWatcher(
        val.batch(torch.arange(PROBE)),
        action="observe",
        max_rollbacks=1,
        probe_every=PROBE_EVERY,
        total_steps=steps * plant.epochs,
        chance_loss=math.log(classes),
    )
    poisoned = int(generator.integers(3, plant.epochs - 1)) * steps + int(generator.integers(steps))
    outcome = Outcome(watcher.ledger)

    def evaluate(scored: nn.Module) -> dict[str, float]:
        outcome.unseen_losses.append(_loss(scored, unseen))
        outcome.val_losses.append(_loss(scored, val))
        return {"val_loss": outcome.val_losses[-1], "val_score": 0.0}

    records: Iterator[EpochRecord] = train_epochs(
        learner,
        until=plant.epochs,
        batches=lambda epoch: _batches(train_set, plant, seed, epoch, poisoned, classes),
        evaluate=evaluate,
        on_steps=lambda records: None,
        watcher=watcher,
    )
    collections.deque(records, maxlen=0)
    return outcome


def make_learner(model: nn.Module, optimizer: str, lr: float, schedule: str, total_steps: int, seed: int) -> Learner:
    built = build_optimizer(
        model, name=optimizer, lr=lr, weight_decay=0.01, layers=LayerRates(layer_decay=1, towards="input", head_ratio=1)
    )
    plan = Schedule(
        name=schedule,
        warmup_steps=0 if schedule == "one_cycle" else round(0.03 * total_steps),
        total_steps=total_steps,
        final_lr_fraction=0.01,
        schedule_drops=2,
        schedule_cycles=3,
        cycle_growth=1.0,
        cycle_low=0.25,
        rise_fraction=0.3,
        cooldown_fraction=0.2,
        plateau_factor=0.3,
        plateau_patience=2,
    )
    return Learner(
        model=model,
        stepper=Stepper(model, built, plan, clip_grad_norm=None, freeze_steps=0),
        loss=nn.CrossEntropyLoss(),
        device=CPU,
        preprocessing=SCALE,
        seed=seed,
        averaged=None,
        calibration=lambda: (),
    )


def _split(
    images: np.ndarray, labels: np.ndarray, plant: Plant, generator: np.random.Generator, classes: int
) -> tuple[Images, Images, Images]:
    """Training, validation and unseen images, with the labels that are wrong from the start."""
    ends = [plant.images, plant.images + VAL]
    parts = zip(np.split(images, ends), np.split(labels, ends), strict=True)
    shares = (plant.wrong_labels, plant.fresh_labels, plant.fresh_labels)
    return tuple(  # type: ignore[return-value]
        Images(torch.from_numpy(pixels), torch.from_numpy(_relabel(truth, share, generator, classes)))
        for (pixels, truth), share in zip(parts, shares, strict=True)
    )


def _relabel(labels: np.ndarray, share: float, generator: np.random.Generator, classes: int) -> np.ndarray:
    return np.where(generator.random(len(labels)) < share, generator.integers(0, classes, len(labels)), labels)


def _batches(images: Images, plant: Plant, seed: int, epoch: int, poisoned: int, classes: int) -> Iterator[Batch]:
    """One epoch in a new order. poisoned: number of the step whose batch is."""
    generator = np.random.default_rng([seed, 2, epoch])
    order = torch.from_numpy(generator.permutation(len(images.labels)))
    steps = len(order) // BATCH
    for number, index in enumerate(order[: steps * BATCH].split(BATCH), start=epoch * steps):
        batch = images.batch(index)
        labels = torch.from_numpy(_relabel(batch.labels.numpy(), plant.fresh_labels, generator, classes))
        batch = replace(batch, labels=labels)
        if number == poisoned and plant.poison != "none":
            batch = replace(batch, labels=(labels + 1) % classes)
        if number == poisoned and plant.poison == "images":
            noise = generator.integers(0, 256, tuple(batch.images.shape), dtype=np.uint8)
            batch = replace(batch, images=torch.from_numpy(noise))
        yield batch


def _loss(model: nn.Module, images: Images) -> float:
    logits = torch.from_numpy(predict(model, images.batches(), device=CPU, preprocessing=SCALE))
    return float(nn.functional.cross_entropy(logits, images.labels))
