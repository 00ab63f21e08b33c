"""The loop that anyone would write by hand, which the benchmark of quality puts beside the pipeline.

One process for each training: `python benchmarks/quality_loop.py TASK` reads TASK/task.json and TASK/images.parquet and
leaves TASK/scores.npz. It knows no validation, no threshold and no certificate: it trains on all images but the
test's at a usual rate, and predicts the test's with one view and with the eight flips and turns.
"""

from __future__ import annotations

import json
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import psutil
import torch
from torch import nn
from torch.nn.functional import log_softmax

from components.data.decode import decode_image
from components.data.files import Files
from components.data.framing import Framing, iter_frames
from components.models.backbones import build_model

BACKBONE, LR, WEIGHT_DECAY, SMOOTHING, BATCH = "tf_efficientnet_lite0", 1e-3, 0.05, 0.05, 32
DROPOUT, DROP_PATH, RISE = 0.2, 0.1, 0.2
GAIN, OFFSET = 0.2, 20.0
"""Of half of the images the brightness is changed: by so large a factor, and by so many grey levels, at most."""
VIEWS = 8
TIMED = 20
"""Images that are predicted one by one for the latency."""


def main() -> None:
    place = Path(sys.argv[1])
    task = json.loads((place / "task.json").read_text(encoding="utf-8"))
    table = pd.read_parquet(place / "images.parquet")
    is_test = table["split"] == "test"
    test = torch.tensor(is_test.tolist())
    images, labels = read_images(table, task), torch.tensor(table["target"].tolist())
    model = train(images[~test], labels[~test], epochs=task["epochs"], lr=task["lr"], seed=task["seed"])
    before = time.time()
    one = predict(model, images[test], views=1)
    middle = time.time()
    eight = predict(model, images[test], views=VIEWS)
    after = time.time()
    started = psutil.Process().create_time()  # so that imports count
    np.savez(
        place / "scores.npz",
        one_view=one,
        eight_views=eight,
        seconds=[middle - started, before - started + after - middle],
        latency=[_latency(model, table[is_test].head(TIMED), task, views=views) for views in (1, VIEWS)],
    )


def read_images(table: pd.DataFrame, task: dict[str, Any]) -> torch.Tensor:
    """(N, 3, S, S) uint8, each resized from the file's own pixels to the side of the task."""
    files, framing = Files(task["root"]), replace(Framing.from_dict(task["framing"]), size=task["size"])
    squares = []
    for path in table["path"]:
        image = decode_image(files.read(path), significant_bits=framing.significant_bits).image
        squares.append(next(square for _, square in iter_frames(image, framing)))
    return torch.from_numpy(np.stack(squares)).permute(0, 3, 1, 2)


def train(images: torch.Tensor, labels: torch.Tensor, *, epochs: int, lr: float, seed: int) -> nn.Module:
    """AdamW along one cycle, class weights that balance the classes, every image once an epoch."""
    torch.manual_seed(seed)
    counts = torch.bincount(labels).float()
    model = build_model(
        backbone=BACKBONE,
        weights="package",
        num_classes=len(counts),
        drop_rate=DROPOUT,
        drop_path_rate=DROP_PATH,
        seed=seed,
    ).model.to(memory_format=torch.channels_last)
    steps = max(1, len(images) // BATCH)
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr, weight_decay=WEIGHT_DECAY, fused=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, lr, total_steps=epochs * steps, pct_start=RISE)
    criterion = nn.CrossEntropyLoss(counts.sum() / (len(counts) * counts), label_smoothing=SMOOTHING)
    model.train()
    for _ in range(epochs):
        order = torch.randperm(len(images))
        for batch in order[: steps * BATCH].split(BATCH):
            optimizer.zero_grad()
            criterion(model(scaled(augment(images[batch]))), labels[batch]).backward()
            optimizer.step()
            schedule.step()
    return model.eval()


def augment(images: torch.Tensor) -> torch.Tensor:
    """(B, 3, S, S) uint8 to float32 in [0, 255]: flipped, turned by right angles, brighter or darker."""
    views = torch.randint(VIEWS, (len(images),))
    seen = torch.stack([view(image, int(number)) for image, number in zip(images, views, strict=True)]).float()
    changed, gain, offset = torch.rand(3, len(images), 1, 1, 1)
    changed = (changed < 0.5).float()
    seen = seen * (1 + changed * GAIN * (2 * gain - 1)) + changed * OFFSET * (2 * offset - 1)
    return seen.clamp_(0, 255)


@torch.inference_mode()
def predict(model: nn.Module, images: torch.Tensor, *, views: int) -> np.ndarray:
    """(N, K) mean log-probabilities over the first `views` flips and turns."""
    return np.concatenate(
        [
            torch.stack([log_softmax(model(scaled(view(batch, number))), 1) for number in range(views)]).mean(0).numpy()
            for batch in images.split(2 * BATCH)
        ]
    )


def view(images: torch.Tensor, number: int) -> torch.Tensor:
    """The images' symmetry of that number, 0 to 7, of the square's; 0: as they are."""
    return torch.rot90(images.flip(-1) if number >= 4 else images, number % 4, (-2, -1))


def scaled(images: torch.Tensor) -> torch.Tensor:
    """To [-1, 1], which is what the package's weights were trained on."""
    return images.float().sub(127.5).div(127.5).contiguous(memory_format=torch.channels_last)


def _latency(model: nn.Module, table: pd.DataFrame, task: dict[str, Any], *, views: int) -> float:
    """Median milliseconds from an image's file to its prediction, one image at a time."""
    times = []
    for number in range(len(table)):
        started = time.perf_counter()
        predict(model, read_images(table[number : number + 1], task), views=views)
        times.append(1000 * (time.perf_counter() - started))
    return float(np.median(times))


if __name__ == "__main__":
    main()
