"""From the pack to batches of tensors: shuffled and augmented for training, in order for evaluation.

A training batch is a function of (seed, epoch, batch number) alone. So the number of worker processes changes nothing
but the speed, and a resumed training sees what it would have seen.
"""

import functools
import multiprocessing
import os
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from multiprocessing.context import BaseContext
from types import TracebackType
from typing import Protocol

import cv2
import numpy as np
import pandas as pd
import torch
from torch.utils.data import DataLoader, Dataset

from components.data.augment import Augmentation, build_augmentation

#: Images of an evaluation's batch, up to which side in px; its batches that are made ahead.
EVAL_BATCH, EVAL_SIZE = 64, 224
AHEAD = 2


class Pixels(Protocol):
    """A `Pack`, or an array (M, S, S, 3) uint8: rows by number, (B,) int64 to (B, S, S, 3) uint8, a fresh array."""

    def __len__(self) -> int: ...

    def __getitem__(self, rows: np.ndarray, /) -> np.ndarray: ...


@dataclass(frozen=True)
class Batch:
    """images: (B, 3, S, S) uint8 in channels-last memory. labels: (B,) int64, positions in the classes.

    index: (B,) int64, positions in the image set that the batch was drawn from. targets: (B, K) float32, of soft
    labels; None where each label is certain.
    """

    images: torch.Tensor
    labels: torch.Tensor
    index: torch.Tensor
    targets: torch.Tensor | None = None

    @property
    def taught(self) -> torch.Tensor:
        """What a training's loss compares the logits with: the targets, else the labels."""
        return self.labels if self.targets is None else self.targets

    def to(self, device: torch.device) -> "Batch":
        """The same on the device, whose work on it begins when the copy is there."""
        return self._each(lambda tensor: tensor.to(device, non_blocking=True))

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, part: slice) -> "Batch":
        return self._each(lambda tensor: tensor[part])

    def pin_memory(self) -> "Batch":
        """The same in page-locked memory, from which a GPU copies while it computes."""
        return self._each(torch.Tensor.pin_memory)

    def _each(self, change: Callable[[torch.Tensor], torch.Tensor]) -> "Batch":
        targets = None if self.targets is None else change(self.targets)
        return Batch(change(self.images), change(self.labels), change(self.index), targets)


@dataclass(frozen=True)
class ImageSet:
    """Some images of a pack, with labels.

    pack: of M images. indices: (N,) int64, rows of the pack. labels: (N,) int64. targets: (N, K) float32, of soft
    labels; None where each label is certain.
    """

    pack: Pixels
    indices: np.ndarray
    labels: np.ndarray
    targets: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.indices)

    @property
    def side(self) -> int:
        """Of the images, px."""
        return int(self.pack[self.indices[:1]].shape[1])

    def take(self, chosen: np.ndarray) -> "ImageSet":
        """The images at these positions."""
        targets = None if self.targets is None else self.targets[chosen]
        return ImageSet(self.pack, self.indices[chosen], self.labels[chosen], targets)


def image_set(manifest: pd.DataFrame, pack: Pixels, split: str, classes: Sequence[str]) -> ImageSet:
    """The images of one split, in the manifest's order; a label is its position in `classes`."""
    rows = manifest[manifest["split"] == split]
    position = {name: number for number, name in enumerate(classes)}
    return ImageSet(
        pack=pack,
        indices=rows["pack_index"].to_numpy(dtype=np.int64),
        labels=np.array([position[label] for label in rows["label"]], dtype=np.int64),
    )


