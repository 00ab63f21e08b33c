"""Small prepared data for the tests of trainings: of no real images, in each of the designs."""

from dataclasses import replace

import numpy as np
import pandas as pd

from pipeline.training.data import TrainingData

CLASSES = ("good", "pit")


def data(count: int = 10) -> TrainingData:
    """Image number n is filled with n; all of them but the last two are for training."""
    pack = np.broadcast_to(np.arange(count, dtype=np.uint8)[:, None, None, None], (count, 8, 8, 3))
    split = ["train"] * (count - 2) + ["val"] * 2
    manifest = pd.DataFrame(
        {"split": split, "pack_index": range(count), "label": [CLASSES[n % 2] for n in range(count)]}
    )
    return TrainingData(manifest, pack, CLASSES, ("good",))


def weighed(*counts: int) -> TrainingData:
    """Training images of two classes, as many of each, and two for validation."""
    labels = [name for name, count in zip(CLASSES, counts, strict=True) for _ in range(count)]
    total = sum(counts) + 2
    pack = np.zeros((total, 8, 8, 3), dtype=np.uint8)
    split = ["train"] * sum(counts) + ["val"] * 2
    manifest = pd.DataFrame({"split": split, "pack_index": range(total), "label": [*labels, *CLASSES]})
    return TrainingData(manifest, pack, CLASSES, ("good",))


def doubted(confidence: float = 0.75, *, val: float = 1.0) -> TrainingData:
    """80 good images, 20 pits of that confidence, two for validation."""
    images = weighed(80, 20)
    column = [1.0] * 80 + [confidence] * 20 + [val] * 2
    return replace(images, manifest=images.manifest.assign(confidence=column))


def folded() -> TrainingData:
    """Eight images in train and val, in three folds, and two of the test split, which are in none."""
    everything = data()
    manifest = everything.manifest.assign(
        split=["train"] * 6 + ["val"] * 2 + ["test"] * 2, fold=[0, 1, 2, 0, 1, 2, 0, 1, -1, -1]
    )
    return TrainingData(manifest, everything.pack, CLASSES, ("good",))


def cross_fitted() -> TrainingData:
    """Eight images in three folds, and two of the test split."""
    whole = folded()
    split = whole.manifest["split"].replace("val", "train")
    return TrainingData(whole.manifest.assign(split=split), whole.pack, CLASSES, ("good",))
