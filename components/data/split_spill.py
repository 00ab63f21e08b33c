"""Images without a split that belong to a given val, calibration or test split, and so must not be trained on.

They are of a part, or show the same thing, as an image there. Only what is tied to such an image itself counts: in a
chain of near duplicates, a ~ b ~ c with a in test, b is left out, and then nothing ties c to a. Chains of regular
products reach far, and would leave little to train on.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from components.data.fixed_splits import FREE, SPLITS, TRAIN, given_codes
from components.errors import InputError


def find_spill(table: pd.DataFrame, pairs: np.ndarray) -> np.ndarray:
    """(N,) int64: the split (a position in SPLITS) that an image without one belongs to; -1 for all others.

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
