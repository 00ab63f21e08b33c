"""A look at a folder of images, by the sources that prepare reads: layout, classes, sizes, groups."""

from __future__ import annotations

import os
import posixpath
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from components.data.decode import DecodeError, decode_image
from components.data.files import Files, open_files
from components.data.image_files import IMAGE_SUFFIXES, is_image
from components.data.lookup import local_place
from components.data.manifest import check_listing
from components.data.names import look_alikes, normal_form
from components.data.sources.folder import has_split_folders
from components.data.sources.found_table import FoundTable, find_table
from components.data.sources.group_names import FoundGroups, find_group_pattern, group_by_name
from components.data.sources.listing import Listing
from components.data.sources.mvtec import is_mvtec
from components.data.sources.tree import Tree, class_images, read_tree
from components.display import counted, listed
from components.errors import InputError, faults_of, redact
from pipeline.data.sources import list_images, split_rules
from pipeline.init.good_names import choose_good, is_good_name
from pipeline.overriding import validate
from pipeline.sections.data import DataConfig

KEY, GOOD_KEY = "FOLDER", "--good"
#: Images whose size is read, evenly over the folder.
LOOKED_AT = 32


@dataclass(frozen=True)
class Sizes:
    """Of the images that were looked at, in pixels. width, height: medians. faults: of those that cannot be decoded."""

    looked_at: int
    width: int
    height: int
    shortest_side: int
    longest_side: int
    faults: tuple[str, ...]

    @property
    def alike(self) -> bool:
        """Whether all have one size."""
        return (self.shortest_side, self.longest_side) == tuple(sorted((self.width, self.height)))


@dataclass(frozen=True)
class Look:
    """What is in the folder.

    name: of the folder. layout: in words. data: keys of the section data that differ from their defaults, but the size.
    counts: images by class, the largest class first. good: labels. listing: with the groups that `data` names. groups:
    found in the names of files; torn: whether given splits divide them, so that they are no part of `data`. notes:
    what a person should know, a sentence each.
    """

    name: str
    layout: str
    data: dict[str, Any]
    counts: dict[str, int]
    good: tuple[str, ...]
    listing: Listing
    sizes: Sizes
    groups: FoundGroups | None
    torn: bool
    notes: tuple[str, ...]

    @property
    def is_defect(self) -> np.ndarray:
        """(N,) bool, of the listing's images."""
        return ~self.listing.table["label"].isin(self.good).to_numpy()


def look_at(folder: str, *, good: Sequence[str]) -> Look:
    """folder: a path, or an address that fsspec knows. good: labels of the good classes; none: told by their names.

    Raises InputError: no folder, no images or none that can be decoded, no layout that can be told, one class only, and
    what the sources refuse.
    """
    address = _address(folder)
    files = open_files(address, key=KEY)
    tree = read_tree(files, key=KEY)
    layout, data, listing = _layout(files, tree, address, good)
    if look_alikes(listing.table["label"]):
        data["label_spelling"] = "merge"
        listing = _listing(data)
    counts = dict(Counter(listing.table["label"]).most_common())
    if len(counts) == 1:
        raise InputError(
            f"{KEY}={files.name}: all {counted(len(listing.table), 'image')} are of one class, {next(iter(counts))}; "
            "a model needs images of good parts and of defective ones, or of several kinds, a folder for each"
        )
    chosen = choose_good(sorted(counts), good, key=GOOD_KEY)
    data["good_labels"] = list(chosen)
    groups, torn = _groups(listing)
    if groups is not None and not torn:
        data["group_pattern"] = groups.pattern
        listing = group_by_name(listing, groups.pattern)
    sizes = measure(listing.files, listing.table["path"].tolist())
    return Look(
        name=folder_name(folder),
        layout=layout,
        data=data,
        counts=counts,
        good=chosen,
        listing=listing,
        sizes=sizes,
        groups=groups,
        torn=torn,
        notes=_notes(listing, data, sizes),
    )


def folder_name(folder: str) -> str:
    """The last part of its address. Raises InputError for an address that no configuration should hold."""
    return posixpath.basename(_address(folder).rstrip("/"))


def measure(files: Files, paths: Sequence[str]) -> Sizes:
    """Decode some of the images, upright. Raises InputError where none of them can be."""
    places = np.unique(np.linspace(0, len(paths) - 1, num=min(len(paths), LOOKED_AT)).round().astype(int))
    sides, faults = [], []
    for path in (paths[place] for place in places):
        try:
            sides.append(decode_image(files.read(path), significant_bits=None).image.size)
        except (DecodeError, OSError) as error:
            faults.append(f"{path}: {error}")
    if not sides:
        raise InputError(f"{KEY}={files.name}: none of {len(places)} images that were looked at is one ({faults[0]})")
    width, height = np.median(sides, axis=0).round().astype(int).tolist()
    return Sizes(len(places), width, height, int(np.min(sides)), int(np.max(sides)), tuple(faults))


