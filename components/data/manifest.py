"""The manifest: one row per usable image, with all that the later stages need to know about it."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

import pandas as pd

from components.data.digests import table_sha256
from components.data.duplicates import link_groups
from components.data.listing import Listing
from components.data.pack import PackResult
from components.data.splits import SPLITS, assign_splits
from components.errors import InputError

_COLUMNS = (
    "image_id", "path", "label", "is_defect", "group", "split",
    "sha256", "width", "height", "mode", "format", "pack_index",
)  # fmt: skip
_INTEGERS = ("width", "height", "pack_index")


def build_manifest(
    listing: Listing,
    pack: PackResult,
    *,
    good_labels: Sequence[str],
    fractions: Mapping[str, float],
    seed: int,
    conflict: Literal["error", "train", "majority"],
) -> pd.DataFrame:
    """Join what was listed with what was decoded, link duplicates into groups, and assign the splits.

    good_labels: the classes that pass; empty for a problem of defect types only, whose is_defect is missing
    throughout. Returns the columns image_id, path, label, is_defect, group, split, sha256, width, height,
    mode, format, pack_index, meta_<name>; sorted by path. Raises InputError: good labels that are no class
    or all classes, and whatever the splits refuse.
    """
    table = listing.table.merge(pack.table, on="path", how="inner", validate="one_to_one")
    table = table.sort_values("path", ignore_index=True)
    _check_good_labels(good_labels, sorted(set(table["label"])))
    table["image_id"] = table["path"]
    table["is_defect"] = ~table["label"].isin(list(good_labels)) if good_labels else None
    table["group"] = link_groups(table["sha256"].tolist(), table["group"].tolist())
    table["split"] = assign_splits(table, fractions=fractions, seed=seed, conflict=conflict)
    _check_kinds(table)
    metadata = [name for name in table.columns if name.startswith("meta_")]
    return _typed(table[[*_COLUMNS, *metadata]])


def check_listing(
    listing: Listing,
    *,
    good_labels: Sequence[str],
    fractions: Mapping[str, float],
    seed: int,
    conflict: Literal["error", "train", "majority"],
) -> None:
    """Raise the InputErrors of `build_manifest` that show without reading a file: labels, groups and given splits."""
    table = listing.table.copy()
    _check_good_labels(good_labels, sorted(set(table["label"])))
    table["is_defect"] = ~table["label"].isin(list(good_labels)) if good_labels else None
    table["group"] = link_groups(table["path"].tolist(), table["group"].tolist())
    table["split"] = assign_splits(table, fractions=fractions, seed=seed, conflict=conflict)
    _check_kinds(table)


def save_manifest(manifest: pd.DataFrame, path: Path) -> None:
    """Write parquet."""
    manifest.to_parquet(path, index=False)


def load_manifest(path: Path) -> pd.DataFrame:
    """Read what `save_manifest` wrote, with the same types."""
    return _typed(pd.read_parquet(path))


def manifest_digest(manifest: pd.DataFrame) -> str:
    """sha256 in hex over all cells; the same before and after a round trip through a file."""
    return table_sha256(manifest)


def classes_of(manifest: pd.DataFrame) -> list[str]:
    """The labels, sorted: an image's class number is its label's position here."""
    return sorted(set(manifest["label"]))


def _check_good_labels(good_labels: Sequence[str], classes: list[str]) -> None:
    unknown = [label for label in good_labels if label not in classes]
    if unknown:
        raise InputError(
            f"data.good_labels={list(good_labels)}: no image has the label {', '.join(map(repr, unknown))}; "
            f"the classes are: {', '.join(classes)}"
        )
    if len(classes) > 1 and set(good_labels) == set(classes):  # one class alone: the splits say what is wrong
        raise InputError(
            f"data.good_labels={list(good_labels)} names every class there is, so nothing is a defect; "
            "leave the defect classes out of it"
        )


def _check_kinds(table: pd.DataFrame) -> None:
    """Every split needs what its stage works with: good and defective images, or at least two classes.

    Splits that are made here have both; a given one may not.
    """
    graded = table["is_defect"].notna().all()
    kinds = table["is_defect"].map({True: "defective", False: "good"}) if graded else table["label"]
    wanted = {"good", "defective"} if graded else set(kinds)
    for split in SPLITS:
        there = set(kinds[table["split"] == split])
        if len(there) < 2:
            missing = ", ".join(sorted(wanted - there))
            raise InputError(
                f"data.source: the split {split} has no image of {missing}; every split needs at least two kinds: "
                "add images to it, or leave the split column out so that the splits are made for you"
            )


def _typed(table: pd.DataFrame) -> pd.DataFrame:
    types = {name: "int64" if name in _INTEGERS else "str" for name in table.columns}
    # A plain bool wherever the question has an answer; the nullable kind only where it has none.
    types["is_defect"] = "boolean" if table["is_defect"].isna().any() else "bool"
    return table.astype(types)
