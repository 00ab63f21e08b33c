"""Which images belong together: the same part, the very same bytes, or pictures of the same thing.

Public inspection sets hold dozens of byte-identical files across their official splits; linked images never
cross a split or fold here.
"""

from collections import Counter
from collections.abc import Sequence
from typing import Literal

import numpy as np
import pandas as pd
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from components.display import listed
from components.errors import InputError


def link_groups(
    sha256: Sequence[str] | pd.Series, group: Sequence[str | None] | pd.Series, pairs: np.ndarray
) -> np.ndarray:
    """Join images that share a user's group or the same bytes, or that are a pair, transitively.

    sha256: N hex digests. group: N names, None or nan where there is none. pairs: (P, 2) int, rows of near duplicates.
    Returns (N,) str: the alphabetically first user's group of the component, else "image:" and the first 16 digits of
    its smallest digest: names that do not depend on the order of the rows.
    """
    if not len(sha256):
        return np.array([], dtype=object)
    digest, digests = pd.factorize(pd.Series(sha256, dtype="str"), sort=True)
    own, names = pd.factorize(pd.Series(group, dtype="str"), sort=True)
    component = _components([digest, own], pairs)
    count = int(component.max()) + 1
    by_digest = np.array([f"image:{value[:16]}" for value in digests], dtype=object)
    result = by_digest[_smallest(component, digest, count)]
    first = _smallest(component[own >= 0], own[own >= 0], count)
    named = first < len(names)
    result[named] = np.asarray(names, dtype=object)[first[named]]
    return np.asarray(result[component])


def label_conflicts(table: pd.DataFrame, pairs: np.ndarray) -> pd.DataFrame:
    """Sets of images that show the same thing under different labels.

    table: columns image_id, path, sha256, label, group, pack_index. pairs: (P, 2) int, rows of near duplicates. The
    user's own groups do not count: a part has good views beside bad ones; nor do other places of the same image.

    Returns one row per set, sorted: group; image_ids, labels and pack_index, tuples in the same order; kind,
    "identical" where even identical bytes are labelled differently, else "near duplicate".
    """
    digest, label = (pd.factorize(table[name], sort=True)[0] for name in ("sha256", "label"))
    same = pd.factorize(table["sha256"] + _places(table))[0]
    pairs = pairs[digest[pairs[:, 0]] != digest[pairs[:, 1]]]
    component = _components([same], pairs)
    torn = _varies(component, label)
    rows = table[["group", "image_id", "label", "pack_index"]].assign(
        component=component, identical=_varies(same, label)
    )
    found = []
    for _, images in rows[torn].sort_values("image_id").groupby("component"):
        kind = "identical" if images["identical"].any() else "near duplicate"
        columns = (tuple(images[name].tolist()) for name in ("image_id", "label", "pack_index"))
        found.append((images["group"].iloc[0], *columns, kind))
    conflicts = pd.DataFrame(found, columns=["group", "image_ids", "labels", "pack_index", "kind"])
    return conflicts.sort_values(["group", "image_ids"], ignore_index=True)


def apply_conflict_policy(
    table: pd.DataFrame, conflicts: pd.DataFrame, policy: Literal["keep", "drop", "stop"]
) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """The table without what is to be dropped, and what was done, in words.

    Raises InputError: conflicts under "stop", a class that "drop" leaves without images.
    """
    if not len(conflicts):
        return table, ()
    images = {image for ids in conflicts["image_ids"] for image in ids}
    sets = "1 set" if len(conflicts) == 1 else f"{len(conflicts)} sets"
    carry = "carries" if len(conflicts) == 1 else "carry"
    found = f"{sets} of images that show the same thing {carry} different labels ({len(images)} images)"
    if policy == "stop":
        raise InputError(
            f"data.label_conflicts='stop': {found}: {_conflicts_text(conflicts)}; correct their labels, or set "
            "data.label_conflicts to keep (train on them as they are) or drop (leave all of them out)"
        )
    if policy == "keep":
        return table, (f"{found}; they were kept as they are.",)
    kept = table[~table["image_id"].isin(images)].reset_index(drop=True)
    lost = sorted(set(table["label"]) - set(kept["label"]))
    if lost:
        raise InputError(
            f"data.label_conflicts='drop' leaves no image of class {', '.join(lost)}: {found}: "
            f"{_conflicts_text(conflicts)}; correct their labels, or set data.label_conflicts=keep"
        )
    return kept, (f"{found}; all of them were dropped.",)