def _address(folder: str) -> str:
    """Absolute, so that the configuration holds wherever it is used."""
    try:
        folder.encode()
    except UnicodeEncodeError as error:
        raise InputError(f"{KEY}={folder!r}: the name is not valid UTF-8; rename the folder") from error
    if redact(folder) != folder:
        raise InputError(
            f"{KEY}={redact(folder)}: the configuration would hold the password or signature; leave it out, as "
            "drivers take credentials from the environment"
        )
    if "://" in folder:
        return folder.rstrip("/")
    return os.path.abspath(os.path.expanduser(local_place(folder)))  # noqa: PTH100, PTH111  links stay as they are


def _layout(files: Files, tree: Tree, address: str, good: Sequence[str]) -> tuple[str, dict[str, Any], Listing]:
    """In words, the keys of the source, and its images under the labels as they are written."""
    if not any(map(is_image, tree.paths)):
        left_out = tree.left_out().text
        raise InputError(
            f"{KEY}={files.name}: holds no images (of {', '.join(sorted(IMAGE_SUFFIXES))})"
            f"{f'; left out: {left_out}' if left_out else ''}; give the folder that the images lie in"
        )
    if is_mvtec(tree):
        data: dict[str, Any] = {"source": f"mvtec:{address}"}
        return "MVTec AD's layout", data, _listing(data)
    is_split = has_split_folders(tree, f"{KEY}={files.name}")
    depth = 2 if is_split else 1
    images, left_out_images = class_images(tree, depth=depth)
    labels = sorted({normal_form(label) for _, label in images})
    table = find_table(files, tree, key=KEY) if len(labels) < 2 else None
    if table is not None:
        data, listing = _of_table(table, tree, address)
        return f"images with the table {table.name}", data, listing
    if not images:
        raise InputError(
            f"{KEY}={files.name}: {counted(left_out_images.loose, 'image')} lie in no class folders, and no table "
            "beside them names their classes; put the images of each class into a folder named after it, or write a "
            "table (.csv, .parquet) with the columns path and label"
        )
    data = {"source": f"folder:{address}"}
    listing = _listing(data)  # which knows the categories of MVTec AD
    _refuse_deeper_classes([path for path, _ in images], labels, good, depth, files.name)
    return "a folder per class in given splits" if is_split else "a folder per class", data, listing


def _of_table(table: FoundTable, tree: Tree, address: str) -> tuple[dict[str, Any], Listing]:
    """The keys of the source, and its images. Paths may start from the one folder of the images beside the table."""
    defaults = DataConfig()
    data = {"source": f"{table.kind}:{address}/{table.name}"}
    data |= {key: name for key, name in table.columns.items() if name != getattr(defaults, key)}
    loose = any(is_image(path) and "/" not in path for path in tree.paths)
    folders = sorted({path.partition("/")[0] for path in tree.paths if is_image(path) and "/" in path})
    if not loose and len(folders) == 1 and faults_of(lambda: _listing(data)):
        data["root"] = f"{address}/{folders[0]}"
    return data, _listing(data)


def _refuse_deeper_classes(
    paths: Sequence[str], labels: Sequence[str], good: Sequence[str], depth: int, name: str
) -> None:
    """Raise InputError where the folders right in the root do not look like classes."""
    if good or any(map(is_good_name, labels)):
        return
    above = [path.split("/")[:-1] for path in paths]
    remedy = "give the folder whose sub-folders are the classes, or list the images in a table with path and label"
    if len(labels) > 1:
        remedy += f"; if {listed(labels)} are the classes, name the good ones with {GOOD_KEY}, or write data.source"
    deeper = sorted({"/".join(folders[:-1]) for folders in above if len(folders) > depth and is_good_name(folders[-1])})
    if deeper:
        raise InputError(
            f"{KEY}={name}: its classes seem to lie deeper, in {listed(deeper)}; {remedy}. Folders named train, val, "
            "calibration and test above the class folders are read as given splits"
        )
    if all(len(folders) > depth for folders in above):
        raise InputError(
            f"{KEY}={name}: holds folders of folders (the first image: {paths[0]}), and which of them are the classes "
            f"cannot be told; {remedy}"
        )


def _listing(data: dict[str, Any]) -> Listing:
    settings = validate(DataConfig, {"good_labels": [], "label_spelling": "keep", **data})
    return list_images(settings, Path())  # the folder is for images that are generated


def _groups(listing: Listing) -> tuple[FoundGroups | None, bool]:
    """Groups that the names tell, where the source has none, and whether the given splits divide one."""
    table = listing.table
    if table["group"].notna().any():
        return None, False
    found = find_group_pattern(table["path"].tolist(), table["label"].tolist())
    if found is None:
        return None, False
    grouped = group_by_name(listing, found.pattern).table
    return found, bool((grouped.groupby("group")["split"].nunique() > 1).any())


def _notes(listing: Listing, data: dict[str, Any], sizes: Sizes) -> tuple[str, ...]:
    notes = [*listing.notes]
    if sizes.faults:
        notes.append(f"{len(sizes.faults)} of {sizes.looked_at} images cannot be decoded ({listed(sizes.faults)})")
    rules = split_rules(validate(DataConfig, data), seed=0)
    faults = faults_of(lambda: check_listing(listing, rules, tiled=False))
    notes += [f"a run will refuse this: {fault}" for fault in faults]
    return tuple(notes)
