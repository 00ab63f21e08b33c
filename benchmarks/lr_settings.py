"""The problems of the range test's benchmark: models, optimizers and data small enough to train in a second or two.

Data: scikit-learn's digits (8 px), the generated inspection images of `generated:` (24 px), imbalanced variants of
both, and problems with nothing to learn: images that are all the same (flat) and images that are noise. Pixels are
normalised once and kept as floats, so that a training's time is the network's.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
import timm
import torch
from lr_pretrained import pretrained_model
from sklearn.datasets import load_digits
from sklearn.model_selection import GroupShuffleSplit
from torch import nn

from components.data.loader import Batch
from components.models.forward import turned
from components.models.losses import (
    build_loss,
    class_shares,
    class_weights,
    constant_predictor_loss,
    constant_predictor_spread,
)
from pipeline.data.sources import list_images
from pipeline.sections.data import DataConfig

BATCH_SIZE = 32
PRETRAINED = "pretrained tf_efficientnet_lite0"


@dataclass(frozen=True)
class Problem:
    """Images and labels, the loss, and what the best constant prediction costs: mean, and spread from batch to batch.

    train, val: (N, C, S, S) float32, normalised. train_labels, val_labels: (N,) int64 in [0, classes). turned: whether
    each image of a batch is in a random view of the eight symmetries of the square.
    """

    train: torch.Tensor
    train_labels: torch.Tensor
    val: torch.Tensor
    val_labels: torch.Tensor
    classes: int
    loss: nn.Module
    constant_loss: float
    constant_spread: float
    turned: bool = False

    def batches(self, seed: int, size: int = BATCH_SIZE) -> Iterator[Batch]:
        """Endless training batches, epoch after epoch in a new order."""
        generator = torch.Generator().manual_seed(seed)
        while True:
            order = torch.randperm(len(self.train), generator=generator)
            for start in range(0, len(order) - size + 1, size):
                index = order[start : start + size]
                images = self.train[index]
                if self.turned:
                    views = torch.randint(8, (size,), generator=generator)
                    images = torch.stack([turned(image, int(view)) for image, view in zip(images, views, strict=True)])
                    images = images.contiguous(memory_format=torch.channels_last)
                yield Batch(images, self.train_labels[index], index)

    def held_out(self) -> Batch:
        """The fixed batch that a ramp looks at: as large as the pipeline's."""
        return Batch(self.val[:BATCH_SIZE], self.val_labels[:BATCH_SIZE], torch.arange(BATCH_SIZE))


@dataclass(frozen=True)
class Setting:
    """One model, optimizer and problem. `half`: where the fit of a factor uses it (fit) or does not (judge).

    batch_size: of trainings and ramps.
    """

    model: str
    optimizer: str
    data: str
    steps: int
    half: str
    batch_size: int = BATCH_SIZE

    @property
    def pretrained(self) -> bool:
        return self.model == PRETRAINED

    @property
    def name(self) -> str:
        return f"{self.data} / {self.model} / {self.optimizer}"

    def shortened(self, steps: int) -> Setting:
        """The same with another length of training."""
        return replace(self, steps=steps)


# In pairs: each optimizer's first setting is for the fit, its second for the judgement, and the data take turns.
SETTINGS: tuple[Setting, ...] = (
    Setting("mlp", "sgd", "digits", 300, "fit"),
    Setting("convnet", "sgd", "surfaces", 300, "judge"),
    Setting("convnet", "sgd_plain", "digits", 300, "fit"),
    Setting("mlp", "sgd_plain", "rare digits", 300, "judge"),
    Setting("convnet", "adam", "rare surfaces", 300, "fit"),
    Setting("test_resnet", "adam", "digits", 120, "judge"),
    Setting("test_efficientnet", "adamw", "digits", 120, "fit"),
    Setting("convnet", "adamw", "surfaces", 300, "judge"),
    Setting("mlp", "rmsprop", "rare digits", 300, "fit"),
    Setting("convnet", "rmsprop", "digits", 300, "judge"),
    Setting("convnet", "adagrad", "surfaces", 300, "fit"),
    Setting("linear", "adagrad", "digits", 300, "judge"),
    Setting("mlp", "schedulefree_adamw", "digits", 300, "fit"),
    Setting("convnet", "schedulefree_adamw", "rare digits", 300, "judge"),
    Setting("test_resnet", "sgd", "digits", 120, "fit"),
    Setting("convnet", "sgd", "rare digits", 300, "judge"),
    Setting("convnet", "sgd", "small surfaces", 300, "fit"),
    Setting("convnet", "adam", "small surfaces", 300, "judge"),
)

