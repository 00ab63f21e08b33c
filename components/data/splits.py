"""Four splits that no group crosses, each with every class in its share.

Given splits stand, images keep the split of an earlier manifest (`fixed_splits.py`), and the rest is drawn by group
(`stratify.py`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd

from components.data.fixed_splits import FREE, SPLITS, TRAIN, FixedSplits, fix_splits
from components.data.stratify import Demand, Groups, absent_classes, count_groups, spread_groups
from components.errors import InputError
from components.names import listed

__all__ = ["SPLITS", "SplitResult", "assign_splits"]

_SHOWN = 5
# A class's share of a split that is further off than this is worth a sentence.
_FAR_OFF = 0.1


@dataclass(frozen=True)
class SplitResult:
    """split: (N,) str. notes: what the user should know of how it came about, a sentence each."""

    split: np.ndarray
    notes: tuple[str, ...]


def assign_splits(
    table: pd.DataFrame,
    *,
    fractions: Mapping[str, float],
    seed: int,
    conflict: Literal["error", "train", "majority"],
    strata: Sequence[str],
    earlier: Mapping[str, str],
) -> SplitResult:
    """A split for each row: given ones stand, earlier ones are kept, the others are drawn by group.

    table: N rows with label, group, split (given, or missing), sha256 where there is an earlier manifest, and
    meta_<name> for each of strata. fractions: one per split, above 0, 1 in sum; shares of all images, old and new.
    conflict: what to do with a group that the given splits tear apart. strata: metadata to be spread evenly too, within
    each class, as far as the groups allow. earlier: sha256 → split of images that were there before; what goes before
    what, see `fix_splits`.

    The same for any order of the rows. For images that are their own groups, every class is within one image of its
    share, or within two beside strata. Raises InputError: see the messages.
    """
    _check(table, fractions)
    group, names = pd.factorize(table["group"], sort=True)
    label, labels = pd.factorize(table["label"], sort=True)
    groups = count_groups(group, label, _strata_codes(table, strata))
    settled = fix_splits(table, group, names, conflict=conflict, earlier=earlier)
    split, notes = settled.split, settled.notes
    if (split == FREE).any() or (earlier and len(settled.open_splits) > 1):
        shares = np.array([fractions[SPLITS[number]] for number in settled.open_splits])
        shares /= shares.sum()
        split = _fill(groups, settled, shares, labels=list(labels), seed=seed, kept=bool(earlier))
        notes += _share_notes(groups, split, settled, shares, list(labels))
    _check_train(groups, split, list(labels))
    return SplitResult(np.array(SPLITS, dtype=object)[split[group]], notes)


def _check(table: pd.DataFrame, fractions: Mapping[str, float]) -> None:
    faulty = set(fractions) != set(SPLITS) or not all(0.0 < share < 1.0 for share in fractions.values())
    if faulty or abs(sum(fractions.values()) - 1.0) > 1e-6:
        raise InputError(f"data.splits={dict(fractions)}: needs {', '.join(SPLITS)}, each above 0, with a sum of 1")
    labels = sorted(set(table["label"]))
    if len(labels) < 2:
        raise InputError(
            f"data.source has only the class {', '.join(labels) or '(none)'}: nothing to tell apart; "
            "add images of at least one other class"
        )


def _strata_codes(table: pd.DataFrame, strata: Sequence[str]) -> list[np.ndarray]:
    """(N,) int64 codes of each column; a missing value is a value too. Raises InputError for an unknown column."""
    known = [name.removeprefix("meta_") for name in table.columns if name.startswith("meta_")]
    unknown = [name for name in strata if name not in known]
    if unknown:
        raise InputError(
            f"data.stratify_columns={list(strata)}: the source has no metadata {', '.join(unknown)}; "
            f"use some of: {', '.join(known) or '(there is none)'}, or name the columns in data.metadata_columns too"
        )
    return [pd.factorize(table[f"meta_{name}"], sort=True)[0] + 1 for name in strata]


def _fill(
    groups: Groups, settled: FixedSplits, shares: np.ndarray, *, labels: list[str], seed: int, kept: bool
) -> np.ndarray:
    """(G,) int64: an open split for each free group too, so that every open split gets each class.

    shares: of the open splits, 1 in sum. kept: some are settled by an earlier manifest. Raises InputError.
    """
    free = np.flatnonzero(settled.split == FREE)
    drawn = Groups(groups.images[free], groups.stratum_class)
    there = [np.flatnonzero(settled.split == number) for number in settled.open_splits]
    placed = np.stack([groups.images[rows].sum(axis=0) for rows in there])
    holders = np.stack([_holders(groups, rows) for rows in there])
    names = [SPLITS[number] for number in settled.open_splits]
    remedy = ", or leave data.earlier_manifest out, so that all splits are drawn anew" if kept else ""
    _check_enough_groups(_holders(groups, free), holders, labels, names, remedy)
    demand = Demand(np.outer(shares, placed.sum(axis=0) + drawn.images.sum(axis=0)) - placed, holders)
    parts = spread_groups(drawn, demand, seed=seed)
    absent = np.argwhere(absent_classes(drawn, demand, parts))
    if len(absent):
        part, label = absent[0]
        raise InputError(
            f"data.source: its groups mix classes so that {names[part]} gets no group of class {labels[label]}; "
            f"add images of that class from other parts, or give data.split_column{remedy}"
        )
    split = settled.split.copy()
    split[free] = np.array(settled.open_splits)[parts]
    return split


def _check_enough_groups(
    free: np.ndarray, holders: np.ndarray, labels: list[str], names: list[str], remedy: str
) -> None:
    """free: (C,) groups of each class to draw. holders: (P, C) groups that each open split has already."""
    short = []
    for label, count, held in zip(labels, free, holders.T, strict=True):
        without = [name for name, n in zip(names, held, strict=True) if n == 0]
        if count < len(without):
            short.append(
                f"class {label} has {_plural(count, 'group')}{' left' if held.any() else ''}: "
                f"it cannot be in {_plural(len(without), 'split')} ({', '.join(without)})"
            )
    if short:
        more = f"; and {_plural(len(short) - _SHOWN, 'more class', 'more classes')}" if len(short) > _SHOWN else ""
        raise InputError(
            f"data.source: {'; '.join(short[:_SHOWN])}{more}. Images of one part, and images that show the same thing, "
            "are one group: add images of other parts, merge the class with another one, leave it out, or give "
            f"data.split_column its images in each of these splits{remedy}"
        )


def _share_notes(
    groups: Groups, split: np.ndarray, settled: FixedSplits, shares: np.ndarray, labels: list[str]
) -> tuple[str, ...]:
    """The class whose share of an open split is furthest off, where that is far."""
    images = groups.images[:, : groups.classes]
    counts = np.stack([images[np.flatnonzero(split == number)].sum(axis=0) for number in settled.open_splits])
    found = counts / counts.sum(axis=0)
    off = np.abs(found - shares[:, None])
    part, label = np.unravel_index(off.argmax(), off.shape)
    if off[part, label] <= _FAR_OFF:
        return ()
    held = int(_holders(groups, np.flatnonzero(np.isin(split, settled.open_splits)))[label])
    return (
        f"The shares of data.splits cannot be met with {_plural(held, 'group')} of class {labels[label]}: "
        f"{SPLITS[settled.open_splits[part]]} has {found[part, label]:.0%} of its images, not {shares[part]:.0%}.",
    )


def _check_train(groups: Groups, split: np.ndarray, labels: list[str]) -> None:
    absent = np.flatnonzero(_holders(groups, np.flatnonzero(split == TRAIN)) == 0)
    if len(absent):
        raise InputError(
            f"data.split_column: no image of class {listed([labels[n] for n in absent])} is in train, so it cannot be "
            "learned; give some of them the split train, or leave those cells empty"
        )


def _holders(groups: Groups, rows: np.ndarray) -> np.ndarray:
    """(C,) groups of each class among these."""
    return np.bincount(groups.images[rows, : groups.classes].indices, minlength=groups.classes)


def _plural(count: int, one: str, many: str = "") -> str:
    return f"{count} {one if count == 1 else many or one + 's'}"
