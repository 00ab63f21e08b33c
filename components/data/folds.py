"""Folds for cross-validation: within train and val, with no group in two of them and every class in each.

Drawn by `stratify.py`, as the splits are: its folds are as even as those of scikit-learn's StratifiedGroupKFold, which
takes 11 s for 20,000 groups.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from components.data.stratify import Demand, absent_classes, count_groups, spread_groups
from components.display import listed

FOLD_SPLITS = ("train", "val")
MOST_NOTES = 5
"""Of more classes than that, one sentence tells."""


@dataclass(frozen=True)
class FoldResult:
    """fold: (N,) int64 in [0, num_folds), -1 outside train and val. notes: classes that folds go
    without, or why there are no folds."""

    fold: np.ndarray
    notes: tuple[str, ...]


def assign_folds(table: pd.DataFrame, *, num_folds: int, seed: int) -> FoldResult:
    """A fold for each image of train and val, for a cross-validation that leaves calibration and test alone.

    table: N rows with label, group and split. num_folds: 0 for none. The same for any order of the rows. Folds are
    drawn anew whenever images are added: an earlier manifest keeps splits, not folds.

    Where every class has fewer groups than there are folds, there are none, and a note says so.
    """
    fold = np.full(len(table), -1, dtype=np.int64)
    inside = np.flatnonzero(table["split"].isin(FOLD_SPLITS))
    if not num_folds or not len(inside):
        return FoldResult(fold, ())
    group, _ = pd.factorize(table["group"].iloc[inside], sort=True)
    label, labels = pd.factorize(table["label"].iloc[inside], sort=True)
    groups = count_groups(group, label, [])
    held = np.bincount(groups.images.indices, minlength=len(labels))
    if held.max() < num_folds:
        most = int(held.max())
        use = f"at most {most}, or 0 for none" if most > 1 else "0, for none"
        note = (
            f"There are no folds: data.num_folds={num_folds}, and no class has as many groups in train and val (the "
            f"most frequent, {labels[int(held.argmax())]}, has {most}); use {use}, or add images of other parts."
        )
        return FoldResult(fold, (note,))
    lack = np.tile(groups.images.sum(axis=0) / num_folds, (num_folds, 1))
    demand = Demand(lack, np.zeros((num_folds, len(labels)), dtype=np.int64))
    drawn = spread_groups(groups, demand, seed=seed)
    fold[inside] = drawn[group]
    without = absent_classes(groups, demand, drawn).sum(axis=0)
    notes = [
        f"Class {name} has {count} {'group' if count == 1 else 'groups'} in train and val: {gaps} of {num_folds} folds "
        f"{'goes' if gaps == 1 else 'go'} without it."
        for name, count, gaps in zip(labels, held, without, strict=True)
        if gaps
    ]
    if len(notes) > MOST_NOTES:
        notes = [
            f"{len(notes):,} classes have fewer groups in train and val than data.num_folds={num_folds}: some folds go "
            f"without {listed([name for name, gaps in zip(labels, without, strict=True) if gaps])}."
        ]
    return FoldResult(fold, tuple(notes))