def largest_groups(table: pd.DataFrame, own_group: pd.Series, pairs: np.ndarray, *, count: int) -> pd.DataFrame:
    """The largest groups of two files or more, for the report: columns group, images, labels, reason.

    table: columns path, sha256, label, group. own_group: (N,) the user's group of each row, or missing. pairs: (P, 2)
    int, rows of near duplicates. images: how many files. labels: "good 12, crack 3", tiles counted one by one. reason:
    what holds the group together, of part (the user's group), identical, and near duplicates.
    """
    code, names = pd.factorize(table["group"], sort=True)
    sizes = np.bincount(code[~table["path"].duplicated()])
    largest = np.argsort(-sizes, kind="stable")[:count]
    path, own, rows = table["path"].to_numpy(), own_group.to_numpy(), []
    for number in largest[sizes[largest] > 1]:
        inside = np.flatnonzero(code == number)
        images = table.iloc[inside].assign(own=own[inside])
        near = pairs[code[pairs[:, 0]] == number]
        across = bool((path[near[:, 0]] != path[near[:, 1]]).any())
        labels = sorted(Counter(images["label"]).items(), key=lambda item: (-item[1], item[0]))
        counts = ", ".join(f"{label} {held}" for label, held in labels)
        files = images.drop_duplicates("path")
        reasons = {
            "part": files["own"].dropna().duplicated().any(),
            "identical": files["sha256"].duplicated().any(),
            "near duplicates": across,
        }
        held_by = ", ".join(reason for reason, holds in reasons.items() if holds)
        rows.append((names[number], int(sizes[number]), counts, held_by))
    return pd.DataFrame(rows, columns=["group", "images", "labels", "reason"])


def _places(table: pd.DataFrame) -> pd.Series:
    """What a tile's name has beyond its image's path: identical files show the same at the same place alone."""
    pairs = zip(table["image_id"].tolist(), table["path"].tolist(), strict=True)
    return pd.Series([image[len(path) :] for image, path in pairs], index=table.index, dtype="str")


def _components(codes: Sequence[np.ndarray], pairs: np.ndarray) -> np.ndarray:
    """(N,) component numbers of the graph of images, with an edge for each shared code (below 0: none) and pair."""
    count = nodes = len(codes[0])
    rows, columns = [pairs[:, 0]], [pairs[:, 1]]
    for values in codes:
        has = np.flatnonzero(values >= 0)
        rows.append(has)
        columns.append(nodes + values[has])
        nodes += int(values.max(initial=-1)) + 1
    places = (np.concatenate(rows), np.concatenate(columns))
    graph = coo_array((np.ones(len(places[0]), dtype=np.int8), places), shape=(nodes, nodes))
    return np.asarray(connected_components(graph, directed=False)[1][:count])


def _smallest(component: np.ndarray, codes: np.ndarray, count: int) -> np.ndarray:
    """(count,) the smallest code of each component; a number larger than any where it has none."""
    smallest = np.full(count, np.iinfo(np.int64).max)
    np.minimum.at(smallest, component, codes)
    return smallest


def _varies(code: np.ndarray, label: np.ndarray) -> np.ndarray:
    """(N,) bool: not all rows with this row's code have the same label."""
    count = int(code.max(initial=-1)) + 1
    return np.asarray((_smallest(code, label, count) != -_smallest(code, -label, count))[code])


def _conflicts_text(conflicts: pd.DataFrame) -> str:
    sets = zip(conflicts["image_ids"], conflicts["labels"], strict=True)
    texts = [[f"{image} ({label})" for image, label in zip(*images, strict=True)] for images in sets]
    return listed([listed(text) for text in texts], separator="; ")
