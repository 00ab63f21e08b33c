"""Four splits that no group crosses, each with every class in its share.

The order of work (rarest class first, to the split that lacks it most) is iterative stratification:
Sechidis, Tsoumakas, Vlahavas, "On the stratification of multi-label data" (2011), here on groups of images.
"""

from collections.abc import Mapping
from typing import Literal

import numpy as np
import pandas as pd

from components.errors import InputError

SPLITS = ("train", "val", "calibration", "test")
SPLIT_NAMES = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "calibration": "calibration",
    "test": "test",
}

_ATTEMPTS = 20
_SHOWN = 5


def assign_splits(
    table: pd.DataFrame,
    *,
    fractions: Mapping[str, float],
    seed: int,
    conflict: Literal["error", "train", "majority"],
) -> np.ndarray:
    """A split for each row: given ones stand, the others are drawn by group, stratified by label.

    table: N rows with label, group, and split (given, or missing). A row without a given split follows its
    group; groups without one go to train and to the splits that nothing was given for. When every row is
    given, missing val and calibration (and test) are carved out of train, never out of test. fractions: one
    per split, above 0, 1 in sum. conflict: what to do with a group that the given splits tear apart.

    Returns (N,) str. For images that are their own groups, every class is within one image of its share. The
    same for any order of the rows. Raises InputError: see the messages.
    """
    _check(table, fractions)
    counts = pd.crosstab(table["group"], table["label"]).sort_index(axis=0).sort_index(axis=1)
    fixed = _given_splits(table, conflict)
    given = set(fixed.values())
    open_splits = tuple(split for split in SPLITS if split == "train" or split not in given)
    free = [group for group in counts.index if group not in fixed]
    if not free and len(open_splits) > 1:
        free = [group for group in counts.index if fixed[group] == "train"]
        fixed = {group: split for group, split in fixed.items() if split != "train"}
    if free:
        fixed |= _fill(counts, fixed, free, open_splits=open_splits, fractions=fractions, seed=seed)
    _check_train(counts, fixed)
    return np.array([fixed[group] for group in table["group"]], dtype=object)


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


def _given_splits(table: pd.DataFrame, conflict: str) -> dict[str, str]:
    """Group → split, for each group with a given one. Raises InputError: an unknown name, a torn group."""
    rows = table[table["split"].notna()]
    names = rows["split"].astype(str).str.strip().str.lower()
    unknown = sorted(set(rows["split"][~names.isin(list(SPLIT_NAMES))]))
    if unknown:
        raise InputError(
            f"data.split_column: unknown splits {', '.join(map(repr, unknown[:_SHOWN]))}; "
            f"use {', '.join(SPLIT_NAMES)}, or leave the cell empty"
        )
    if not len(rows):
        return {}
    votes = pd.crosstab(rows["group"], names.map(SPLIT_NAMES)).reindex(columns=list(SPLITS), fill_value=0)
    torn = votes.index[(votes > 0).sum(axis=1) > 1]
    if len(torn) and conflict == "error":
        raise InputError(_torn_message(votes, list(torn)))
    # idxmax takes the first of equals, and train comes first.
    split = {str(group): str(name) for group, name in votes.idxmax(axis=1).items()}
    if conflict == "train":
        split |= dict.fromkeys(torn, "train")
    return split


def _torn_message(votes: pd.DataFrame, torn: list[str]) -> str:
    shown = "; ".join(
        f"{group}: " + ", ".join(f"{split} {n}" for split, n in votes.loc[group].items() if n)
        for group in torn[:_SHOWN]
    )
    return (
        f"data.split_conflict='error': the given splits tear {len(torn)} groups of the same part or the same "
        f"bytes apart ({shown}); correct data.split_column, or set data.split_conflict to train (the whole "
        "group goes to train) or majority (to the split with most of its images)"
    )


