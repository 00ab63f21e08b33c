"""The manifest: one row per usable image or tile, with all that the later stages need to know about it."""

import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd

from components.data import groups
from components.data.file_index import table_sha256
from components.data.fixed_splits import SPLITS, SPLITS_OF, Design, check_left, find_spill, spill_note
from components.data.lookup import local_place
from components.data.names import spelling, told_apart
from components.data.sources.listing import Listing
from components.data.splits import SplitResult, assign_folds, assign_splits, choose_design
from components.display import counted, listed
from components.errors import InputError

_COLUMNS = (
    "image_id", "path", "label", "is_defect", "group", "split", "fold",
    "sha256", "width", "height", "mode", "format", "pack_index",
)  # fmt: skip
_INTEGERS = ("fold", "width", "height", "pack_index")
_FROM_FILES = ["path", "box", "sha256", "width", "height", "mode", "format", "defect_area", "pack_index"]
_GROUPS_SHOWN = 10


@dataclass(frozen=True, kw_only=True)
class SplitRules:
    """How images become good or defective, and how they are split.

    good_labels: the classes that pass; empty for a problem of defect types only. fractions, seed, conflict, strata: see
    `assign_splits`. design: see `choose_design`. spill: what to do with images without a split that belong to a given
    one (see `find_spill`).
    """

    good_labels: Sequence[str]
    fractions: Mapping[str, float]
    seed: int
    conflict: Literal["error", "train", "majority"]
    spill: Literal["drop", "move"]
    strata: Sequence[str]
    design: Design | Literal["auto"]


@dataclass(frozen=True)
class Manifest:
    """table: see `build_manifest`. conflicts: see `groups.label_conflicts`. largest_groups: see there, at most ten.

    left_out: image_id, label and pack_index of the images that belong to a given split and were left out for it.
    notes: what was decided on the way and why, a sentence each. shortages: what could not be done as asked, or was
    left out, likewise.
    """

    table: pd.DataFrame
    conflicts: pd.DataFrame
    largest_groups: pd.DataFrame
    left_out: pd.DataFrame
    notes: tuple[str, ...]
    shortages: tuple[str, ...]


def build_manifest(
    listing: Listing,
    files_table: pd.DataFrame,
    *,
    pairs: np.ndarray,
    rules: SplitRules,
    num_folds: int,
    earlier: Mapping[str, str],
    label_conflicts: Literal["keep", "drop", "stop"],
) -> Manifest:
    """Join what was listed with what was read, link duplicates into groups, and assign splits and folds.

    files_table: one row per framed image: path, box ("left,top,right,bottom"; empty throughout where images are not
    tiled), sha256, width, height, mode, format, defect_area (share of the box that the mask covers, nan without one),
    pack_index. pairs: (P, 2) int, pack indices of near duplicates. earlier: see `assign_splits`.

    The table has the columns image_id (the path, with #box for a tile), path, label, is_defect (missing throughout
    without good labels), group, split, fold (-1 where there is none), sha256, width, height, mode, format,
    pack_index, mask where the source has masks, confidence (float in [0, 1], that the label is right) where it has
    those, and meta_<name>; sorted by path and image_id. Raises InputError: good
    labels that are no class or all classes, tiles of a defective image without a mask, label conflicts under "stop",
    and whatever the splits and folds refuse.
    """
    table = _join(listing.table, files_table)
    table, notes = _label_tiles(table, rules.good_labels)
    _check_good_labels(rules.good_labels, set(table["label"]))
    table["part"] = table["group"]
    rows = _pair_rows(table, pairs)
    table["group"] = groups.link_groups(table["sha256"], table["group"], rows)
    conflicts = groups.label_conflicts(table, rows)
    table, done = groups.apply_conflict_policy(table, conflicts, label_conflicts)
    table, left_out, spilled = _leave_out(table, pairs, rules.spill)
    design = _design(table, rules)
    splits = _split(table, rules, design, earlier, spilled)
    folds = assign_folds(table, num_folds=num_folds, design=design, seed=rules.seed)
    table["fold"] = folds.fold
    masks = ["mask"] if table["mask"].notna().any() else []
    confidence = [name for name in table.columns if name == "confidence"]
    metadata = [name for name in table.columns if name.startswith("meta_")]
    return Manifest(
        table=_typed(table[[*_COLUMNS, *masks, *confidence, *metadata]]),
        conflicts=conflicts,
        largest_groups=groups.largest_groups(table, table["part"], _pair_rows(table, pairs), count=_GROUPS_SHOWN),
        left_out=left_out[["image_id", "label", "pack_index"]],
        notes=(*notes, *done, *splits.notes, *_confidence_notes(table)),
        shortages=(*spilled, *splits.shortages, *folds.notes),
    )


