"""Figures of the audit: near duplicates and what they were told from, leakage, shortcuts, and galleries of pairs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import cycle

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from components.report import pictures, style

PAIR_COLUMNS = 4
MIN_GROUP_COLUMNS = 8
HISTOGRAM_BINS = 60
CLOSEST = 0.9995
"""Correlations above this are drawn at it: the axis widens towards 1, which lies at infinity."""
CORRELATION_TICKS = (-0.5, 0.0, 0.5, 0.8, 0.9, 0.95, 0.98, 0.99, 0.995, 0.998, 0.9995)


def near_duplicate_figure(background: np.ndarray, correlations: np.ndarray, threshold: float) -> Figure:
    """Correlations of unrelated pairs above, of confirmed pairs below the line, each to its own scale.

    background: (M,), correlations: (P,) in [-1, 1]. The axis is Fisher's z, on which a correlation's spread does not
    depend on its value; the bins at the ends hold what lies beyond them.
    """
    background, correlations = (np.asarray(values, dtype=float) for values in (background, correlations))
    known = np.concatenate([background, correlations])
    if not known.size:
        return style.empty_figure("Near duplicates", "no pairs were compared")
    figure = style.new_figure(style.WIDTH, 3.6)
    axes = figure.add_subplot()
    style.quiet_axes(axes, grid=None)
    low = min(float(np.quantile(known, 0.001)), threshold) - 0.05
    left, right = (float(value) for value in np.arctanh(np.clip([low, CLOSEST], -CLOSEST, CLOSEST)))
    edges = np.linspace(left, right, HISTOGRAM_BINS + 1)
    for values, sign, color, name in (
        (background, 1, style.MUTED, f"unrelated pairs, {background.size:,} of them"),
        (correlations, -1, style.BLUE, f"near duplicates, {correlations.size:,} pairs"),
    ):
        counts = np.histogram(np.arctanh(np.clip(values, np.tanh(left), CLOSEST)).clip(left, right), edges)[0]
        heights = 0.8 * counts / max(int(counts.max()), 1)
        axes.bar(edges[:-1], sign * heights, width=np.diff(edges), align="edge", color=color, edgecolor=style.PAPER,
                 linewidth=0.5)  # fmt: skip
        _name_half(axes, name, sign, color)
    axes.axhline(0, color=style.INK, linewidth=0.8)
    _mark_threshold(axes, float(np.arctanh(np.clip(threshold, -CLOSEST, CLOSEST))), threshold)
    shown = [tick for tick in CORRELATION_TICKS if left - 1e-9 <= np.arctanh(tick) <= right + 1e-9]
    axes.set_xticks([float(np.arctanh(tick)) for tick in shown], [f"{tick:g}".replace("-", "−") for tick in shown])
    axes.set(xlim=(left, right), ylim=(-1.05, 1.05), yticks=[])
    axes.spines["left"].set_visible(False)
    style.title(axes, "How alike unrelated images are", "a near duplicate has to be more alike than that")
    style.label_axes(axes, x="correlation of the thumbnails beyond what look-alikes reach")
    return style.finish(figure)


def pairs_gallery(pairs: Sequence[tuple[np.ndarray, np.ndarray]], captions: Sequence[str], title: str) -> Figure:
    """Two images side by side with a caption under both. Images: (S, S, 3) uint8, all of one size."""
    if not len(pairs):
        return style.empty_figure(title, "none")
    columns = min(PAIR_COLUMNS, len(pairs))
    rows = -(-len(pairs) // columns)
    shown = [_side_by_side(*pair) for pair in pairs]
    aspect = shown[0].shape[1] / shown[0].shape[0]
    below = pictures.LINE * pictures.line_count(captions) + 0.1
    figure, grid = pictures.places(rows, columns, fitting=PAIR_COLUMNS, aspect=aspect, below=below)
    for axes, image, caption in zip(grid.flat, shown, captions, strict=False):
        pictures.show(axes, image)
        pictures.caption(axes, caption)
    pictures.heading(figure, title)
    return style.finish(figure)


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
    for row, images, name, texts in zip(grid, groups, names, captions, strict=True):
        for axes, image, text in zip(row, images, texts, strict=False):
            pictures.show(axes, image)
            pictures.caption(axes, text)
        pictures.title_above(row[0], name)
    pictures.heading(figure, title)
    return style.finish(figure)


def leakage_figure(bars: Mapping[str, tuple[float, float, float]]) -> Figure:
    """A bar and an interval for each way of drawing folds. bars: accuracy, its low and its high end, in [0, 1]."""
    if not bars:
        return style.empty_figure("Leakage", "nothing was measured")
    figure = style.new_figure(style.WIDTH, 1.2 + 0.5 * len(bars))
    axes = figure.add_subplot()
    style.quiet_axes(axes, grid="x")
    for place, ((value, low, high), color) in enumerate(
        zip(bars.values(), cycle((style.ORANGE, style.BLUE)), strict=False)
    ):
        axes.barh(place, value, height=0.56, color=color)
        axes.plot([low, high], [place, place], color=style.INK, linewidth=1.4, solid_capstyle="butt", zorder=4)
        text = f"{style.percent(value)}  ({style.percent(low)} to {style.percent(high)})"
        axes.annotate(text, (max(value, high), place), xytext=(8, 0), textcoords="offset points", va="center",
                      fontsize=style.TEXT_SIZE, color=style.INK)  # fmt: skip
    axes.set_yticks(range(len(bars)), list(bars), fontsize=style.TEXT_SIZE, color=style.INK)
    axes.set(ylim=(len(bars) - 0.5, -0.5), xlim=(0, 1.28))
    _percent_axis(axes)
    style.title(axes, "What a careless split would show", "accuracy of the label of the most similar other image")
    return style.finish(figure)


def shortcuts_figure(shortcuts: pd.DataFrame) -> Figure:
    """A dot and an interval per cue: how well it alone tells the classes apart, against chance.

    shortcuts: columns name, score, low, high, chance (in [0, 1]) and suspicious (bool); drawn from the top in order.
    """
    if shortcuts.empty:
        return style.empty_figure("Shortcuts", "no cue was tried")
    figure = style.new_figure(style.WIDTH, 1.5 + 0.3 * len(shortcuts))
    axes = figure.add_subplot()
    style.quiet_axes(axes, grid="x")
    for place, row in enumerate(shortcuts.to_dict("records")):
        color = style.VERMILLION if row["suspicious"] else style.MUTED
        axes.plot([row["low"], row["high"]], [place, place], color=color, linewidth=2, solid_capstyle="round", zorder=3)
        axes.scatter(row["score"], place, s=46, color=color, edgecolors=style.PAPER, linewidths=1, zorder=4)
        axes.plot([row["chance"]] * 2, [place - 0.42, place + 0.42], color=style.INK, linewidth=1, zorder=2,
                  linestyle=(0, (2, 1.5)))  # fmt: skip
        axes.annotate(style.percent(row["score"]), (1.02, place), va="center", fontsize=style.SMALL_SIZE, color=color,
                      fontweight="bold" if row["suspicious"] else "normal", annotation_clip=False)  # fmt: skip
    axes.set_yticks(range(len(shortcuts)), [str(name) for name in shortcuts["name"]], fontsize=style.TEXT_SIZE)
    for text, suspicious in zip(axes.get_yticklabels(), shortcuts["suspicious"], strict=True):
        text.set_color(style.VERMILLION if suspicious else style.INK)
    axes.set(ylim=(len(shortcuts) - 0.5, -0.5), xlim=(0, 1.1))
    _percent_axis(axes)
    style.title(axes, "What gives the label away", "balanced accuracy from this alone, without a look at the picture")
    handles = [
        Line2D([], [], color=style.VERMILLION, marker="o", linewidth=2, label="suspicious"),
        Line2D([], [], color=style.MUTED, marker="o", linewidth=2, label="unsuspicious"),
        Line2D([], [], color=style.INK, linewidth=1, linestyle=(0, (2, 1.5)), label="chance"),
    ]
    style.key(axes, handles, drop=18)
    return style.finish(figure)


def _name_half(axes: Axes, name: str, sign: int, color: str) -> None:
    axes.annotate(
        name, (0.006, 0.96 if sign > 0 else 0.04), xycoords="axes fraction", va="top" if sign > 0 else "bottom",
        fontsize=style.TEXT_SIZE, fontweight="bold", color=color, path_effects=style.halo(), zorder=6,
    )  # fmt: skip


def _mark_threshold(axes: Axes, place: float, threshold: float) -> None:
    axes.axvline(place, color=style.VERMILLION, linewidth=1.3, zorder=4)
    axes.annotate(
        f"threshold {threshold:.3f}", (place, 0), xytext=(-5, -6), xycoords=("data", "data"),
        textcoords="offset points", ha="right", va="top", fontsize=style.SMALL_SIZE, fontweight="bold",
        color=style.VERMILLION, path_effects=style.halo(), zorder=7,
    )  # fmt: skip


def _side_by_side(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """(S, 2 S + gap, 3) uint8, with a white gap."""
    gap = np.full((first.shape[0], max(first.shape[1] // 24, 1), 3), 255, dtype=np.uint8)
    return np.concatenate([first, gap, second], axis=1)


def _percent_axis(axes: Axes) -> None:
    axes.set_xticks([0, 0.25, 0.5, 0.75, 1], ["0 %", "25 %", "50 %", "75 %", "100 %"])
