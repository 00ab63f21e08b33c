"""The prepared images that a training may use: splits, folds, batches. Nothing here reads the test split."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

from components.data.loader import Batch, ImageSet, TrainLoader, eval_batches, image_set
from components.data.manifest import classes_of, load_manifest
from components.data.pack.reader import Pack, open_pack
from components.data.soft_labels import soft_targets
from components.errors import InputError
from components.training.engine import Device
from pipeline.overriding import override
from pipeline.sections.recipe import Recipe

#: Training batches for the norm statistics of averaged weights; schedulefree recommends about as many.
CALIBRATION_BATCHES = 50
#: In the design cross_fit the fold on which the search compares its trials. It does not certify.
SELECTION_FOLD = 0
#: For `recipe.batch_size: auto`: each with the number of images from which it is taken, the largest first.
BATCH_SIZES = {32: 1600, 16: 800, 8: 0}


@dataclass(frozen=True)
class TrainingData:
    """The prepared data of the splits that training may use.

    In the design cross_fit the splits are train, of which every image has a fold, and test; `fold_of` gives the images
    of one training. In the design hold_out they are train, val, calibration and test.
    """

    manifest: pd.DataFrame
    pack: Pack
    classes: tuple[str, ...]
    good_classes: tuple[str, ...]

    def split(self, name: str) -> ImageSet:
        """Some images; where training labels have a confidence below 1, with soft targets.

        Trainings learn from these, and what is compared with a training's loss is measured on them: the range test's
        and the monitor's held-out batch. All scores, `val_loss` among them, are of the labels.
        """
        images = image_set(self.manifest, self.pack, name, self.classes)
        if "confidence" not in self.manifest:
            return images
        confidence, split = self.manifest["confidence"], self.manifest["split"]
        if (confidence[split == "train"] == 1).all():
            return images
        good = [self.classes.index(label) for label in self.good_classes]
        certain = confidence[split == name].to_numpy()
        targets = soft_targets(images.labels, certain, class_counts=self.class_counts, good=good)
        return replace(images, targets=targets)

    @property
    def folds(self) -> int:
        """The number of folds in the design cross_fit, 0 in the design hold_out."""
        held_out = self.manifest["split"].isin(("val", "calibration")).any()
        return 0 if held_out else int(self.manifest["fold"].max()) + 1

    @property
    def class_counts(self) -> np.ndarray:
        """Images of each class in the train split, (K,) int."""
        train = image_set(self.manifest, self.pack, "train", self.classes)
        return np.bincount(train.labels, minlength=len(self.classes))

    @property
    def target_sums(self) -> np.ndarray:
        """Of the train split, (K,): the images of each class, or the sum of their soft targets."""
        targets = self.split("train").targets
        return self.class_counts if targets is None else targets.sum(axis=0, dtype=np.float64)


@functools.lru_cache(maxsize=2)
def open_data(prepared: Path) -> TrainingData:
    """Open the manifest and the memory-mapped pack; cached for a worker that trains several trials."""
    manifest = load_manifest(prepared / "manifest.parquet")
    classes = tuple(classes_of(manifest))
    is_good = manifest["is_defect"].eq(False)
    good = tuple(sorted(manifest.loc[is_good.fillna(False), "label"].unique()))
    return TrainingData(manifest, open_pack(prepared), classes, good)


def for_selection(data: TrainingData) -> TrainingData:
    """The data that recipes and rates are compared on: in the design cross_fit those with the first fold as `val`."""
    return fold_of(data, SELECTION_FOLD) if data.folds else data


def fold_of(data: TrainingData, fold: int) -> TrainingData:
    """The same images with one fold as `val` and the others of train and val as `train`; `InputError` without it."""
    folds = data.manifest["fold"]
    if not folds.eq(fold).any():
        raise InputError(
            f"search.folds: the data have no fold {fold} (they have {folds.max() + 1}); see the data report, and set "
            "data.num_folds and search.folds to a number that the groups allow, or search.folds to 0"
        )
    split = data.manifest["split"].mask(folds >= 0, "train").mask(folds == fold, "val")
    return replace(data, manifest=data.manifest.assign(split=split))


def network_folds(data: TrainingData, networks: int | None) -> range:
    """The folds without which a network is trained: all, or the last ones, since recipes are compared on the first."""
    return range(data.folds - min(data.folds if networks is None else networks, data.folds), data.folds)


def with_batch_size(recipe: Recipe, data: TrainingData) -> Recipe:
    """The recipe, its batch size a number: where it is `auto`, by the images of train and val together."""
    if recipe.recipe.batch_size != "auto":
        return recipe
    images = int(data.manifest["split"].isin(("train", "val")).sum())
    size = next(size for size, least in BATCH_SIZES.items() if images >= least)
    return override(recipe, {"recipe.batch_size": size})


def steps_per_epoch(recipe: Recipe, data: TrainingData) -> int:
    return max(1, len(data.split("train")) // recipe.recipe.images_per_step)


def train_loader(recipe: Recipe, data: TrainingData, *, seed: int, device: Device, workers: int) -> TrainLoader:
    return TrainLoader(
        data.split("train"),
        batch_size=recipe.recipe.images_per_step,
        augment_strength=recipe.recipe.augment_strength,
        augment=recipe.recipe.augment,
        workers=workers,
        seed=seed,
        pin_memory=device.target.type == "cuda",
    )


def held_out_batch(data: TrainingData, *, size: int, seed: int) -> Batch:
    """A fixed random batch of the images that are held out, by class; of train where none are."""
    val = data.split("val") or data.split("train")
    order = np.random.default_rng(seed).permutation(len(val))
    place = np.empty(len(val))
    for label in np.unique(val.labels):
        own = order[val.labels[order] == label]
        place[own] = (np.arange(len(own)) + 0.5) / len(own)
    chosen = order[np.argsort(place[order], kind="stable")][:size]
    return next(eval_batches(val.take(chosen), batch_size=size))


def calibration_batches(recipe: Recipe, data: TrainingData, seed: int) -> Iterator[Batch]:
    """Training batches without augmentation, always the same; all of one size since statistics are averaged."""
    train = data.split("train")
    size = min(recipe.recipe.images_per_step, len(train))
    count = min(CALIBRATION_BATCHES, len(train) // size)
    chosen = np.random.default_rng(seed).permutation(len(train))[: count * size]
    return eval_batches(train.take(chosen), batch_size=size)
