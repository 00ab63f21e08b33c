"""The audit of prepared images: which show the same thing, and what beside the part could tell the classes apart."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pandas as pd

from components.data.audit.features import probe_features
from components.data.audit.groupwise import sample_groups
from components.data.audit.leakage import LeakageProbe, probe_leakage
from components.data.audit.near_duplicates import NearDuplicates, find_near_duplicates
from components.data.audit.shortcuts import Shortcut, audit_shortcuts
from components.data.masks import size_that_shows

if TYPE_CHECKING:
    from components.data.pack.reader import Pack

#: Probe and audit look at so many images, whole groups of them; more would change their figures little.
MOST_IMAGES = 5_000
#: A defect needs a few pixels each way to survive a network's first stride.
FEWEST_DEFECT_PIXELS = 4.0
#: Below this share of defects that are too small, no warning.
TOLERATED_SHARE = 0.05


@dataclass(frozen=True)
class Audit:
    """What may deceive: how much a careless split would flatter, and what tells the classes apart beside the part."""

    probe: LeakageProbe | None
    shortcuts: list[Shortcut]
    notes: tuple[str, ...]


NO_AUDIT = Audit(None, [], ())


def find_duplicates(table: pd.DataFrame, pack: Pack, *, symmetric: bool) -> NearDuplicates:
    """Pairs of pack indices that show the same thing. table: of the pack's images: pack_index, sha256, box."""
    # Identical files are one image here. In the order of their content, so that the result does not depend on the order
    # in which they came into the pack.
    images = table.drop_duplicates("pack_index").sort_values(["sha256", "box"])
    order = images["pack_index"].to_numpy()
    found = find_near_duplicates(
        lambda start, stop: pack.thumbnails(order[start:stop]), len(order), symmetric=symmetric
    )
    pairs = found.pairs.assign(first=order[found.pairs["first"]], second=order[found.pairs["second"]])
    return dataclasses.replace(found, pairs=pairs)


def audit_data(manifest: pd.DataFrame, statistics: pd.DataFrame, pack: Pack, *, seed: int) -> Audit:
    """Leakage probe and shortcut audit. statistics: a row for each of the manifest."""
    labels, groups = (manifest[name].to_numpy(dtype=object) for name in ("label", "group"))
    rows = sample_groups(labels, groups, max_images=MOST_IMAGES, seed=seed)
    labels, groups = labels[rows], groups[rows]
    features = probe_features(pack.thumbnails(manifest["pack_index"].to_numpy()[rows]))
    paths = manifest["path"].to_numpy()[rows].tolist()
    measured = statistics.iloc[rows].reset_index(drop=True)
    notes: tuple[str, ...] = ()
    if len(rows) < len(manifest):
        notes = (f"Leakage and shortcuts were looked into on {len(rows):,} of {len(manifest):,} images.",)
    return Audit(
        probe=probe_leakage(features, labels, groups, seed=seed),
        shortcuts=audit_shortcuts(measured, paths, labels, groups, seed=seed),
        notes=notes,
    )


def small_defects_note(statistics: pd.DataFrame, size: int) -> str | None:
    """A warning, where masks show that defects become too small; None where they do not, or there are no masks.

    size: side of the square that the model sees, in pixels.
    """
    sides = statistics["defect_pixels"].dropna().to_numpy()
    small = float((sides < FEWEST_DEFECT_PIXELS).mean()) if len(sides) else 0.0
    if small <= TOLERATED_SHARE:
        return None
    enough = size_that_shows(sides, size, FEWEST_DEFECT_PIXELS)
    return (
        f"{small:.0%} of the defects span fewer than {FEWEST_DEFECT_PIXELS:g} pixels at data.image_size={size}: a "
        f"model can hardly see them; {enough} would show 95 % of them, as would data.region or data.tile_size."
    )