def _fill(
    counts: pd.DataFrame,
    fixed: Mapping[str, str],
    free: list[str],
    *,
    open_splits: tuple[str, ...],
    fractions: Mapping[str, float],
    seed: int,
) -> dict[str, str]:
    """Draw a split for each free group, so that every open split gets each class."""
    placed = np.zeros((len(open_splits), counts.shape[1]))
    holders = np.zeros_like(placed)
    for number, split in enumerate(open_splits):
        groups = [group for group, where in fixed.items() if where == split]
        placed[number] = counts.loc[groups].sum(axis=0)
        holders[number] = (counts.loc[groups] > 0).sum(axis=0)
    sizes = counts.loc[free].to_numpy()
    _check_enough_groups(sizes, holders, list(counts.columns), open_splits)
    shares = np.array([fractions[split] for split in open_splits])
    wanted = np.outer(shares / shares.sum(), sizes.sum(axis=0) + placed.sum(axis=0)) - placed
    # Groups of several classes can use a class up in the wrong place; another order then mostly does.
    for attempt in range(_ATTEMPTS):
        choice = _stratify(sizes, wanted, holders, np.random.default_rng([seed, attempt]))
        lacking = _lacking(sizes, holders, choice)
        if not lacking.any():
            return {group: open_splits[number] for group, number in zip(free, choice, strict=True)}
    split, label = np.argwhere(lacking)[0]
    raise InputError(
        f"data.source: its groups mix classes so that {open_splits[split]} gets no group of class "
        f"{counts.columns[label]}; add images of that class from other parts, or give data.split_column"
    )


def _check_enough_groups(
    sizes: np.ndarray, holders: np.ndarray, labels: list[str], open_splits: tuple[str, ...]
) -> None:
    groups = (sizes > 0).sum(axis=0)
    needed = (holders == 0).sum(axis=0)
    short = [
        f"class {label} has {groups[n]} {'group' if groups[n] == 1 else 'groups'} "
        f"(of the same part or bytes) to spread: it cannot be in {needed[n]} splits"
        for n, label in enumerate(labels)
        if groups[n] < needed[n]
    ]
    if short:
        raise InputError(
            f"{'; '.join(short)} ({', '.join(open_splits)}); add images of other parts, merge the class "
            "with another one, leave it out, or give data.split_column its images in each of these splits"
        )


def _stratify(sizes: np.ndarray, wanted: np.ndarray, holders: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """(G,) split numbers. sizes: (G, C) images. wanted, holders: (S, C) images still due, groups held."""
    wanted, holders = wanted.astype(float).copy(), holders.copy()
    shuffled = generator.permutation(len(sizes))
    # Large groups first: the small ones can then even out. The sort is stable, so equals stay shuffled.
    order = shuffled[np.argsort(-sizes[shuffled].sum(axis=1), kind="stable")]
    choice = np.full(len(sizes), -1)
    for label in np.argsort((sizes > 0).sum(axis=0), kind="stable"):
        mine = order[(choice[order] < 0) & (sizes[order, label] > 0)]
        for done, group in enumerate(mine):
            lacking = holders[:, label] == 0
            # As soon as each group left is needed by a split without the class, only those may have it.
            allowed = lacking if 0 < lacking.sum() >= len(mine) - done else np.ones_like(lacking)
            choice[group] = _neediest(wanted, int(label), allowed, generator)
            wanted[choice[group]] -= sizes[group]
            holders[choice[group]] += sizes[group] > 0
    return choice


def _neediest(wanted: np.ndarray, label: int, allowed: np.ndarray, generator: np.random.Generator) -> int:
    """The allowed split that lacks the class most; of equals the one that lacks images most; else by lot."""
    candidates = np.flatnonzero(allowed)
    for need in (wanted[:, label], wanted.sum(axis=1)):
        most = need[candidates].max()
        candidates = candidates[np.isclose(need[candidates], most, atol=1e-9)]
    return int(generator.choice(candidates))


def _lacking(sizes: np.ndarray, holders: np.ndarray, choice: np.ndarray) -> np.ndarray:
    """(S, C) bool: the split has no group of the class."""
    held = holders.copy()
    np.add.at(held, choice, sizes > 0)
    return held == 0


def _check_train(counts: pd.DataFrame, split: Mapping[str, str]) -> None:
    training = [group for group, where in split.items() if where == "train"]
    absent = counts.columns[counts.loc[training].sum(axis=0) == 0]
    if len(absent):
        raise InputError(
            f"data.split_column: no image of class {', '.join(absent)} is in train, so it cannot be learned; "
            "give some of them the split train, or leave those cells empty"
        )
