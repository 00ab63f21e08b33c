"""Which images are embedded, and on which of them a classifier may learn and is scored."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from components.data.audit.groupwise import sample_groups
from components.data.loader import ImageSet
from pipeline.training.data import SELECTION_FOLD, TrainingData

#: In the design hold_out a classifier learns on train, and candidates are compared on val.
LEARN, COMPARE = "train", "val"


@dataclass(frozen=True)
class Chosen:
    """The images that are embedded: none of the test split.

    rows: (N,) int64, rising, rows of the manifest. images: their pixels and labels. groups: (N,) their parts. splits:
    (N,) str. folds: (N,) int64 in the cross-fit design, else None. compared: (N,) bool, on which of them candidates are
    compared. available: how many there were to choose from.
    """

    rows: np.ndarray
    images: ImageSet
    groups: np.ndarray
    splits: np.ndarray
    folds: np.ndarray | None
    compared: np.ndarray
    available: int

    def __len__(self) -> int:
        return len(self.rows)


def choose_images(data: TrainingData, *, most: int, several: bool, seed: int) -> Chosen:
    """All images but those of the test split; of more than `most` a sample by class that keeps groups whole.

    In the design hold_out only train is sampled: networks are blended and compared on all of val, and certified on all
    of calibration. several: whether there are several candidates. In the cross-fit design these are
    compared on the fold that other choices are made on, too, so that the others still certify; a single one is scored
    on all.
    """
    manifest = data.manifest
    split = manifest["split"].to_numpy(dtype=object)
    learned = np.flatnonzero(split == LEARN)
    whole = np.flatnonzero(np.isin(split, (LEARN, "test"), invert=True))  # val and calibration, none in cross_fit
    labels, groups = (manifest[name].to_numpy(dtype=object)[learned] for name in ("label", "group"))
    sampled = learned[sample_groups(labels, groups, max_images=most, seed=seed)]
    rows = np.sort(np.concatenate([sampled, whole]))
    chosen = manifest.iloc[rows]
    positions = {name: number for number, name in enumerate(data.classes)}
    images = ImageSet(
        data.pack,
        chosen["pack_index"].to_numpy(dtype=np.int64),
        chosen["label"].map(positions).to_numpy(dtype=np.int64),
    )
    splits, folds = split[rows], chosen["fold"].to_numpy(dtype=np.int64)
    compared = splits == COMPARE
    if data.folds:
        compared = folds == SELECTION_FOLD if several else np.ones(len(rows), dtype=bool)
    return Chosen(
        rows=rows,
        images=images,
        groups=chosen["group"].to_numpy(),
        splits=splits,
        folds=folds if data.folds else None,
        compared=compared,
        available=len(learned) + len(whole),
    )
