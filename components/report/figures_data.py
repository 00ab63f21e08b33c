"""Figures of the images themselves: samples of each class, the splits, augmentation, and galleries of single cases."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from components.display import width
from components.report import pictures, style

GALLERY_COLUMNS = 6
MIN_SAMPLE_COLUMNS, MIN_VERSION_COLUMNS = 8, 6
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
    for axes, (name, images) in zip(grid, rows.items(), strict=True):
        for place, image in zip(axes, images, strict=False):
            pictures.show(place, image)
        pictures.row_name(axes[0], name)
    pictures.heading(figure, "Samples of each class")
    return style.finish(figure)


def split_counts(counts: pd.DataFrame) -> Figure:
    """Images per class and split, stacked. counts: one row per class, one column per split, int.

    With more classes than `style.MOST_CLASSES` the largest and the smallest.
    """
    if counts.empty or int(counts.to_numpy().sum()) == 0:
        return style.empty_figure("Images per class and split", "no images")
    every = len(counts)
    if every > style.MOST_CLASSES:
        largest = counts.loc[counts.sum(axis=1).sort_values(ascending=False, kind="stable").index]
        counts = pd.concat([largest.head(style.MOST_CLASSES // 2), largest.tail(style.MOST_CLASSES // 2)])
    figure = style.new_figure(style.WIDTH, 1.1 + 0.4 * len(counts))
    axes = figure.add_subplot()
    style.quiet_axes(axes, grid=None)
    totals = counts.sum(axis=1).to_numpy()
    longest = float(totals.max())
    left = np.zeros(len(counts))
    positions = list(range(len(counts)))
    for order, split in enumerate(counts.columns):
        values = counts[split].to_numpy(dtype=float)
        color = style.SPLIT_COLORS.get(str(split), style.CYCLE[order % len(style.CYCLE)])
        axes.barh(positions, values, left=left, height=0.66, color=color, edgecolor=style.PAPER, label=str(split))
        for position, value, start in zip(positions, values, left, strict=True):
            if value >= MIN_LABELLED_SHARE * longest:
                axes.text(
                    start + value / 2, position, f"{value:,.0f}", ha="center", va="center",
                    fontsize=style.SMALL_SIZE, color=_ink_on(color),
                )  # fmt: skip
        left += values
    for position, total in zip(positions, totals, strict=True):
        axes.text(
            total + 0.012 * longest,
            position,
            _sum_text(counts.iloc[position].to_numpy(), longest),
            va="center",
            fontsize=style.SMALL_SIZE,
            color=style.MUTED,
        )
    names = [pictures.wrapped(str(name), LABEL_CHARS, lines=2) for name in counts.index]
    axes.set_yticks(positions, names, fontsize=style.TEXT_SIZE, color=style.INK)
    axes.set_ylim(len(counts) - 0.5, -0.5)
    axes.set_xticks([])
    axes.set_xlim(0, 1.08 * longest)
    axes.spines["bottom"].set_visible(False)
    axes.spines["left"].set_visible(False)
    axes.tick_params(axis="y", length=0)
    half = style.MOST_CLASSES // 2
    choice = f"the {half} classes with most images and the {half} with fewest, of {every:,}"
    style.title(axes, "Images per class and split", choice if every > style.MOST_CLASSES else "")
    swatches, _ = axes.get_legend_handles_labels()
    style.key(axes, swatches, drop=6)
    return style.finish(figure)


def gallery(images: Sequence[np.ndarray], captions: Sequence[str], title: str) -> Figure:
    """Single images with a caption under each. images: (H, W, 3) uint8, as many as captions."""
    if not len(images):
        return style.empty_figure(title, "none")
    columns = min(GALLERY_COLUMNS, len(images))
    rows = -(-len(images) // columns)
    below = pictures.LINE * pictures.line_count(captions) + 0.1
    figure, grid = pictures.places(rows, columns, fitting=GALLERY_COLUMNS, below=below)
    for axes, image, caption in zip(grid.flat, images, captions, strict=False):
        pictures.show(axes, image)
        pictures.caption(axes, str(caption))
    pictures.heading(figure, title)
    return style.finish(figure)


def augmentation_grid(rows: Sequence[Sequence[np.ndarray]]) -> Figure:
    """A row per image: as it is, and beside it what a training may see of it. Images: (H, W, 3) uint8."""
    rows = [row for row in rows if len(row) > 1]
    if not rows:
        return style.empty_figure("Augmentation", "training sees every image as it is")
    columns = max(len(row) for row in rows)
    figure, grid = pictures.places(len(rows), columns, fitting=max(columns, MIN_VERSION_COLUMNS), apart=0.25, top=0.2)
    for axes, images in zip(grid, rows, strict=True):
        for place, image in zip(axes, images, strict=False):
            pictures.show(place, image)
    pictures.title_above(grid[0, 0], "as it is", color=style.MUTED)
    pictures.title_above(grid[0, 1], "as training may see it", color=style.MUTED)
    pictures.heading(figure, "Augmentation")
    return style.finish(figure)


def _sum_text(values: np.ndarray, longest: float) -> str:
    """The total, and its parts where a segment was too narrow for its number."""
    total = f"{values.sum():,}"
    if (values >= MIN_LABELLED_SHARE * longest).all():
        return total
    return f"{total} = " + " + ".join(f"{value:,}" for value in values)


def _ink_on(color: str) -> str:
    red, green, blue = (int(color[start : start + 2], 16) for start in (1, 3, 5))
    return style.INK if 0.299 * red + 0.587 * green + 0.114 * blue > 145 else style.PAPER
