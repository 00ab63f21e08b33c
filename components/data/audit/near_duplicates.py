"""Images that show the very same thing, told from images that only look alike.

Candidates are the nearest neighbours of fixed descriptors; each is confirmed by the correlation of its aligned
thumbnails beyond what either image reaches with unrelated ones (see alignment.py). On 2,624 solar cells a fixed
correlation of 0.9 pairs thousands that share no more than their bars; beyond the background, the pairs are cells
that were imaged twice, cells cut from the same block of silicon, and a few with the same printing faults.
"""

from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from components.data.audit.alignment import Thumbnails, align, excess, find_references, measure_backgrounds
from components.data.audit.candidates import Search, propose_pairs, search_images
from components.data.audit.chains import break_chains, component_sizes
from components.data.audit.descriptors import SYMMETRIES
from components.data.audit.neighbours import nearest

_PROMISING = 0.5  # of descriptors, beyond their background; what is confirmed on real sets reaches 0.75
_FLOOR, _CEILING = 0.9, 0.97  # of the threshold
_QUANTILE = 0.995  # of the background, below which nothing is confirmed
_ASKED, _NEAR, _FAR = 1000, 9, 16  # images that are asked for the background, and the ranks of the neighbours
_LARGEST, _LARGEST_SHARE = 200, 0.02  # images in a group; a larger one is a chain of look-alikes


@dataclass(frozen=True)
class NearDuplicates:
    """The pairs of near duplicates and how they were found.

    pairs: the confirmed ones, columns first, second (int64 row numbers, first < second), correlation (float32,
    beyond the background), symmetry (str: what the first has undergone in the second, a name of SYMMETRIES).
    threshold: the correlation, beyond the background, that a pair had to reach. background: (M,) float32 in
    [−1, 1], what a sample of images reach with their 9th to 16th nearest. candidates: pairs proposed. cut: pairs
    dropped by the guard against chaining. note: all this in words. search: for the next run.
    """

    pairs: pd.DataFrame
    threshold: float
    background: np.ndarray
    candidates: int
    cut: int
    note: str
    search: Search


def find_near_duplicates(
    read: Thumbnails, count: int, *, symmetric: bool, known: Search | None, earlier: np.ndarray | None
) -> NearDuplicates:
    """Find the pairs among `count` images whose thumbnails show the same thing.

    read: (start, stop) -> (n, 64, 64) uint8 grey. symmetric: also where one is mirrored or turned by quarters.
    known and earlier: the search of an earlier run, and (count,) int, the row that each image had in it, −1 for
    a new or changed one; None for a first run. A flat thumbnail is a near duplicate of none.
    """
    search = search_images(read, count, symmetric=symmetric, known=known, earlier=earlier)
    proposed = propose_pairs(search)
    search, beyond = _confirm(read, search, proposed)
    search, background = _sample_background(read, search)
    threshold = _FLOOR
    if len(background):
        threshold = min(max(_FLOOR, float(np.quantile(background, _QUANTILE))), _CEILING)
    pairs = proposed.assign(correlation=beyond)[beyond >= threshold]
    limit = max(_LARGEST, int(_LARGEST_SHARE * count))
    stay = break_chains(
        pairs["first"].to_numpy(), pairs["second"].to_numpy(), pairs["correlation"].to_numpy(), largest=limit
    )
    kept = pairs[stay].reset_index(drop=True)
    names = np.array([symmetry.name for symmetry in SYMMETRIES], dtype=object)[kept["symmetry"].to_numpy()]
    return NearDuplicates(
        pairs=kept[["first", "second", "correlation"]].assign(symmetry=names),
        threshold=threshold,
        background=np.clip(background, -1, 1),
        candidates=len(proposed),
        cut=int((~stay).sum()),
        note=_note(kept, search, proposed=len(proposed), threshold=threshold, cut=int((~stay).sum()), limit=limit),
        search=search,
    )