# A pretrained network, as in the product, on images with faint defects: many parts, and few parts with many images.
PRETRAINED_SETTINGS: tuple[Setting, ...] = tuple(
    Setting(PRETRAINED, optimizer, data, 100, half, batch_size=16)
    for optimizer, data, half in (
        ("adamw", "faint surfaces", "fit"),
        ("sgd", "faint surfaces", "judge"),
        ("sgd", "few parts", "fit"),
        ("adamw", "few parts", "judge"),
    )
)

# Where nothing can be learned, and no rate may be suggested.
UNLEARNABLE: tuple[Setting, ...] = tuple(
    Setting(model, optimizer, f"{kind} {share}", 0, "judge")
    for kind in ("flat", "noise")
    for share, model, optimizer in (
        ("50 %", "convnet", "adamw"),
        ("50 %", "mlp", "sgd"),
        ("10 %", "mlp", "adam"),
        ("5 %", "convnet", "sgd"),
        ("2 %", "mlp", "adamw"),
        ("2 %", "convnet", "adamw"),
    )
)

# Where a curve's cost is measured: the smallest steps to the largest, of which the last are like the product's.
COST_SETTINGS: tuple[Setting, ...] = (
    Setting("convnet", "adamw", "surfaces", 0, "judge"),
    Setting("test_resnet", "sgd", "surfaces", 0, "judge"),
    Setting("tf_efficientnet_lite0", "adamw", "surfaces 96 px", 0, "judge"),
)


def make_problem(name: str, place: Path) -> Problem:
    """Load or draw the data of that name. place: folder for what is drawn."""
    if name.endswith("digits"):
        return _digits(rare=name.startswith("rare"))
    if name in _FAINT:
        return _faint(place, name)
    if name.startswith("small"):
        pixels, labels, validation = _generated(place, _SMALL, share=0.5)
        return _problem(pixels, labels, validation=validation, balanced=True)
    if "surfaces" in name:
        large = name.endswith("96 px")
        rate = 0.15 if name.startswith("rare") else 0.5
        return _surfaces(place, count=300 if large else 2000, side=96 if large else 24, defect_rate=rate)
    kind, share = name.removesuffix(" %").split()
    return _unlearnable(kind, float(share) / 100)


def make_model(name: str, problem: Problem, seed: int) -> nn.Module:
    """Build the network from its seed, on the CPU in train mode; the caller's generator stays as it is."""
    channels, side = problem.train.shape[1], problem.train.shape[-1]
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        if name == PRETRAINED:
            return pretrained_model(problem.classes, seed)
        if name in _MODELS:
            return _MODELS[name](channels, side, problem.classes)
        return timm.create_model(name, in_chans=channels, num_classes=problem.classes)


def forward(model: nn.Module, batch: Batch) -> torch.Tensor:
    """Logits (B, K): the pixels are normalised already."""
    return model(batch.images)


def _linear(channels: int, side: int, classes: int) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(channels * side * side, classes))


def _mlp(channels: int, side: int, classes: int) -> nn.Module:
    widths = [channels * side * side, 64, 64]
    layers = [layer for a, b in itertools.pairwise(widths) for layer in (nn.Linear(a, b), nn.ReLU())]
    return nn.Sequential(nn.Flatten(), *layers, nn.Linear(widths[-1], classes))


def _convnet(channels: int, side: int, classes: int) -> nn.Module:
    widths = [channels, 16, 32, 64]
    layers: list[nn.Module] = []
    for number, (before, after) in enumerate(itertools.pairwise(widths)):
        stride = 1 if number == 0 and side < 16 else 2
        layers += [nn.Conv2d(before, after, 3, stride, 1, bias=False), nn.BatchNorm2d(after), nn.ReLU()]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(widths[-1], classes))