def check_listing(listing: Listing, rules: SplitRules, *, tiled: bool) -> None:
    """Raise the InputErrors of `build_manifest` that show without reading a file: labels, groups and given splits.

    tiled: images will be cut into tiles, so that each may have a good part.
    """
    table = listing.table.astype("str")
    if tiled:
        table = pd.concat([table, table.assign(label=rules.good_labels[0])], ignore_index=True)
    _check_good_labels(rules.good_labels, set(table["label"]))
    # As if no two files had the same bytes.
    table["sha256"] = [hashlib.sha256(path.encode()).hexdigest() for path in table["path"]]
    table["pack_index"], table["part"] = np.arange(len(table)), table["group"]
    no_pairs = np.zeros((0, 2), dtype=np.int64)
    table["group"] = groups.link_groups(table["sha256"], table["part"], no_pairs)
    table, _, spilled = _leave_out(table, no_pairs, rules.spill)
    _split(table, rules, _design(table, rules), {}, spilled)


def load_earlier(address: str) -> dict[str, str]:
    """sha256 → split, from an earlier manifest: a path, or an address that fsspec knows.

    Raises InputError: not there, no such table, a split that is none, an image in two splits.
    """
    key = f"data.earlier_manifest={address!r}"
    place = address if "://" in address else Path(os.path.expanduser(local_place(address)))  # noqa: PTH111
    try:
        table = pd.read_parquet(place, columns=["sha256", "split"]).drop_duplicates()
    except FileNotFoundError as error:
        raise InputError(f"{key} is not there; give the manifest.parquet of an earlier run, or null") from error
    except Exception as error:  # pyarrow's own, and remote drivers raise what they like
        raise InputError(
            f"{key} cannot be read as a manifest ({type(error).__name__}: {error}); give the manifest.parquet of an "
            "earlier run, or null"
        ) from error
    faulty = ~table["split"].isin(SPLITS) | table["sha256"].isna() | table["sha256"].duplicated()
    if faulty.any():
        first = table[faulty].iloc[0]
        raise InputError(
            f"{key}: {faulty.sum()} images have no split, an unknown one, or two (the first: {first['sha256']}, split "
            f"{first['split']}); give the manifest.parquet of an earlier run as it was written"
        )
    return dict(zip(table["sha256"], table["split"], strict=True))


def load_manifest(path: Path) -> pd.DataFrame:
    """Read manifest.parquet, with the types of `build_manifest`."""
    return _typed(pd.read_parquet(path))


def manifest_digest(manifest: pd.DataFrame) -> str:
    """sha256 in hex over all cells; the same before and after a round trip through a file, and on any machine.

    Where an image lies in the pack is left out: a pack that has grown holds the same images in another order.
    """
    return table_sha256(manifest.drop(columns="pack_index"))


def classes_of(manifest: pd.DataFrame) -> list[str]:
    """The labels, sorted: an image's class number is its label's position here."""
    return sorted(set(manifest["label"]))


def _join(listed: pd.DataFrame, files_table: pd.DataFrame) -> pd.DataFrame:
    """One row per framed image, as text that takes little memory."""
    texts = dict.fromkeys(("path", "box", "sha256", "mode", "format"), "str")
    table = listed.astype("str").merge(files_table[_FROM_FILES].astype(texts), on="path", validate="one_to_many")
    tile = table["box"] != ""
    table["image_id"] = table["path"].where(~tile, table["path"] + "#" + table["box"])
    return table.sort_values(["path", "image_id"], ignore_index=True)


def _label_tiles(table: pd.DataFrame, good_labels: Sequence[str]) -> tuple[pd.DataFrame, list[str]]:
    """Give the tiles of a defective image that its mask leaves free the first of the good labels."""
    defective = ~table["label"].isin(list(good_labels))
    if not (table["box"] != "").any() or not defective.any():
        return table, []
    unmasked = table.loc[defective & table["defect_area"].isna(), "path"].unique()
    if len(unmasked):
        raise InputError(
            f"data.tile_size: no mask for {len(unmasked)} defective images (the first: {unmasked[0]}), so which of "
            "their tiles show the defect is unknown; give their masks with data.mask_column, use the layout mvtec:, or "
            "set data.tile_size to null"
        )
    hit = table["defect_area"] > 0
    shown = hit.groupby(table["path"]).transform("any")
    spared = table.loc[defective & ~shown, "path"].unique()
    notes = []
    if len(spared):
        notes.append(
            f"No tile shows the defect of {len(spared)} defective images, as their masks are black or lie outside "
            f"data.region (the first: {spared[0]}): all their tiles count as {good_labels[0]}."
        )
    relabelled = {"label": table["label"].mask(defective & ~hit, good_labels[0])}
    if "confidence" in table:  # a tile without the doubtful spot is good whatever that is
        relabelled["confidence"] = table["confidence"].mask(defective & ~hit, "1.0")
    return table.assign(**relabelled), notes