def _confirm(read: Thumbnails, search: Search, proposed: pd.DataFrame) -> tuple[Search, np.ndarray]:
    """(P,) float32, the correlation of each proposed pair beyond its background; nan for those not worth aligning."""
    search = _look_around(search, proposed)
    ends = proposed[["first", "second"]].to_numpy()
    promising = excess(proposed["described"].to_numpy(), search.looks[ends].max(axis=1)) >= _PROMISING
    keys = ["first", "second", "symmetry"]
    measured = pd.DataFrame(search.pairs, columns=keys).astype(np.int64).assign(aligned=search.aligned)
    pairs = proposed[promising].merge(measured, on=keys, how="left")
    missing = pairs["aligned"].isna().to_numpy()
    aligned = pairs["aligned"].to_numpy(dtype=np.float32, copy=True)
    aligned[missing] = align(read, pairs.loc[missing, keys].itertuples(index=False, name=None))
    search = replace(search, pairs=pairs[keys].to_numpy(dtype=np.int32), aligned=aligned)
    search = _fill_backgrounds(read, search, np.unique(ends[promising]))
    beyond = np.full(len(proposed), np.nan, dtype=np.float32)
    beyond[promising] = excess(aligned, search.backgrounds[ends[promising]].max(axis=1))
    return search, beyond


def _look_around(search: Search, proposed: pd.DataFrame) -> Search:
    """Fill in what the descriptors of all images in proposed pairs reach with unrelated ones."""
    rows = np.unique(proposed[["first", "second"]].to_numpy())
    rows = rows[np.isnan(search.looks[rows])]
    looks = search.looks.copy()
    looks[rows] = find_references(search.descriptors, rows)[1]
    return replace(search, looks=looks)


def _fill_backgrounds(read: Thumbnails, search: Search, rows: np.ndarray) -> Search:
    """Measure what the thumbnails of the given rows reach with unrelated ones, where that is not yet known."""
    rows = rows[np.isnan(search.backgrounds[rows])]
    backgrounds = search.backgrounds.copy()
    references, _ = find_references(search.descriptors, rows)
    backgrounds[rows] = measure_backgrounds(read, rows, references)
    return replace(search, backgrounds=backgrounds)


def _sample_background(read: Thumbnails, search: Search) -> tuple[Search, np.ndarray]:
    """(M,) float32: what an even sample of images reach with their 9th to 16th nearest, beyond the background."""
    count = len(search.descriptors)
    rows = np.unique(np.linspace(0, count - 1, min(count, _ASKED)).round().astype(np.int64))
    if count <= _FAR or not len(rows):
        return search, np.zeros(0, dtype=np.float32)
    search = _fill_backgrounds(read, search, rows)
    # Each row finds itself first; a flat one finds anything.
    others = nearest(search.descriptors, search.descriptors[rows], k=_FAR + 1)[0][:, _NEAR:]
    pairs = ((int(row), int(other), 0) for row, line in zip(rows, others, strict=True) for other in line)
    aligned = align(read, pairs).reshape(others.shape)
    return search, excess(aligned, search.backgrounds[rows][:, None]).ravel()


def _note(pairs: pd.DataFrame, search: Search, *, proposed: int, threshold: float, cut: int, limit: int) -> str:
    sizes = component_sizes(pairs["first"].to_numpy(), pairs["second"].to_numpy())
    parts = [f"Of {proposed:,} pairs of near neighbours, {len(pairs):,} show the same thing"]
    if len(sizes):
        parts[0] += f": {sizes.sum():,} images in {len(sizes):,} groups, the largest of {sizes[0]:,}"
    parts.append(
        f"a pair had to share {threshold:.3f} of the detail that sets its images apart from others of their look"
    )
    alike = int((search.backgrounds >= _FLOOR).sum())
    if alike:
        parts.append(
            f"{alike:,} of the images asked have dozens of look-alikes, among which only close copies are told"
        )
    if cut:
        parts.append(f"{cut:,} pairs were dropped, as they chained more than {limit:,} images of a like look together")
    return ". ".join(part[0].upper() + part[1:] for part in parts) + "."
