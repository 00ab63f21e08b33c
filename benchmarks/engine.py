"""How much our training loop costs over a bare PyTorch loop that does the same work, with the monitor on.

    python benchmarks/engine.py --json

Both train the same model on the same batches of the same generated images; they take turns, 100 steps each, so that a
machine that slows down slows both. In a training of 10,000 steps the monitor measures its probe of 64 images once in
these. A loop written by hand takes torch's AdamW as it comes; `bare, fused` asks for its single kernel, as the engine
does. The median of the ratios is what counts, of wall time, and on one thread of processor time as well, which other
processes disturb less; the absolute times are this machine's.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from torch import nn

from components.data.loader import ImageSet, TrainLoader, eval_batches
from components.models.backbones import build_model
from components.models.forward import Preprocessing, logits_of
from components.models.losses import build_loss
from components.optim.layerwise import LayerRates
from components.optim.optimizers import build_optimizer
from components.optim.schedules import Schedule
from components.optim.stepper import Stepper
from components.training.engine import Device, Learner, train_epochs
from components.training.watch import MonitorWatcher


def make_images(count: int, size: int, seed: int) -> ImageSet:
    """Random pixels: throughput does not depend on what they show."""
    generator = np.random.default_rng(seed)
    pack = generator.integers(0, 256, size=(count, size, size, 3), dtype=np.uint8)
    return ImageSet(pack=pack, indices=np.arange(count), labels=generator.integers(0, 2, size=count))


@dataclass(frozen=True)
class Setting:
    """A step of about 3, 13 or 200 ms on two cores."""

    backbone: str
    size: int
    batch_size: int


SETTINGS = (
    Setting("three convolutions", 24, 32),
    Setting("test_resnet.r160_in1k", 32, 16),
    Setting("tf_efficientnet_lite0", 96, 32),
)
STEPS, TOTAL_STEPS, PROBE_IMAGES = 100, 10_000, 64


def ours(setting: Setting, device: Device, *, monitored: bool) -> Callable[[], None]:
    """One epoch of the engine, without evaluation."""
    images = make_images(STEPS * setting.batch_size, setting.size, seed=0)
    learner = make_learner(setting, device)
    watcher = None
    if monitored:
        probe = next(eval_batches(make_images(PROBE_IMAGES, setting.size, seed=1), batch_size=PROBE_IMAGES))
        watcher = MonitorWatcher(
            probe, action="observe", max_rollbacks=1, probe_every=10, total_steps=TOTAL_STEPS, chance_loss=math.log(2)
        )

    def epoch() -> None:
        records = train_epochs(
            learner,
            until=learner.epoch + 1,
            batches=lambda number: batches_of(images, setting.batch_size, number),
            evaluate=None,
            on_steps=lambda records: None,
            watcher=watcher,
        )
        next(records)

    return epoch


def bare(setting: Setting, device: Device, *, fused: bool | None) -> Callable[[], None]:
    """One epoch of the loop that anyone would write by hand; `fused`: with the optimizer's step as one kernel."""
    images = make_images(STEPS * setting.batch_size, setting.size, seed=0)
    learner = make_learner(setting, device)
    model, loss = learner.model, learner.loss
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.01, fused=fused)
    numbers = itertools.count()
    mean, std = learner.preprocessing.mean255, learner.preprocessing.std255

    def epoch() -> None:
        model.train()
        for batch in batches_of(images, setting.batch_size, next(numbers)):
            pixels = ((batch.images.to(device.target).float() - mean) / std).to(memory_format=torch.channels_last)
            optimizer.zero_grad()
            value = loss(logits_of(model, pixels, device.precision), batch.labels.to(device.target))
            value.backward()
            optimizer.step()
            value.item()

    return epoch


