"""Batches from the pack over a folder loader that decodes each time; and what feeding takes of a training step."""

from __future__ import annotations

import shutil
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
import torchvision
from engine import Setting, make_learner
from PIL import Image
from torch.utils.data import DataLoader, Subset

from components.data.augment import KINDS, build_augmentation
from components.data.file_index import digest_files
from components.data.framing import Framing
from components.data.loader import Batch, ImageSet, TrainLoader
from components.data.pack.reader import PACK_FOLDER, open_pack
from components.data.pack.store import pack_images
from components.data.pack.workers import on_cores
from components.data.sources.listing import Listing
from components.training.engine import Device, train_epochs

STRENGTH = 0.5


def measure(listing: Listing, place: Path, *, side: int, batch_size: int, batches: int, repeats: int) -> dict[str, Any]:
    """Images per second of both on one thread, medians of turns, and the ratio of the rates turn by turn."""
    threads = torch.get_num_threads(), cv2.getNumThreads()
    torch.set_num_threads(1)
    cv2.setNumThreads(0)
    count = min(len(listing.table), batches * batch_size)
    images = _packed(listing, place, side=side)
    folder = _linked(listing, place / "folder")
    with TrainLoader(
        images,
        batch_size=batch_size,
        augment_strength=STRENGTH,
        augment=KINDS,
        workers=0,
        seed=0,
        pin_memory=False,
    ) as loader:
        turns = iter(range(10**6))
        loops = {
            "pack": lambda: _count(loader.epoch(next(turns)), count),
            "folder": _folder_loop(folder, side=side, batch_size=batch_size, count=count),
        }
        rates: dict[str, list[float]] = {name: [] for name in loops}
        for turn in range(repeats + 1):
            for name, loop in loops.items():
                started = time.perf_counter()
                fed = loop()
                if turn:  # the first warms up: caches and imports
                    rates[name].append(fed / (time.perf_counter() - started))
    torch.set_num_threads(threads[0])
    cv2.setNumThreads(threads[1])
    ratios = [ours / theirs for ours, theirs in zip(rates["pack"], rates["folder"], strict=True)]
    return {
        "images_per_second": {name: statistics.median(values) for name, values in rates.items()},
        "ratio_of_rates": {"median": statistics.median(ratios), "min": min(ratios), "max": max(ratios)},
    }


def measure_step(*, backbone: str, side: int, batch_size: int, repeats: int, steps: int = 4) -> dict[str, Any]:
    """The share of a training epoch's time that goes by while the next batch is awaited, on all cores."""
    generator = np.random.default_rng(0)
    pixels = generator.integers(0, 256, (batch_size * steps, side, side, 3), dtype=np.uint8)
    images = ImageSet(pixels, np.arange(len(pixels)), generator.integers(0, 2, len(pixels)))
    device = Device(torch.device("cuda" if torch.cuda.is_available() else "cpu"))
    learner = make_learner(Setting(backbone, side, batch_size), device)
    shares, rates = [], []
    with TrainLoader(
        images, batch_size=batch_size, augment_strength=STRENGTH, augment=KINDS, workers=0, seed=0, pin_memory=False
    ) as loader:
        for turn in range(repeats + 1):
            waited: list[float] = []
            records = train_epochs(
                learner,
                until=learner.epoch + 1,
                batches=lambda number, waited=waited: _timed(loader.epoch(number), waited),
                evaluate=lambda model: {},
                on_steps=lambda records: None,
                watcher=None,
            )
            started = time.perf_counter()
            next(records)
            seconds = time.perf_counter() - started
            if turn:
                shares.append(sum(waited) / seconds)
                rates.append(len(pixels) / seconds)
    return {
        "images_per_second": statistics.median(rates),
        "share": {"median": statistics.median(shares), "min": min(shares), "max": max(shares)},
    }


def _packed(listing: Listing, place: Path, *, side: int) -> ImageSet:
    digests = digest_files(listing, index_folder=place / "index", workers=2, on_progress=lambda done, total: None)
    packed = pack_images(
        listing,
        digests,
        framing=Framing(size=side, region=None, fit="squash", tile_size=None, tile_overlap=0.0),
        kind="decoded",
        store=place / "store",
        directory=place / PACK_FOLDER,
        workers=1,
        map_tasks=on_cores(1),
        on_progress=lambda done: None,
    )
    indices = packed.table["pack_index"].to_numpy()
    return ImageSet(open_pack(place), indices, np.zeros(len(indices), np.int64))


def _linked(listing: Listing, folder: Path) -> Path:
    """The images as torchvision wants them: class folders, with links in them."""
    shutil.rmtree(folder, ignore_errors=True)
    for number, (path, label) in enumerate(zip(listing.table["path"], listing.table["label"], strict=True)):
        target = folder / str(label) / f"{number:06d}{Path(path).suffix}"
        target.parent.mkdir(parents=True, exist_ok=True)
        target.symlink_to(listing.files.local(path))
    return folder


def _folder_loop(folder: Path, *, side: int, batch_size: int, count: int) -> Callable[[], int]:
    augment, generator = build_augmentation(STRENGTH, KINDS), np.random.default_rng(0)

    def transform(image: Image.Image) -> torch.Tensor:
        pixels = np.asarray(image.resize((side, side), Image.Resampling.BILINEAR))
        return torch.from_numpy(augment(pixels[None], generator)[0]).permute(2, 0, 1)

    dataset = torchvision.datasets.ImageFolder(str(folder), transform=transform)
    chosen = Subset(dataset, np.random.default_rng(0).permutation(len(dataset))[:count].tolist())
    loader = DataLoader(chosen, batch_size=batch_size, shuffle=True, num_workers=0)
    return lambda: sum(len(labels) for _, labels in loader)


def _count(batches: Iterator[Batch], most: int) -> int:
    fed = 0
    for batch in batches:
        fed += len(batch.labels)
        if fed >= most:
            break
    return fed


def _timed(batches: Iterator[Batch], waited: list[float]) -> Iterator[Batch]:
    while True:
        started = time.perf_counter()
        batch = next(batches, None)
        waited.append(time.perf_counter() - started)
        if batch is None:
            return
        yield batch
