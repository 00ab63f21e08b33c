"""Where groups have to go before any is drawn: the splits that the user gives, and those of an earlier manifest."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd

from components.display import counted, listed
from components.errors import InputError

SPLITS = ("train", "val", "calibration", "test")
Design = Literal["cross_fit", "hold_out"]
SPLITS_OF: dict[str, tuple[str, ...]] = {"cross_fit": ("train", "test"), "hold_out": SPLITS}
"""The splits of each design: with cross-fitting, folds of train serve as val and as calibration."""
SPLIT_NAMES = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "calibration": "calibration",
    "test": "test",
}

TRAIN, FREE = 0, -1
_SHOWN = 5


@dataclass(frozen=True)
class FixedSplits:
    """split: (G,) int64, a position in SPLITS, -1 for groups that are to be drawn.

    open_splits: positions of the splits that groups may be drawn for. notes: what became of earlier splits, a sentence
    each. shortages: where given splits could not be kept as they are, likewise.
    """

    split: np.ndarray
    open_splits: tuple[int, ...]
    notes: tuple[str, ...]
    shortages: tuple[str, ...]


def fix_splits(
    table: pd.DataFrame,
    group: np.ndarray,
    names: pd.Index,
    *,
    conflict: Literal["error", "train", "majority"],
    earlier: Mapping[str, str],
    design: Design,
) -> FixedSplits:
    """Settle the groups with a given or an earlier split.

    table: N rows with split (given, or missing), and sha256 where there are earlier ones. group: (N,) int64, positions
    in names. conflict: what to do with a group that the given splits tear apart. earlier: sha256 → split. design: a
    split that it does not have counts as train.

    A given split goes before an earlier one, but what was carved out of a given train earlier stays so. A group that
    joins images of different earlier splits goes to train. Open are train and the splits that nothing was given for;
    when every row is given, what is missing of them is carved out of train, never out of test. Raises InputError:
    unknown names, torn groups.
    """
    used = [number for number, name in enumerate(SPLITS) if name in SPLITS_OF[design]]
    given, shortages = _given_splits(_within(given_codes(table["split"]), used), group, names, conflict)
    before = _within(
        _split_codes([earlier.get(digest) for digest in table["sha256"]] if earlier else [None] * len(table)), used
    )
    votes = _count_votes(group, before)
    # What has been trained on must not be tested on, while what has been tested on may be trained on.
    known = _most_voted(votes, torn_to_train=True)
    open_splits = tuple(split for split in used if split == TRAIN or split not in given)
    stays = (known != FREE) & ((given == FREE) | ((given == TRAIN) & np.isin(known, open_splits)))
    fixed = np.where(stays, known, given)
    notes = _earlier_notes(group, names, before, votes, stays, fixed) if earlier else ()
    if len(open_splits) > 1 and (given != FREE).all():
        fixed[(given == TRAIN) & ~stays] = FREE
    return FixedSplits(fixed, open_splits, notes, shortages)


def given_codes(split: pd.Series) -> np.ndarray:
    """(N,) int64: the position in SPLITS of each given split, -1 where there is none. Raises InputError: unknown."""
    cells = split.astype("str")
    codes = _split_codes(cells.str.strip().str.lower().map(SPLIT_NAMES))
    unknown = sorted(set(cells[cells.notna() & (codes == FREE)]))
    if unknown:
        raise InputError(
            f"data.split_column: unknown splits {', '.join(map(repr, unknown[:_SHOWN]))}; "
            f"use {', '.join(SPLIT_NAMES)}, or leave the cell empty"
        )
    return codes


def _within(codes: np.ndarray, used: Sequence[int]) -> np.ndarray:
    """(N,) codes, those of splits that are not used as train."""
    return np.where((codes == FREE) | np.isin(codes, used), codes, TRAIN)


def find_spill(table: pd.DataFrame, pairs: np.ndarray) -> np.ndarray:
    """(N,) int64: the split (a position in SPLITS) that an image without one belongs to; -1 for all others.

    Images of a part, or that show the same thing, as an image in a given val, calibration or test split must not be
    trained on. Only what is tied to such an image itself counts: in a chain of near duplicates, a ~ b ~ c with a in
    test, b is left out, and then nothing ties c to a. Chains of regular products reach far.

    table: N rows with sha256, part (the user's group, or missing) and split (given, or missing). pairs: (P, 2) int,
    rows of near duplicates. Of several splits the last one counts. Raises InputError for unknown splits.
    """
    given = given_codes(table["split"])
    held = given > TRAIN
    digest, digests = pd.factorize(table["sha256"])
    part, parts = pd.factorize(table["part"])
    of_digest, of_part = np.full(len(digests), FREE), np.full(len(parts), FREE)
    np.maximum.at(of_digest, digest[held], given[held])
    np.maximum.at(of_part, part[held & (part >= 0)], given[held & (part >= 0)])
    found = of_digest.copy()
    for one, other in ((0, 1), (1, 0)):
        np.maximum.at(found, digest[pairs[:, one]], of_digest[digest[pairs[:, other]]])
    # The last place stands for "of no part", which -1 points to.
    belongs = np.maximum(found[digest], np.append(of_part, FREE)[part])
    return np.where(given == FREE, belongs, FREE)


def spill_note(table: pd.DataFrame, spill: np.ndarray) -> str:
    """What is left out, in a sentence. table: N rows with path. spill: (N,) of `find_spill`, not all -1."""
    files = table.assign(spill=spill)[spill != FREE].drop_duplicates("path")
    counts = files["spill"].value_counts()
    by_split = ", ".join(f"{name} {counts[number]}" for number, name in enumerate(SPLITS) if number in counts)
    images = "1 image" if len(files) == 1 else f"{len(files)} images"
    return (
        f"{images} without a split left out: each shows the same thing, or shares a part, with images of a given split "
        f"({by_split}), the first: {files['path'].iloc[0]}; data.split_spill=move puts such images into that split."
    )


def check_left(table: pd.DataFrame, kept: np.ndarray) -> None:
    """Raise InputError for a class whose last images to train on would be left out. kept: (N,) bool."""
    to_train = given_codes(table["split"]) <= TRAIN
    lost = sorted(set(table.loc[to_train, "label"]) - set(table.loc[to_train & kept, "label"]))
    if lost:
        raise InputError(
            f"data.split_spill='drop': all images without a split of class {', '.join(lost)} show the same thing or "
            "share a part with images of a given val, calibration or test split, so none is left to train on; add "
            "images of other parts, or correct data.split_column"
        )


def _given_splits(
    codes: np.ndarray, group: np.ndarray, names: pd.Index, conflict: Literal["error", "train", "majority"]
) -> tuple[np.ndarray, tuple[str, ...]]:
    """(G,) int64: the given split of each group, -1 where there is none; and what became of images, in words.

    Raises InputError: groups that are torn apart.
    """
    votes = _count_votes(group, codes)
    torn = _torn(votes)
    if conflict == "error" and torn.any():
        raise InputError(
            f"data.split_conflict='error': the given splits tear {torn.sum()} groups of the same part or the same "
            f"picture apart ({_votes_text(names, votes, torn)}); correct data.split_column, or set data.split_conflict "
            "to train (the whole group goes to train) or majority (to the split with most of its images)"
        )
    given = _most_voted(votes, torn_to_train=conflict == "train")
    notes = _followers_notes(codes, given[group])
    if not torn.any():
        return given, notes
    moved = (votes.sum(axis=1) - votes[np.arange(len(votes)), given])[torn].sum()
    told = (
        f"The given splits tear {counted(int(torn.sum()), 'group')} apart: {moved} images went to another split than "
        f"the given one, as data.split_conflict={conflict} says."
    )
    return given, (told, *notes)


def _followers_notes(codes: np.ndarray, settled: np.ndarray) -> tuple[str, ...]:
    """codes, settled: (N,) the given split of each image, and that of its group."""
    return tuple(
        f"{SPLITS[split]} has {(settled == split).sum()} images, and only {(codes == split).sum()} were given: "
        f"{count} without a split show the same thing or share a part with them; data.split_spill=drop leaves such "
        "images out."
        for split in range(TRAIN + 1, len(SPLITS))
        if (count := int(((codes == FREE) & (settled == split)).sum()))
    )


def _most_voted(votes: np.ndarray, *, torn_to_train: bool) -> np.ndarray:
    """(G,) int64: the split with most of a group's votes, -1 without any."""
    # argmax takes the first of equals, and train comes first.
    chosen = np.where(votes.any(axis=1), votes.argmax(axis=1), FREE)
    return np.where(_torn(votes), TRAIN, chosen) if torn_to_train else chosen


def _torn(votes: np.ndarray) -> np.ndarray:
    return np.asarray((votes > 0).sum(axis=1) > 1)


def _earlier_notes(
    group: np.ndarray, names: pd.Index, before: np.ndarray, votes: np.ndarray, stays: np.ndarray, fixed: np.ndarray
) -> tuple[str, ...]:
    """before: (N,) earlier split of each image. votes: (G, S) how many of a group's images had which."""
    old = before != FREE
    if not old.any():
        return ("None of the images of data.earlier_manifest is here: all splits were drawn anew.",)
    kept = int((fixed[group] == before)[old].sum())
    notes = [f"{kept} images keep the split of data.earlier_manifest; {(~old).sum()} are new."]
    merged = stays & _torn(votes)
    if merged.any():
        notes.append(
            f"{merged.sum()} {'group joins' if merged.sum() == 1 else 'groups join'} images of different earlier "
            "splits and went to train whole, so that nothing that was trained on is tested on: "
            f"{_votes_text(names, votes, merged)}."
        )
    overruled = ~stays & (votes.sum(axis=1) > votes[np.arange(len(votes)), fixed])
    if overruled.any():
        notes.append(
            f"{overruled.sum()} {'group has' if overruled.sum() == 1 else 'groups have'} another split in "
            "data.split_column than in data.earlier_manifest, and the given one stands; before: "
            f"{_votes_text(names, votes, overruled)}."
        )
    return tuple(notes)


def _split_codes(splits: Sequence[str | None] | pd.Series) -> np.ndarray:
    return pd.Index(SPLITS).get_indexer(pd.Index(splits, dtype=object))


def _count_votes(group: np.ndarray, codes: np.ndarray) -> np.ndarray:
    """(G, S) int64: how many images of each group have which split; -1 counts nowhere."""
    votes = np.zeros((group.max() + 1, len(SPLITS)), dtype=np.int64)
    np.add.at(votes, (group[codes != FREE], codes[codes != FREE]), 1)
    return votes


def _votes_text(names: pd.Index, votes: np.ndarray, which: np.ndarray) -> str:
    texts = [
        f"{names[n]}: " + ", ".join(f"{split} {count}" for split, count in zip(SPLITS, votes[n], strict=True) if count)
        for n in np.flatnonzero(which).tolist()
    ]
    return listed(texts, separator="; ")
