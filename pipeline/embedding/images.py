"""Which images are embedded, and on which of them a classifier may learn and is scored."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from components.data.audit.groupwise import sample_groups
from components.data.loader import ImageSet
from pipeline.training.build import TrainingData

#: What a classifier is scored on in the hold-out design: it learns on train, its candidates are compared on val.
LEARN, COMPARE = "train", "val"


@dataclass(frozen=True)
class Chosen:
    """The images that are embedded: none of the test split.

    rows: (N,) int64, rising, rows of the manifest. images: their pixels and labels. groups: (N,) their parts. splits:
    (N,) str. folds: (N,) int64 in the cross-fit design, else None. available: how many there were to choose from.
    """

    rows: np.ndarray
    images: ImageSet
    groups: np.ndarray
    splits: np.ndarray
    folds: np.ndarray | None
    available: int

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def compared(self) -> np.ndarray:
        """(N,) bool: on which images the candidates are compared."""
        return np.ones(len(self), dtype=bool) if self.folds is not None else self.splits == COMPARE


def choose_images(data: TrainingData, *, most: int, seed: int) -> Chosen:
    """All images but those of the test split; of more than `most` a sample by class that keeps groups whole."""
    manifest = data.manifest
    available = np.flatnonzero(manifest["split"] != "test")
    labels, groups = (manifest[name].to_numpy(dtype=object)[available] for name in ("label", "group"))
    rows = available[sample_groups(labels, groups, max_images=most, seed=seed)]
    chosen = manifest.iloc[rows]
    positions = {name: number for number, name in enumerate(data.classes)}
    images = ImageSet(
        data.pack,
        chosen["pack_index"].to_numpy(dtype=np.int64),
        chosen["label"].map(positions).to_numpy(dtype=np.int64),
    )
    return Chosen(
        rows=rows,
        images=images,
        groups=chosen["group"].to_numpy(),
        splits=chosen["split"].to_numpy(dtype=object),
        folds=chosen["fold"].to_numpy(dtype=np.int64) if data.folds else None,
        available=len(available),
    )