def eval_batch_size(size: int, *, trained: int) -> int:
    """Images per batch without gradients, of side `size` in px, beside a training in batches of `trained`.

    As many as the training takes: it keeps the activations of all layers, evaluation those of two. At least 64 up to
    224 px, and above it as many as have no more pixels: without gradients these need what a batch of 8 needs with them.
    """
    return max(trained, min(EVAL_BATCH, EVAL_BATCH * EVAL_SIZE**2 // size**2))


def prefetched(batches: Iterable[Batch]) -> Iterator[Batch]:
    """The same batches in page-locked memory, made by a thread while the GPU works on those before."""
    source = (batch.pin_memory() for batch in batches)
    with ThreadPoolExecutor(1) as pool:
        waiting = deque(pool.submit(next, source, None) for _ in range(AHEAD))
        while (batch := waiting.popleft().result()) is not None:
            waiting.append(pool.submit(next, source, None))
            yield batch


def eval_batches(images: ImageSet, *, batch_size: int) -> Iterator[Batch]:
    """The whole set in order, the last batch as short as it comes."""
    for start in range(0, len(images), batch_size):
        positions = np.arange(start, min(start + batch_size, len(images)))
        yield _batch(images, positions, images.pack[images.indices[positions]])


class TrainLoader:
    """Training batches, epoch by epoch, from worker processes that start with the first epoch and live until `close`.

    augment_strength, augment: as for `build_augmentation`. workers: 0 makes each batch when it is asked for, in the
    calling thread. pin_memory: for a training on CUDA.
    """

    def __init__(
        self,
        images: ImageSet,
        *,
        batch_size: int,
        augment_strength: float,
        augment: tuple[str, ...],
        workers: int,
        seed: int,
        pin_memory: bool,
    ) -> None:
        feed = _Feed(images, max(1, min(batch_size, len(images))), augment_strength, augment, seed)
        self._keys = _Keys(len(images) // feed.batch_size)
        self._running: Generator[Batch] | None = None
        self._loader: DataLoader[Batch] | None = DataLoader(
            feed,
            batch_size=None,  # an item is a batch already
            sampler=self._keys,
            num_workers=workers,
            multiprocessing_context=_context(images) if workers else None,
            persistent_workers=workers > 0,
            worker_init_fn=_init_worker,
            pin_memory=pin_memory,
            # Else each pass would draw a seed from the global generator, and dropout would depend on the workers.
            generator=torch.Generator(),
        )

    def epoch(self, number: int) -> Iterator[Batch]:
        """The batches of an epoch in a random order; ends an earlier epoch that is still running.

        The last short batch is dropped, unless the whole set is smaller than a batch. What a worker raises is raised
        here, with the worker's traceback in its message.
        """
        self._end_epoch()
        self._running = self._run(number)
        return self._running

    def close(self) -> None:
        """End the worker processes; there are no batches any more."""
        self._end_epoch()
        # The data loader ends its processes when nothing refers to it.
        self._loader = None

    def __enter__(self) -> "TrainLoader":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _run(self, number: int) -> Generator[Batch]:
        if self._loader is None:
            raise ValueError("this loader is closed")
        self._keys.epoch = number
        try:
            yield from self._loader
        except Exception as error:
            if self._loader.num_workers == 0:
                raise
            # The frames of the data loader would keep its processes alive; the worker's own are in the message.
            raise error.with_traceback(None) from None

    def _end_epoch(self) -> None:
        if self._running is not None:
            self._running.close()
            self._running = None


@dataclass(frozen=True)
class _Feed(Dataset[Batch]):
    """What a worker gets: the way to any batch. A `Pack` in it goes as its folder, which each worker opens."""

    images: ImageSet
    batch_size: int
    augment_strength: float
    augment: tuple[str, ...]
    seed: int

    def __getitem__(self, key: tuple[int, int]) -> Batch:
        epoch, number = key
        order = _order(self.seed, epoch, len(self.images))
        positions = order[number * self.batch_size : (number + 1) * self.batch_size]
        pixels = self.images.pack[self.images.indices[positions]]
        # From 1 on: numpy takes [seed, epoch, 0] for [seed, epoch], which the order is drawn from.
        generator = np.random.default_rng([self.seed, epoch, 1 + number])
        return _batch(self.images, positions, self._augmentation(pixels, generator))

    @functools.cached_property
    def _augmentation(self) -> Augmentation:
        """Made where it is used: 2 ms to build, not to be sent to another process."""
        return build_augmentation(self.augment_strength, self.augment)


@dataclass
class _Keys:
    """The sampler: the epoch goes along with each batch number, so that workers need not be told of a new one."""

    count: int
    epoch: int = 0

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[tuple[int, int]]:
        epoch = self.epoch
        return ((epoch, number) for number in range(self.count))


@functools.lru_cache(maxsize=2)
def _order(seed: int, epoch: int, count: int) -> np.ndarray:
    """The order of the images in an epoch; kept, because each batch asks for it."""
    return np.random.default_rng([seed, epoch]).permutation(count)


def _batch(images: ImageSet, positions: np.ndarray, pixels: np.ndarray) -> Batch:
    # (B, S, S, 3) in memory, seen as (B, 3, S, S), is channels-last already: no copy.
    return Batch(
        images=torch.from_numpy(np.ascontiguousarray(pixels)).permute(0, 3, 1, 2),
        labels=torch.from_numpy(images.labels[positions]),
        index=torch.from_numpy(positions.astype(np.int64)),
        targets=None if images.targets is None else torch.from_numpy(images.targets[positions]),
    )


def _context(images: ImageSet) -> BaseContext:
    """How workers start: not by a fork of this process, which may hold threads of Ray, gRPC or OpenMP in mid-lock.

    A server process that has imported what they need forks them: one start of it takes seconds, a worker then 0.1 s,
    and workers share the memory of their imports. Windows only knows fresh processes.
    """
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__, "albumentations", type(images.pack).__module__])
    return context


def _init_worker(number: int) -> None:
    cv2.setNumThreads(0)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """A killed training takes its workers along.

    They hold the pipe by which their server would notice, and torch's own watch looks for the end of the server: each
    would wait for the other.
    """
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)
