"""Figures of the data: images per class and split, samples, augmentation, single cases, pairs and groups."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from components.display import width
from components.report import pictures, style

GALLERY_COLUMNS, PAIR_COLUMNS = 6, 4
MIN_SAMPLE_COLUMNS, MIN_VERSION_COLUMNS, MIN_GROUP_COLUMNS = 8, 6, 8
INCHES_PER_CHAR = 0.082
"""Of a bold class name, about."""
LABEL_CHARS = 30
"""A class name beside a bar is broken into lines of this many characters."""
MIN_LABELLED_SHARE = 0.055
"""A bar segment narrower than this share of the longest bar has no room for its count."""


def sample_grid(images_by_class: Mapping[str, Sequence[np.ndarray]]) -> Figure:
    """One row of images per class, its name at the left. Images: (H, W, 3) uint8."""
    rows = {name: images for name, images in images_by_class.items() if len(images)}
    if not rows:
        return style.empty_figure("Samples", "no images to show")
    columns = max(len(images) for images in rows.values())
    longest = max(width(line) for name in rows for line in pictures.wrapped(name, pictures.NAME_CHARS).split("\n"))
    figure, grid = pictures.places(
        len(rows), columns, fitting=max(columns, MIN_SAMPLE_COLUMNS), left=0.2 + INCHES_PER_CHAR * longest
    )
    for places, (name, images) in zip(grid, rows.items(), strict=True):
        for place, image in zip(places, images, strict=False):
            pictures.show(place, image)
        first, text = places[0], pictures.wrapped(name, pictures.NAME_CHARS)
        middle = (first.left, first.bottom + first.height / 2)
        style.note(first.axes, text, middle, offset=(-8, 0), ha="right", size=style.TEXT_SIZE, bold=True)
    pictures.heading(figure, "Samples of each class")
    return style.finish(figure)


def augmentation_grid(rows: Sequence[Sequence[np.ndarray]]) -> Figure:
    """A row per image: the original, then what a training may see of it. Images: (H, W, 3) uint8."""
    rows = [row for row in rows if len(row) > 1]
    if not rows:
        return style.empty_figure("Augmentation", "training sees every image unchanged")
    columns = max(len(row) for row in rows)
    figure, grid = pictures.places(len(rows), columns, fitting=max(columns, MIN_VERSION_COLUMNS), apart=0.25, top=0.2)
    for places, images in zip(grid, rows, strict=True):
        for place, image in zip(places, images, strict=False):
            pictures.show(place, image)
    pictures.title_above(grid[0, 0], "original", color=style.MUTED)
    pictures.title_above(grid[0, 1], "augmented", color=style.MUTED)
    pictures.heading(figure, "Augmentation")
    return style.finish(figure)


def gallery(images: Sequence[np.ndarray], captions: Sequence[str], title: str, *, fitting: int | None = None) -> Figure:
    """Single images with a caption under each. images: (H, W, 3) uint8, as many as captions; all of the first's shape.

    fitting: so many fill a row; None for GALLERY_COLUMNS.
    """
    if not len(images):
        return style.empty_figure(title, "none")
    fitting = fitting or GALLERY_COLUMNS
    columns = min(fitting, len(images))
    below = pictures.LINE * pictures.line_count(captions) + 0.1
    aspect = images[0].shape[1] / images[0].shape[0]
    figure, grid = pictures.places(-(-len(images) // columns), columns, fitting=fitting, aspect=aspect, below=below)
    for place, image, caption in zip(grid.flat, images, captions, strict=False):
        pictures.show(place, image)
        pictures.caption(place, str(caption))
    pictures.heading(figure, title)
    return style.finish(figure)


def pairs_gallery(pairs: Sequence[tuple[np.ndarray, np.ndarray]], captions: Sequence[str], title: str) -> Figure:
    """Two images side by side with a caption under both. Images: (S, S, 3) uint8, all of one size."""
    joined = []
    for first, second in pairs:
        gap = np.full((first.shape[0], max(first.shape[1] // 24, 1), 3), 255, dtype=np.uint8)
        joined.append(np.concatenate([first, gap, second], axis=1))
    return gallery(joined, captions, title, fitting=PAIR_COLUMNS)


def groups_gallery(
    groups: Sequence[Sequence[np.ndarray]], names: Sequence[str], captions: Sequence[Sequence[str]], title: str
) -> Figure:
    """A row of images per group, its name above it, a caption under each image. Images: (H, W, 3) uint8.

    names: one per group. captions: one per image, "" for none.
    """
    if not len(groups):
        return style.empty_figure(title, "none")
    columns = max(len(images) for images in groups)
    below = pictures.LINE * pictures.line_count(text for texts in captions for text in texts) + 0.08
    figure, grid = pictures.places(
        len(groups), columns, fitting=max(columns, MIN_GROUP_COLUMNS), above=0.26, below=below
    )
    for places, images, name, texts in zip(grid, groups, names, captions, strict=True):
        for place, image, text in zip(places, images, texts, strict=False):
            pictures.show(place, image)
            if text:
                pictures.caption(place, text)
        pictures.title_above(places[0], name)
    pictures.heading(figure, title)
    return style.finish(figure)


def split_counts(counts: pd.DataFrame) -> Figure:
    """Images per class and split, stacked. counts: one row per class, one column per split, int.

    With more classes than `style.MOST_CLASSES` the largest and the smallest.
    """
    if counts.empty or int(counts.to_numpy().sum()) == 0:
        return style.empty_figure("Images per class and split", "no images")
    choice = ""
    if len(counts) > style.MOST_CLASSES:
        half = style.MOST_CLASSES // 2
        choice = f"the {half} classes with most images and the {half} with fewest, of {len(counts):,}"
        largest = counts.loc[counts.sum(axis=1).sort_values(ascending=False, kind="stable").index]
        counts = pd.concat([largest.head(half), largest.tail(half)])
    figure, axes = style.plot(1.1 + 0.4 * len(counts), grid=None)
    totals = counts.sum(axis=1).to_numpy()
    longest = float(totals.max())
    left = np.zeros(len(counts))
    for order, split in enumerate(counts.columns):
        values = counts[split].to_numpy(dtype=float)
        color = style.SPLIT_COLORS.get(str(split), style.CYCLE[order % len(style.CYCLE)])
        red, green, blue = (int(color[start : start + 2], 16) for start in (1, 3, 5))
        ink = style.INK if 0.299 * red + 0.587 * green + 0.114 * blue > 145 else style.PAPER
        bars = axes.barh(
            range(len(counts)), values, left=left, height=0.66, color=color, edgecolor=style.PAPER, label=str(split)
        )
        shown = [f"{value:,.0f}" if value >= MIN_LABELLED_SHARE * longest else "" for value in values]
        axes.bar_label(bars, shown, label_type="center", fontsize=style.SMALL_SIZE, color=ink)
        left += values
    for position, (total, values) in enumerate(zip(totals, counts.to_numpy(), strict=True)):
        narrow = (values < MIN_LABELLED_SHARE * longest).any()  # so that a segment has no number of its own
        text = f"{total:,} = " + " + ".join(f"{value:,}" for value in values) if narrow else f"{total:,}"
        style.note(axes, text, (total, position), offset=(7, 0), color=style.MUTED)
    style.name_rows(axes, [pictures.wrapped(str(name), LABEL_CHARS, lines=2) for name in counts.index])
    axes.set(xticks=[], xlim=(0, 1.08 * longest))
    axes.spines["bottom"].set_visible(False)
    style.title(axes, "Images per class and split", choice)
    style.key(axes, axes.get_legend_handles_labels()[0], drop=6)
    return style.finish(figure)