def make_learner(setting: Setting, device: Device) -> Learner:
    model, mean, std = make_model(setting)
    model = model.to(device.target, memory_format=torch.channels_last)  # type: ignore[call-overload]
    layers = LayerRates(layer_decay=1.0, towards="input", head_ratio=1.0)
    optimizer = build_optimizer(model, name="adamw", lr=1e-3, weight_decay=0.01, layers=layers)
    schedule = Schedule(
        name="cosine", warmup_steps=10, total_steps=TOTAL_STEPS, final_lr_fraction=0.01, schedule_drops=2,
        schedule_cycles=3, cycle_growth=1.0, cycle_low=0.25, rise_fraction=0.3, cooldown_fraction=0.2,
        plateau_factor=0.3, plateau_patience=2,
    )  # fmt: skip
    return Learner(
        model=model,
        stepper=Stepper(model, optimizer, schedule, clip_grad_norm=None, freeze_steps=0),
        loss=build_loss(None, 0.0, focal_gamma=0.0),
        device=device,
        preprocessing=Preprocessing.from_unit_scale(mean, std),
        seed=0,
        averaged=None,
        calibration=lambda: (),
    )


def make_model(setting: Setting) -> tuple[nn.Module, Sequence[float], Sequence[float]]:
    """The model, and the mean and standard deviation that it wants."""
    if setting.backbone != "three convolutions":
        built = build_model(
            backbone=setting.backbone, weights="none", num_classes=2, drop_rate=0, drop_path_rate=0, seed=0
        )
        return built.model, built.mean, built.std
    widths = (3, 16, 32, 64)
    blocks = [
        layer
        for before, after in itertools.pairwise(widths)
        for layer in (nn.Conv2d(before, after, 3, stride=2, bias=False), nn.BatchNorm2d(after), nn.ReLU())
    ]
    model = nn.Sequential(*blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(widths[-1], 2))
    return model, (0.5,) * 3, (0.25,) * 3


def batches_of(images: ImageSet, batch_size: int, epoch: int):  # noqa: ANN201 - an iterator of batches
    settings = {"batch_size": batch_size, "augment_strength": 0.0, "augment": (), "workers": 0, "seed": 0}
    with TrainLoader(images, **settings, pin_memory=False) as loader:
        yield from loader.epoch(epoch)


def measure(setting: Setting, device: Device, *, repeats: int) -> dict[str, Any]:
    """Milliseconds of a step of each loop, and what ours take for one of the bare loop's."""
    loops = {
        "bare": bare(setting, device, fused=None),
        "bare, fused": bare(setting, device, fused=True),
        "engine": ours(setting, device, monitored=False),
        "monitored": ours(setting, device, monitored=True),
    }
    for loop in loops.values():
        loop()  # warm up: allocation, algorithm choice
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in loops}
    for number in range(repeats):
        for name in list(loops) if number % 2 else reversed(loops):
            started = time.perf_counter(), time.process_time()
            loops[name]()
            taken[name].append((time.perf_counter() - started[0], time.process_time() - started[1]))
    result: dict[str, Any] = {"setting": asdict(setting)}
    for name, times in taken.items():
        result[name] = {"ms_per_step": statistics.median(wall for wall, _ in times) / STEPS * 1000}
        for other, key in (("bare", ""), ("bare, fused", "_over_fused")):
            for position, kind in enumerate(("wall", "processor")):
                ratios = [own[position] / theirs[position] for own, theirs in zip(times, taken[other], strict=True)]
                result[name][kind + key] = statistics.median(ratios)
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--settings", type=int, nargs="*", default=[0, 1, 2], help="which of the three")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()

    torch.set_num_threads(arguments.threads)
    on_cuda = torch.cuda.is_available()
    device = Device(torch.device("cuda" if on_cuda else "cpu"), "bfloat16" if on_cuda else "float32")
    results = [measure(SETTINGS[number], device, repeats=arguments.repeats) for number in arguments.settings]
    if arguments.json:
        print(json.dumps({"device": str(device.target), "threads": arguments.threads, "results": results}))
        return
    table = Table("setting", "loop", "ms/step", "wall / bare", "processor / bare", "processor / bare, fused")
    for result in results:
        for name, row in result.items():
            if name == "setting":
                continue
            cells = [f"{row[key]:.3f}" for key in ("wall", "processor", "processor_over_fused")]
            cells.insert(0, f"{row['ms_per_step']:.1f}")
            table.add_row(result["setting"]["backbone"], name, *cells)
    Console().print(table)


if __name__ == "__main__":
    main()
