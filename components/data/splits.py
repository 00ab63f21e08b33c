"""Splits that no group crosses, each with every class in its share, and folds.

Given splits stand, images keep the split of an earlier manifest (`fixed_splits.py`), and the rest is drawn by group
(`stratify.py`). So are the folds, which are as even as those of scikit-learn's StratifiedGroupKFold; that takes 11 s
for 20,000 groups.

Two designs. `hold_out` has four splits. `cross_fit` has two, train and test: each fold of train is scored by a model
that was trained on the others, so that every image teaches and, but for a fold on which something was chosen,
certifies.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd

from components.data.fixed_splits import (
    FREE,
    SPLITS,
    SPLITS_OF,
    TRAIN,
    Design,
    FixedSplits,
    fix_splits,
    given_codes,
)
from components.data.stratify import Demand, Groups, absent_classes, count_groups, draw_folds, spread_groups
from components.display import counted, listed
from components.errors import InputError

_SHOWN = 5
# Shares that are further off than this, or less than half of what was asked, or more than twice, are worth a sentence.
_FAR_OFF = 0.1
FOLD_SPLITS = ("train", "val")
#: Development images (all but test) up to which `auto` cross-fits.
CROSS_FIT_IMAGES = 20_000
MOST_NOTES = 5
"""Of more classes than that, one sentence tells."""


@dataclass(frozen=True)
class SplitResult:
    """split: (N,) str. notes: how it came about; shortages: where it is not as asked; a sentence each."""

    split: np.ndarray
    notes: tuple[str, ...]
    shortages: tuple[str, ...]


def choose_design(split: pd.Series, *, test_fraction: float) -> Design:
    """The design for `auto`: hold_out where val or calibration images are given, or where there are many images.

    split: (N,) given splits, or missing. test_fraction: share of the test split where none is given.
    """
    codes = given_codes(split)
    held = {SPLITS[code] for code in np.unique(codes) if code != FREE}
    if held & {"val", "calibration"}:
        return "hold_out"
    tests = (codes == SPLITS.index("test")).sum() if "test" in held else test_fraction * len(codes)
    return "cross_fit" if len(codes) - tests <= CROSS_FIT_IMAGES else "hold_out"


def assign_splits(
    table: pd.DataFrame,
    *,
    design: Design,
    fractions: Mapping[str, float],
    seed: int,
    conflict: Literal["error", "train", "majority"],
    strata: Sequence[str],
    earlier: Mapping[str, str],
) -> SplitResult:
    """A split for each row: given ones stand, earlier ones are kept, the others are drawn by group.

    table: N rows with label, group, split (given, or missing), sha256 where there is an earlier manifest, and
    meta_<name> for each of strata. fractions: one per split, above 0, 1 in sum; shares of all images, old and new. In
    the design cross_fit all but test is train. conflict: what to do with a group that the given splits tear apart.
    strata: metadata to be spread evenly too, within each class, as far as the groups allow. earlier: sha256 → split of
    images that were there before; what goes before what, see `fix_splits`.

    The same for any order of the rows. For images that are their own groups, every class is within one image of its
    share, or within two beside strata. Raises InputError: see the messages.
    """
    classes = sorted(set(table["label"]))
    if len(classes) < 2:
        raise InputError(
            f"data.source has only the class {', '.join(classes) or '(none)'}: nothing to tell apart; "
            "add images of at least one other class"
        )
    group, names = pd.factorize(table["group"], sort=True)
    label, labels = pd.factorize(table["label"], sort=True)
    groups = count_groups(group, label, _strata_codes(table, strata))
    settled = fix_splits(table, group, names, conflict=conflict, earlier=earlier, design=design)
    split, shortages = settled.split, settled.shortages
    if (split == FREE).any() or (earlier and len(settled.open_splits) > 1):
        fractions = dict(fractions)
        fractions["train"] += sum(fractions[name] for name in SPLITS if name not in SPLITS_OF[design])
        shares = np.array([fractions[SPLITS[number]] for number in settled.open_splits])
        shares /= shares.sum()
        split = _fill(groups, settled, shares, labels=list(labels), seed=seed, kept=bool(earlier))
        rest = "" if len(shares) == len(SPLITS_OF[design]) else " of what is not in a given split"
        shortages += _share_notes(groups, split, settled.open_splits, shares, list(labels), list(names), rest)
    absent = np.flatnonzero(_holders(groups, np.flatnonzero(split == TRAIN)) == 0)
    if len(absent):
        raise InputError(
            f"data.split_column: no image of class {listed(list(labels[absent]))} is in train, so it cannot be "
            "learned; give some of them the split train, or leave those cells empty"
        )
    return SplitResult(np.array(SPLITS, dtype=object)[split[group]], settled.notes, shortages)


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
                f"class {label} has {counted(count, 'group')}{' left' if held.any() else ''}: "
                f"it cannot be in {counted(len(without), 'split')} ({', '.join(without)})"
            )
    if short:
        more = f"; and {counted(len(short) - _SHOWN, 'more class', 'more classes')}" if len(short) > _SHOWN else ""
        raise InputError(
            f"data.source: {'; '.join(short[:_SHOWN])}{more}. Images of one part, and images that show the same thing, "
            "are one group: add images of other parts, merge the class with another one, leave it out, or give "
            f"data.split_column its images in each of these splits{remedy}"
        )


def _share_notes(
    groups: Groups,
    split: np.ndarray,
    open_splits: Sequence[int],
    shares: np.ndarray,
    labels: list[str],
    names: list[str],
    rest: str,
) -> tuple[str, ...]:
    """A sentence for all images, and one for each class, whose shares of the open splits are far off; the worst first.

    Beside all images a class is named only where it is clearly further off than they are. rest: of what shares are
    asked, in words.
    """
    inside = np.flatnonzero(np.isin(split, open_splits))
    images = groups.images[inside, : groups.classes].tocsc()
    counts = np.stack([images[split[inside] == number].sum(axis=0) for number in open_splits])
    table = np.column_stack([counts.sum(axis=1), counts])  # all images, then each class
    total = table.sum(axis=0)
    asked = np.outer(shares, total)
    off = np.abs(table - asked)
    far = (off > 1) & ((off > _FAR_OFF * total) | (table < asked / 2) | (table > 2 * asked))
    furthest = (off / total).max(axis=0)
    if far[:, 0].any():
        far[:, 1:] &= furthest[1:] > furthest[0] + _FAR_OFF
    worst = sorted(np.flatnonzero(far.any(axis=0)), key=lambda column: (column > 0, -furthest[column]))
    notes = []
    for column in worst[:_SHOWN]:
        own = images.sum(axis=1) if column == 0 else images[:, [column - 1]].toarray()[:, 0]
        found = ", ".join(
            f"{SPLITS[number]} {table[row, column]} ({table[row, column] / total[column]:.0%}, "
            f"asked {shares[row]:.0%}{rest})"
            for row, number in enumerate(open_splits)
            if far[row, column]
        )
        cause = (
            f"The largest group, {names[inside[own.argmax()]]}, has {own.max()}: add images of other parts, or split "
            "that group."
            if own.max() > 1
            else "Each class needs an image in each split, and has few: add images."
        )
        notes.append(
            f"data.splits cannot be met with {counted(int((own > 0).sum()), 'group')} for the {total[column]} images"
            f"{'' if column == 0 else f' of class {labels[column - 1]}'}: {found}. {cause}"
        )
    if len(worst) > _SHOWN:
        notes.append(f"The shares of {counted(len(worst) - _SHOWN, 'more class', 'more classes')} are far off, too.")
    return tuple(notes)


def _holders(groups: Groups, rows: np.ndarray) -> np.ndarray:
    """(C,) groups of each class among these."""
    return np.bincount(groups.images[rows, : groups.classes].indices, minlength=groups.classes)


@dataclass(frozen=True)
class FoldResult:
    """fold: (N,) int64 in [0, number of folds), -1 where there is none. notes: classes that folds go without, or why
    there are fewer folds, or none."""

    fold: np.ndarray
    notes: tuple[str, ...]


def assign_folds(table: pd.DataFrame, *, num_folds: int, design: Design, seed: int) -> FoldResult:
    """A fold for each development image: of train, in the design hold_out also of val, which cross-validation may use.

    table: N rows with label, is_defect, group and split. num_folds: 0 for none. The same for any order of the rows.
    Folds are drawn anew whenever images are added: an earlier manifest keeps splits, not folds.

    hold_out: where every class has fewer groups than there are folds, there are none, and a note says so. cross_fit:
    there are as many, two at least, as give each fold images of two kinds, and each training images of every class.
    Raises InputError where not even two do.
    """
    fold = np.full(len(table), -1, dtype=np.int64)
    inside = np.flatnonzero(table["split"].isin(FOLD_SPLITS))
    if design == "cross_fit":
        drawn, notes = _cross_fit_folds(table.iloc[inside], num_folds, seed)
    elif not num_folds or not len(inside):
        return FoldResult(fold, ())
    else:
        drawn, notes = _validation_folds(table.iloc[inside], num_folds, seed)
    fold[inside] = drawn
    return FoldResult(fold, notes)


def _validation_folds(table: pd.DataFrame, num_folds: int, seed: int) -> tuple[np.ndarray, tuple[str, ...]]:
    held = table.groupby("label")["group"].nunique()
    if (most := int(held.max())) < num_folds:
        use = f"at most {most}, or 0 for none" if most > 1 else "0, for none"
        note = (
            f"There are no folds: data.num_folds={num_folds}, and no class has as many groups in train and val (the "
            f"most frequent, {held.idxmax()}, has {most}); use {use}, or add images of other parts."
        )
        return np.full(len(table), -1), (note,)
    fold = draw_folds(table["label"].to_numpy(), table["group"].to_numpy(), num_folds, seed=seed)
    return fold, _absence_notes(table, fold, num_folds)


def _cross_fit_folds(table: pd.DataFrame, num_folds: int, seed: int) -> tuple[np.ndarray, tuple[str, ...]]:
    held = table.groupby("label")["group"].nunique()
    graded = table["is_defect"].notna().all()
    kind = table["is_defect"].map({True: "defective", False: "good"}) if graded else table["label"]
    by_kind = table.groupby(kind)["group"].nunique().sort_values(ascending=False)
    if not num_folds:
        raise InputError(
            "data.num_folds=0: data.design=cross_fit needs folds; give 2 or more, or set data.design to hold_out"
        )
    lacking = f"a fold would have no {by_kind.index[1]} image ({counted(int(by_kind.iloc[1]), 'group')})"
    reason = lacking
    for count in range(min(num_folds, int(by_kind.iloc[1])), 1, -1):
        fold = draw_folds(table["label"].to_numpy(), table["group"].to_numpy(), count, seed=seed)
        spread = table.assign(fold=fold, kind=kind).groupby("fold")["kind"].nunique().min()
        folds_of = table.assign(fold=fold).groupby("label")["fold"].nunique()
        alone = folds_of.index[folds_of == 1]
        if spread > 1 and not len(alone):
            fewer: tuple[str, ...] = ()
            if count < num_folds:
                fewer = (f"There are {count} folds instead of data.num_folds={num_folds}: with more, {reason}.",)
            return fold, (*fewer, *_absence_notes(table, fold, count))
        reason = lacking if spread < 2 else f"all images of class {listed(list(alone))} would be in one fold"
    rarest = listed([f"{name} ({counted(int(count), 'group')})" for name, count in held[held < 3].items()])
    raise InputError(
        f"data.design=cross_fit: the images that are not test cannot be cut into two folds of whole groups with "
        f"{'good and defective images and ' if graded else ''}each class in both"
        f"{f'; few groups: {rarest}' if rarest else ''}; add images of other parts, merge or leave out the classes "
        "with one group, or give a finer data.group_column"
    )


def _absence_notes(table: pd.DataFrame, fold: np.ndarray, num_folds: int) -> tuple[str, ...]:
    """A sentence for each class that folds go without."""
    by_class = table.assign(fold=fold).groupby("label")
    gaps = num_folds - by_class["fold"].nunique()
    held = by_class["group"].nunique()
    without = gaps[gaps > 0]
    if len(without) > MOST_NOTES:
        return (
            f"{len(without):,} classes have fewer groups outside test than there are folds ({num_folds}): some folds "
            f"go without {listed(list(without.index))}.",
        )
    return tuple(
        f"Class {name} has {counted(int(held[name]), 'group')} outside test: {count} of {num_folds} folds "
        f"{'goes' if count == 1 else 'go'} without it."
        for name, count in zip(without.index, without, strict=True)
    )
