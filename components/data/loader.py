"""From the pack to batches of tensors: shuffled and augmented for training, in order for evaluation."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch

from components.data.augment import build_augmentation


@dataclass(frozen=True)
class Batch:
    """images: (B, 3, S, S) uint8 in channels-last memory. labels: (B,) int64, positions in the classes.

    index: (B,) int64, positions in the image set that the batch was drawn from.
    """

    images: torch.Tensor
    labels: torch.Tensor
    index: torch.Tensor


@dataclass(frozen=True)
class ImageSet:
    """Some images of a pack, with labels.

    pack: (M, S, S, 3) uint8. indices: (N,) int64, rows of the pack. labels: (N,) int64.
    """

    pack: np.ndarray
    indices: np.ndarray
    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.indices)


def image_set(manifest: pd.DataFrame, pack: np.ndarray, split: str, classes: Sequence[str]) -> ImageSet:
    """The images of one split, in the manifest's order; a label is its position in `classes`."""
    rows = manifest[manifest["split"] == split]
    position = {name: number for number, name in enumerate(classes)}
    return ImageSet(
        pack=pack,
        indices=rows["pack_index"].to_numpy(dtype=np.int64),
        labels=np.array([position[label] for label in rows["label"]], dtype=np.int64),
    )


def train_batches(
    images: ImageSet, *, batch_size: int, augment_strength: float, seed: int, epoch: int
) -> Iterator[Batch]:
    """One epoch in a random order, augmented; a function of (seed, epoch) alone, so a resume is exact.

    The last short batch is dropped, unless the whole set is smaller than a batch.
    """
    generator = np.random.default_rng([seed, epoch])
    order = generator.permutation(len(images))
    augment = build_augmentation(augment_strength, seed=int(generator.integers(2**31)))
    size = max(1, min(batch_size, len(images)))
    for start in range(0, len(images) - size + 1, size):
        positions = order[start : start + size]
        pixels = images.pack[images.indices[positions]]
        if augment_strength > 0:
            pixels = np.stack([augment(image) for image in pixels])
        yield _batch(images, positions, pixels)


def eval_batches(images: ImageSet, *, batch_size: int) -> Iterator[Batch]:
    """The whole set in order, the last batch as short as it comes."""
    for start in range(0, len(images), batch_size):
        positions = np.arange(start, min(start + batch_size, len(images)))
        yield _batch(images, positions, images.pack[images.indices[positions]])


def _batch(images: ImageSet, positions: np.ndarray, pixels: np.ndarray) -> Batch:
    # (B, S, S, 3) in memory, seen as (B, 3, S, S), is channels-last already: no copy.
    return Batch(
        images=torch.from_numpy(np.ascontiguousarray(pixels)).permute(0, 3, 1, 2),
        labels=torch.from_numpy(images.labels[positions]),
        index=torch.from_numpy(positions.astype(np.int64)),
    )
