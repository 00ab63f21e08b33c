"""Figures of the images themselves: samples of each class, the splits, and galleries of single cases."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from components.report import style

GALLERY_COLUMNS = 6
MIN_LABELLED_SHARE = 0.055
"""A bar segment narrower than this share of the longest bar has no room for its count."""


def sample_grid(images_by_class: Mapping[str, Sequence[np.ndarray]]) -> Figure:
    """One row of images per class, its name at the left. Images: (H, W, 3) uint8."""
    rows = {name: images for name, images in images_by_class.items() if len(images)}
    if not rows:
        return style.empty_figure("Samples", "no images to show")
    columns = max(len(images) for images in rows.values())
    width = 1.15 * columns + 0.8
    figure = style.new_figure(width, 1.18 * len(rows) + 0.45)
    grid = figure.subplots(len(rows), columns, squeeze=False)
    for row, (name, images) in enumerate(rows.items()):
        for column in range(columns):
            _show(grid[row, column], images[column] if column < len(images) else None)
        grid[row, 0].annotate(
            name,
            (0, 0.5),
            xytext=(-8, 0),
            xycoords="axes fraction",
            textcoords="offset points",
            ha="right",
            va="center",
            fontsize=style.TEXT_SIZE,
            fontweight="bold",
            color=style.INK,
        )
    _figure_title(figure, "Samples of each class")
    return style.finish(figure)


def split_counts(counts: pd.DataFrame) -> Figure:
    """Images per class and split, stacked. counts: one row per class, one column per split, int."""
    if counts.empty or int(counts.to_numpy().sum()) == 0:
        return style.empty_figure("Images per class and split", "no images")
    figure = style.new_figure(style.WIDTH, 1.25 + 0.42 * len(counts))
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
    axes.set_yticks(positions, [str(name) for name in counts.index], fontsize=style.TEXT_SIZE, color=style.INK)
    axes.invert_yaxis()
    axes.set_xticks([])
    axes.set_xlim(0, 1.08 * longest)
    axes.spines["bottom"].set_visible(False)
    axes.spines["left"].set_visible(False)
    axes.tick_params(axis="y", length=0)
    style.title(axes, "Images per class and split")
    swatches, _ = axes.get_legend_handles_labels()
    style.key(axes, swatches)
    return style.finish(figure)


def gallery(images: Sequence[np.ndarray], captions: Sequence[str], title: str) -> Figure:
    """Single images with a caption under each. images: (H, W, 3) uint8, as many as captions."""
    if not len(images):
        return style.empty_figure(title, "none")
    columns = min(GALLERY_COLUMNS, len(images))
    rows = -(-len(images) // columns)
    lines = max(str(caption).count("\n") + 1 for caption in captions)
    figure = style.new_figure(max(1.55 * columns, 4.0), (1.5 + 0.16 * lines) * rows + 0.45)
    grid = figure.subplots(rows, columns, squeeze=False)
    for position, axes in enumerate(grid.flat):
        shown = position < len(images)
        _show(axes, images[position] if shown else None)
        if shown:
            axes.annotate(
                captions[position],
                (0, 0),
                xytext=(0, -4),
                xycoords="axes fraction",
                textcoords="offset points",
                ha="left",
                va="top",
                fontsize=style.SMALL_SIZE,
                linespacing=1.25,
                color=style.MUTED,
            )
    _figure_title(figure, title)
    return style.finish(figure)


def _figure_title(figure: Figure, text: str) -> None:
    figure.suptitle(text, x=0.01, ha="left", fontsize=style.TITLE_SIZE, fontweight="bold", color=style.INK)


def _show(axes: Axes, image: np.ndarray | None) -> None:
    axes.set_axis_off()
    if image is not None:
        axes.imshow(image, interpolation="antialiased", aspect="equal")


def _sum_text(values: np.ndarray, longest: float) -> str:
    """The total, and its parts where a segment was too narrow for its number."""
    total = f"{values.sum():,}"
    if (values >= MIN_LABELLED_SHARE * longest).all():
        return total
    return f"{total} = " + " + ".join(f"{value:,}" for value in values)


def _ink_on(color: str) -> str:
    red, green, blue = (int(color[start : start + 2], 16) for start in (1, 3, 5))
    return style.INK if 0.299 * red + 0.587 * green + 0.114 * blue > 145 else style.PAPER