def _confidence_notes(table: pd.DataFrame) -> list[str]:
    if "confidence" not in table:
        return []
    confidence = table["confidence"].astype("float64")
    return [
        f"{counted(int((confidence < 1).sum()), 'image')} of {len(table):,} with a confidence below 1 in the label (on "
        f"average over all {confidence.mean():.3f}): networks learn from soft targets, and are judged by the labels."
    ]


def _leave_out(
    table: pd.DataFrame, pairs: np.ndarray, spill: Literal["drop", "move"]
) -> tuple[pd.DataFrame, pd.DataFrame, tuple[str, ...]]:
    """The table without the images that belong to a given split, these images, and what was done, in words."""
    found = find_spill(table, _pair_rows(table, pairs)) if spill == "drop" else np.full(len(table), -1)
    kept = found < 0
    if kept.all():
        return table, table[~kept], ()
    check_left(table, kept)
    left = table[kept].reset_index(drop=True)
    left["group"] = groups.link_groups(left["sha256"], left["part"], _pair_rows(left, pairs))
    return left, table[~kept], (spill_note(table, found),)


def _design(table: pd.DataFrame, rules: SplitRules) -> Design:
    if rules.design == "auto":
        files = table.drop_duplicates("path")  # not tiles
        return choose_design(files["split"], test_fraction=rules.fractions["test"])
    return rules.design


def _split(
    table: pd.DataFrame, rules: SplitRules, design: Design, earlier: Mapping[str, str], spilled: tuple[str, ...]
) -> SplitResult:
    """Add is_defect and split to the table. spilled: what was left out before, which may be why too little is there."""
    table["is_defect"] = ~table["label"].isin(list(rules.good_labels)) if rules.good_labels else None
    try:
        splits = assign_splits(
            table,
            design=design,
            fractions=rules.fractions,
            seed=rules.seed,
            conflict=rules.conflict,
            strata=rules.strata,
            earlier=earlier,
        )
    except InputError as error:
        raise InputError("; before that, ".join([str(error), *spilled])) from error
    table["split"] = splits.split
    _check_kinds(table, SPLITS_OF[design])
    return splits


def _pair_rows(table: pd.DataFrame, pairs: np.ndarray) -> np.ndarray:
    """(Q, 2) int64 rows of the table for pairs of pack indices; those that are not in the table are left out."""
    packed, first = np.unique(table["pack_index"], return_index=True)  # identical files share a place in the pack
    places = pd.Index(packed).get_indexer(np.ravel(pairs)).reshape(-1, 2)
    return np.asarray(first[places[(places >= 0).all(axis=1)]])


def _check_good_labels(good_labels: Sequence[str], classes: set[str]) -> None:
    unknown = [label for label in good_labels if label not in classes]
    if unknown:
        raise InputError(
            f"data.good_labels={list(good_labels)}: no image has the label {', '.join(map(repr, unknown))}; "
            f"the classes are: {listed(sorted(classes), most=20)}{_as_meant(unknown, classes)}"
        )
    if len(classes) > 1 and set(good_labels) == classes:  # one class alone: the splits say what is wrong
        raise InputError(
            f"data.good_labels={list(good_labels)} names every class there is, so nothing is a defect; "
            "leave the defect classes out of it"
        )


def _as_meant(labels: Sequence[str], classes: set[str]) -> str:
    """How to write labels that name a class in another form: Good for good, True for true, 0.0 for 0."""
    pairs = [(name, label) for label in labels for name in sorted(classes)]
    alike = [told_apart(name, label)[0] for name, label in pairs if spelling(name) == spelling(label)]
    if alike:
        return f"; {', '.join(alike)} is spelt otherwise: write it so, or set data.label_spelling to merge"
    equal = [name for name, label in pairs if _number(name) == _number(label) is not None]
    return f"; write {', '.join(map(repr, equal))}, quoted" if equal else ""


def _number(label: str) -> float | None:
    try:
        return float(label)
    except ValueError:
        return None


def _check_kinds(table: pd.DataFrame, used: Sequence[str]) -> None:
    """Every split needs what its stage works with: good and defective images, or at least two classes.

    Splits that are made here have both; a given one may not.
    """
    graded = table["is_defect"].notna().all()
    kinds = table["is_defect"].map({True: "defective", False: "good"}) if graded else table["label"]
    wanted = {"good", "defective"} if graded else set(kinds)
    for split in used:
        there = set(kinds[table["split"] == split])
        if len(there) < 2:
            missing = ", ".join(sorted(wanted - there))
            raise InputError(
                f"data.source: the split {split} has no image of {missing}; every split needs at least two kinds: "
                "add images to it, or leave the split column out so that the splits are made for you"
            )


def _typed(table: pd.DataFrame) -> pd.DataFrame:
    types = {name: "int64" if name in _INTEGERS else "str" for name in table.columns}
    types |= {name: "float64" for name in table.columns if name == "confidence"}
    # A plain bool wherever the question has an answer; the nullable kind only where it has none.
    types["is_defect"] = "boolean" if table["is_defect"].isna().any() else "bool"
    return table.astype(types)