_MODELS: dict[str, Callable[[int, int, int], nn.Module]] = {"linear": _linear, "mlp": _mlp, "convnet": _convnet}


@functools.cache
def _digits(*, rare: bool) -> Problem:
    """Ten digits, or the eights among them (10 %)."""
    digits = load_digits()
    pixels = digits.images[:, None]
    labels = (digits.target == 8).astype(np.int64) if rare else digits.target
    order = np.random.default_rng(0).permutation(len(labels))
    return _problem(pixels[order], labels[order], validation=600, balanced=True)


@functools.cache
def _surfaces(place: Path, *, count: int, side: int, defect_rate: float) -> Problem:
    """Good and defective generated images; the views of a part stay on one side."""
    source = f"count={count},size={side},defect_rate={defect_rate}"
    pixels, labels, validation = _generated(place, source, share=0.3)
    return _problem(pixels, labels, validation=validation, balanced=True)


#: What is generated, half of it for training: 400 images of 50 parts, 600 of 100, 400 of 50.
_SMALL = "count=800,size=24,parts=100,defect_rate=0.5"
_FAINT = {
    "faint surfaces": "count=1200,size=64,parts=200,defect_rate=0.4,strength=0.3",
    "few parts": "count=800,size=64,parts=100,defect_rate=0.5,strength=0.4",
}


@functools.cache
def _faint(place: Path, name: str) -> Problem:
    pixels, labels, validation = _generated(place, _FAINT[name], share=0.5)
    problem = _problem(pixels, labels, validation=validation, balanced=True, normalised=pixels / 127.5 - 1)
    return replace(problem, turned=True)


def _generated(place: Path, source: str, *, share: float) -> tuple[np.ndarray, np.ndarray, int]:
    """Pixels (N, 3, S, S) uint8, whether each shows a defect, and how many of the last are held out."""
    listing = list_images(DataConfig(source=f"generated:{source}"), place)
    table = listing.table
    pixels = np.stack([cv2.imread(str(listing.files.local(name))) for name in table["path"]]).transpose(0, 3, 1, 2)
    labels = (table["label"] != "good").to_numpy(dtype=np.int64)
    split = GroupShuffleSplit(n_splits=1, test_size=share, random_state=0)
    train, val = next(split.split(pixels, labels, groups=table["group"]))
    order = np.concatenate([train, val])
    return pixels[order], labels[order], len(val)


@functools.cache
def _unlearnable(kind: str, share: float) -> Problem:
    """Labels that the pixels know nothing of. Enough images that none is seen twice in a ramp of six decades."""
    generator = np.random.default_rng([round(1000 * share), len(kind)])
    labels = (np.arange(6000) < share * 6000).astype(np.int64)
    labels = generator.permutation(labels)
    pixels = np.zeros((6000, 1, 8, 8)) if kind == "flat" else generator.normal(size=(6000, 1, 8, 8))
    return _problem(pixels, labels, validation=600, balanced=False)


def _problem(
    pixels: np.ndarray, labels: np.ndarray, *, validation: int, balanced: bool, normalised: np.ndarray | None = None
) -> Problem:
    """The last `validation` images are held out. normalised: the pixels; None: to mean 0 and spread 1."""
    spread = float(pixels.std()) or 1.0
    given = (pixels - pixels.mean()) / spread if normalised is None else normalised
    images = torch.from_numpy(given.astype(np.float32))
    targets = torch.from_numpy(labels.astype(np.int64))
    cut, classes = len(labels) - validation, int(labels.max()) + 1
    weights = class_weights(labels[:cut], class_shares(classes, ())) if balanced else None
    counts = np.bincount(labels[:cut], minlength=classes).tolist()
    return Problem(
        train=images[:cut],
        train_labels=targets[:cut],
        val=images[cut:],
        val_labels=targets[cut:],
        classes=classes,
        loss=build_loss(weights, 0.0, focal_gamma=0.0),
        constant_loss=constant_predictor_loss(counts, weights, 0.0, focal_gamma=0.0),
        constant_spread=constant_predictor_spread(counts, weights, 0.0, focal_gamma=0.0, batch_size=BATCH_SIZE),
    )
