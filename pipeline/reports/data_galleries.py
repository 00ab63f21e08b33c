"""The data report's pictures of single findings: pairs, groups, conflicting and doubtful labels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from components.display import counted, shortened
from components.report.galleries import gallery, groups_gallery, pairs_gallery
from pipeline.data.findings import DataFindings, shown_images

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from components.data.pack.reader import Pack

MOST_PICTURES = 24
"""Pairs or single images in a gallery."""
MOST_GROUPS = 8
"""Rows of a gallery of groups, and pictures in a row."""


def pairs_figure(findings: DataFindings, pack: Pack) -> Figure:
    """Pairs of near duplicates, the least alike first. There must be at least one."""
    assert findings.near is not None
    pairs, known = findings.near.pairs, shown_images(findings)
    shown = pairs.sort_values("correlation", kind="stable").head(MOST_PICTURES)
    images, captions = [], []
    for pair in shown.to_dict("records"):
        places = [int(pair[side]) for side in ("first", "second")]
        images.append((pack[places[0]], pack[places[1]]))
        names = [f"{shortened(label, 12)}: {tail(image, 24)}" for image, label in known.loc[places].to_numpy()]
        captions.append("\n".join([f"{pair['correlation']:.3f}, {pair['symmetry']}", *names]))
    return pairs_gallery(images, captions, f"The least alike first: {len(shown):,} of {counted(len(pairs), 'pair')}")


def largest_figure(findings: DataFindings, pack: Pack) -> Figure:
    """A row for each of the largest groups; captions only where the images that are shown differ in their labels."""
    rows, names, captions = [], [], []
    for group in findings.largest_groups.head(MOST_GROUPS).to_dict("records"):
        members = findings.manifest[findings.manifest["group"] == group["group"]]
        shown = members.head(MOST_GROUPS)
        rows.append([pack[int(index)] for index in shown["pack_index"]])
        mixed = members["label"].nunique() > 1
        captions.append([shortened(label, 16) if mixed else "" for label in shown["label"]])
        names.append(
            f"{tail(group['group'], 40)}: {group['images']:,} images ({cut(group['labels'], 60)}); "
            f"{group['reason']}; in {members['split'].iloc[0]}"
        )
    return groups_gallery(rows, names, captions, "The largest groups")


def conflicts_figure(findings: DataFindings, pack: Pack) -> Figure:
    """A row for each set of images that show the same thing under different labels."""
    shown = findings.conflicts.head(MOST_GROUPS)
    rows, names, captions = [], [], []
    for conflict in shown.to_dict("records"):
        chosen = one_of_each(conflict["labels"])
        rows.append([pack[int(conflict["pack_index"][place])] for place in chosen])
        texts = [(conflict["labels"][place], conflict["image_ids"][place]) for place in chosen]
        captions.append([f"{shortened(label, 16)}\n{tail(image, 16)}" for label, image in texts])
        labels = cut(", ".join(sorted(set(conflict["labels"]))), 80)
        names.append(f"{conflict['kind']}, {len(conflict['labels']):,} images: {labels}")
    title = f"Same thing, different labels: {len(shown)} of {counted(len(findings.conflicts), 'set')}"
    return groups_gallery(rows, names, captions, title)


def doubtful_figure(findings: DataFindings, pack: Pack) -> Figure:
    shown = findings.doubtful.head(MOST_PICTURES)
    rows = findings.manifest.iloc[shown["row"].to_numpy(dtype=np.int64)]
    captions = [
        f"labelled {shortened(doubt['label'], 15)}\nneighbours: {shortened(doubt['suggested'], 13)}\n{tail(name, 22)}"
        for doubt, name in zip(shown.to_dict("records"), rows["image_id"], strict=True)
    ]
    title = f"The most doubtful first: {len(shown)} of {counted(len(findings.doubtful), 'image')}"
    return gallery([pack[int(index)] for index in rows["pack_index"]], captions, title)


def one_of_each(labels: Sequence[str]) -> list[int]:
    """Places of the images to show: the first of each label, then the others, as many as fit."""
    first = [list(labels).index(label) for label in dict.fromkeys(labels)]
    return [*first, *(place for place in range(len(labels)) if place not in first)][:MOST_GROUPS]


def cut(text: str, width: int) -> str:
    """The beginning of a name that is too long."""
    return text if len(text) <= width else text[: width - 1] + "…"


def tail(text: str, width: int) -> str:
    """The end of a path that is too long: there it differs from others."""
    return text if len(text) <= width else "…" + text[-(width - 1) :]
