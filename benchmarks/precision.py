"""What bfloat16 takes on this CPU, as a share of float32's time: a step of training, and the inference of a batch.

    python benchmarks/precision.py --json

The two precisions take turns, so that a machine that slows down slows both; the medians count. Random weights and
pixels: the time depends on neither. `recipe.precision: auto` decides by such a share of the training step.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from typing import Any

import torch
from engine import Setting, make_images, make_learner
from rich.console import Console
from rich.table import Table

from components.data.loader import eval_batches
from components.training.engine import Device, predict, train_epochs
from pipeline.compute.device import set_up_process

PRECISIONS = ("float32", "bfloat16")
SIZES = {"tf_efficientnet_lite0": 128, "resnet18": 128, "convnext_atto": 128, "vit_tiny_patch16_224": 224}


def measure(setting: Setting, *, repeats: int) -> dict[str, Any]:
    """Milliseconds in each precision, and the share that bfloat16 takes, of a training step and of inference."""
    learner = make_learner(setting, Device(torch.device("cpu")))
    (batch,) = eval_batches(make_images(setting.batch_size, setting.size, seed=0), batch_size=setting.batch_size)

    def train(device: Device) -> None:
        learner.device = device
        epoch = train_epochs(
            learner, until=learner.epoch + 1, batches=lambda epoch: [batch], evaluate=None,
            on_steps=lambda records: None, watcher=None,
        )  # fmt: skip
        next(epoch)

    def infer(device: Device) -> None:
        predict(learner.model, [batch], device=device, preprocessing=learner.preprocessing)

    return {"setting": asdict(setting), "training": _timed(train, repeats), "inference": _timed(infer, repeats)}


def _timed(work: Callable[[Device], None], repeats: int) -> dict[str, float]:
    device = Device(torch.device("cpu"))
    times: dict[str, list[float]] = {name: [] for name in PRECISIONS}
    for _ in range(1 + repeats):
        for name, own in times.items():
            started = time.perf_counter()
            work(replace(device, precision=name))
            own.append(1000 * (time.perf_counter() - started))
    medians = {name: statistics.median(own[1:]) for name, own in times.items()}  # the first is slower
    return medians | {"share": medians["bfloat16"] / medians["float32"]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--backbones", nargs="*", default=list(SIZES), help="timm models, at 128 px unless one is fixed"
    )
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()

    set_up_process(arguments.threads)
    settings = [Setting(name, SIZES.get(name, 128), arguments.batch_size) for name in arguments.backbones]
    results = [measure(setting, repeats=arguments.repeats) for setting in settings]
    if arguments.json:
        print(json.dumps({"threads": arguments.threads, "results": results}))
        return
    columns = ("float32", "bfloat16 / float32")
    table = Table("backbone", "px", *(f"{work}, {column}" for work in ("step", "inference") for column in columns))
    for result in results:
        cells = [
            text
            for work in ("training", "inference")
            for text in (f"{result[work]['float32']:.0f} ms", f"{result[work]['share']:.2f}")
        ]
        table.add_row(result["setting"]["backbone"], str(result["setting"]["size"]), *cells)
    Console().print(table)


if __name__ == "__main__":
    main()
