"""How much our training loop costs over a bare PyTorch loop that does the same work.

    python benchmarks/engine.py --json

Both train the same model on the same batches of the same generated images; they take turns, epoch by epoch, so that a
machine that slows down slows both. The ratio of the medians is what counts; the absolute rates are this machine's.
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import time
from collections.abc import Callable

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from components.data.loader import ImageSet, train_batches
from components.models.backbones import build_model
from components.models.losses import build_loss
from components.optim.layerwise import LayerRates
from components.optim.optimizers import build_optimizer
from components.optim.schedules import Schedule
from components.optim.stepper import Stepper
from components.training.engine import Device, Learner, Preprocessing, train_epochs


def make_images(count: int, size: int, seed: int) -> ImageSet:
    """Random pixels: throughput does not depend on what they show."""
    generator = np.random.default_rng(seed)
    pack = generator.integers(0, 256, size=(count, size, size, 3), dtype=np.uint8)
    return ImageSet(pack=pack, indices=np.arange(count), labels=generator.integers(0, 2, size=count))


def ours(images: ImageSet, backbone: str, batch_size: int, device: Device) -> Callable[[], float]:
    """Seconds of one epoch of the engine, without evaluation."""
    learner = make_learner(images, backbone, batch_size, device)

    def epoch() -> float:
        records = train_epochs(
            learner,
            until=learner.epoch + 1,
            batches=lambda number: batches_of(images, batch_size, number),
            evaluate=lambda model: {},
            on_step=lambda record: None,
            watcher=None,
        )
        return next(records).seconds

    return epoch


def bare(images: ImageSet, backbone: str, batch_size: int, device: Device) -> Callable[[], float]:
    """Seconds of one epoch of the loop that anyone would write by hand."""
    learner = make_learner(images, backbone, batch_size, device)
    model, optimizer, loss = learner.model, learner.stepper.optimizer, learner.loss
    numbers = itertools.count()
    mean, std = (value.to(device.target) for value in (learner.preprocessing.mean255, learner.preprocessing.std255))

    def epoch() -> float:
        started = time.perf_counter()
        model.train()
        for batch in batches_of(images, batch_size, next(numbers)):
            pixels = ((batch.images.to(device.target).float() - mean) / std).to(memory_format=torch.channels_last)
            optimizer.zero_grad()
            with torch.autocast(device.target.type, dtype=device.autocast, enabled=device.autocast is not None):
                value = loss(model(pixels).float(), batch.labels.to(device.target))
            value.backward()
            optimizer.step()
            value.item()
        return time.perf_counter() - started

    return epoch


def make_learner(images: ImageSet, backbone: str, batch_size: int, device: Device) -> Learner:
    built = build_model(backbone=backbone, weights="none", num_classes=2, drop_rate=0, drop_path_rate=0, seed=0)
    model = built.model.to(device.target, memory_format=torch.channels_last)  # type: ignore[call-overload]
    layers = LayerRates(layer_decay=1.0, towards="input", head_ratio=1.0)
    optimizer = build_optimizer(model, name="adamw", lr=1e-3, weight_decay=0.01, layers=layers)
    schedule = Schedule(
        name="cosine",
        warmup_steps=10,
        total_steps=10_000,
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
        stepper=Stepper(model, optimizer, schedule, clip_grad_norm=None, freeze_steps=0),
        loss=build_loss(None, 0.0, focal_gamma=0.0),
        device=device,
        preprocessing=Preprocessing.from_unit_scale(built.mean, built.std),
        seed=0,
        averaged=None,
        calibration=lambda: (),
    )


def batches_of(images: ImageSet, batch_size: int, epoch: int):  # noqa: ANN201 - an iterator of batches
    return train_batches(
        images, batch_size=batch_size, augment_strength=0.0, augment=(), workers=0, seed=0, epoch=epoch
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backbone", default="tf_efficientnet_lite0")
    parser.add_argument("--images", type=int, default=256)
    parser.add_argument("--size", type=int, default=96)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()

    on_cuda = torch.cuda.is_available()
    device = Device(torch.device("cuda" if on_cuda else "cpu"), torch.bfloat16 if on_cuda else None)
    images = make_images(arguments.images, arguments.size, seed=0)
    loops = {
        "engine": ours(images, arguments.backbone, arguments.batch_size, device),
        "bare loop": bare(images, arguments.backbone, arguments.batch_size, device),
    }
    for loop in loops.values():
        loop()  # warm up: allocation, algorithm choice
    seconds: dict[str, list[float]] = {name: [] for name in loops}
    for _ in range(arguments.repeats):
        for name, loop in loops.items():
            seconds[name].append(loop())
    ratios = [mine / theirs for mine, theirs in zip(seconds["engine"], seconds["bare loop"], strict=True)]
    trained = arguments.images // arguments.batch_size * arguments.batch_size
    result = {
        "device": str(device.target),
        "settings": {key: value for key, value in vars(arguments).items() if key != "json"},
        "images_per_second": {name: trained / statistics.median(values) for name, values in seconds.items()},
        "ratio_of_time": {"median": statistics.median(ratios), "min": min(ratios), "max": max(ratios)},
    }
    if arguments.json:
        print(json.dumps(result))
        return
    table = Table("loop", "images/s (median)")
    for name, rate in result["images_per_second"].items():
        table.add_row(name, f"{rate:.0f}")
    console = Console()
    console.print(table)
    spread = result["ratio_of_time"]
    console.print(f"time of ours / bare: {spread['median']:.3f} (from {spread['min']:.3f} to {spread['max']:.3f})")


if __name__ == "__main__":
    main()
