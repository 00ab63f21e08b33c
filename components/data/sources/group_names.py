"""Groups that the names of files tell: `part012_1.png` to `part012_6.png` are six images of one part."""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

import pandas as pd

from components.data.names import normal_form, normal_path
from components.data.sources.listing import Listing
from components.display import counted
from components.errors import InputError

#: What names are tried for: a part before the last separator (part012_1.png), a folder of each part (part012/1.png).
_NAME, _FOLDER = r"([^/]*\d[^/]*)[-_][^-_/]+$", r"/([^/]*\d[^/]*)/[^/]+$"
#: The same with the folders above, for parts that are numbered anew in each.
_WITHIN = {_NAME: r"(.*/[^/]*\d[^/]*)[-_][^-_/]+$", _FOLDER: r"(.*/[^/]*\d[^/]*)/[^/]+$"}
# A part has a few images, and most parts have several; days, cameras and serial numbers do not look so.
_LEAST_GROUPS, _LARGEST_GROUP, _GROUPED_SHARE = 10, 30, 0.8
_IMAGES_PER_VIEW = 3


@dataclass(frozen=True)
class FoundGroups:
    """pattern: for `group_by_name`. groups: how many it finds, and example one of the largest; images: in that one."""

    pattern: str
    groups: int
    example: str
    images: int


def group_by_name(listing: Listing, pattern: str) -> Listing:
    """The listing with groups read from the paths.

    pattern: a regular expression with one group, searched in each path from the root (posix, with its suffix, in
    Unicode's form NFC); what the group holds names the part. An image that it is not found in belongs to none.
    Raises InputError: no path has it, or the source has groups of its own.
    """
    if listing.table["group"].notna().any():
        raise InputError(
            f"data.group_pattern={pattern!r}: the source names the groups itself; leave out this key or the column"
        )
    names = _names(pattern, listing.table["path"])
    without = names.count(None)
    if without == len(names):
        raise InputError(
            f"data.group_pattern={pattern!r}: found in none of {counted(len(names), 'path')} (the first: "
            f"{listing.table['path'].iloc[0]}); correct the pattern, or leave it out"
        )
    note = f"data.group_pattern is not found in the names of {counted(without, 'image')}, which belong to no group."
    notes = (*listing.notes, *([note] if without else []))
    return replace(listing, table=listing.table.assign(group=pd.Series(names, dtype=object)), notes=notes)


def find_group_pattern(paths: Sequence[str], labels: Sequence[str]) -> FoundGroups | None:
    """A pattern by which the names fall into many small groups, or None.

    paths, labels: (N,) of a listing. Names that several folders hold alike count as numbered anew in each folder.
    """
    for pattern in (_NAME, _FOLDER):
        found = [re.search(pattern, normal_path(path)) for path in paths]
        tails = Counter(match[0] for match in found if match)
        views = {match[0][match.end(1) - match.start() :] for match in found if match}
        if pattern == _NAME and len(views) * _IMAGES_PER_VIEW > len(paths):
            continue  # serial numbers
        chosen = _WITHIN[pattern] if any(count > 1 for count in tails.values()) else pattern
        names = _names(chosen, paths)
        sizes = Counter(name for name in names if name is not None)
        several = sum(size for size in sizes.values() if size > 1)
        if (
            len(sizes) >= _LEAST_GROUPS
            and max(sizes.values()) <= _LARGEST_GROUP
            and several >= _GROUPED_SHARE * len(paths)
            and not _are_classes(names, labels)
        ):
            example, images = min(sizes.items(), key=lambda item: (-item[1], item[0]))
            return FoundGroups(chosen, len(sizes), example, images)
    return None


def _are_classes(names: Sequence[str | None], labels: Sequence[str]) -> bool:
    """Whether the names tell a class rather than a part: most classes are a single group, or all groups are classes."""
    held = set(zip(names, labels, strict=True))
    return len(held) < 2 * len(set(labels)) or set(names) <= set(labels)


def _names(pattern: str, paths: Sequence[str] | pd.Series) -> list[str | None]:
    found = (re.search(pattern, normal_path(path)) for path in paths)
    return [(normal_form(match[1] or "") or None) if match else None for match in found]
