"""Figures of the data: images per class and split, and near duplicates beside unrelated pairs."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from components.report import pictures, style

LABEL_CHARS = 30
"""A class name beside a bar is broken into lines of this many characters."""
MIN_LABELLED_SHARE = 0.055
"""A bar segment narrower than this share of the longest bar has no room for its count."""

HISTOGRAM_BINS = 60
CLOSEST = 0.9995
"""Correlations above this are drawn at it: the axis widens towards 1, which lies at infinity."""
CORRELATION_TICKS = (-0.5, 0.0, 0.5, 0.8, 0.9, 0.95, 0.98, 0.99, 0.995, 0.998, 0.9995)


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
        bars = axes.barh(
            range(len(counts)), values, left=left, height=0.66, color=color, edgecolor=style.PAPER, label=str(split)
        )
        shown = [f"{value:,.0f}" if value >= MIN_LABELLED_SHARE * longest else "" for value in values]
        axes.bar_label(bars, shown, label_type="center", fontsize=style.SMALL_SIZE, color=_ink_on(color))
        left += values
    for position, (total, values) in enumerate(zip(totals, counts.to_numpy(), strict=True)):
        style.note(axes, _sum_text(values, longest), (total, position), offset=(7, 0), color=style.MUTED)
    style.name_rows(axes, [pictures.wrapped(str(name), LABEL_CHARS, lines=2) for name in counts.index])
    axes.set(xticks=[], xlim=(0, 1.08 * longest))
    axes.spines["bottom"].set_visible(False)
    style.title(axes, "Images per class and split", choice)
    style.key(axes, axes.get_legend_handles_labels()[0], drop=6)
    return style.finish(figure)


def near_duplicate_figure(background: np.ndarray, correlations: np.ndarray, threshold: float) -> Figure:
    """Correlations of unrelated pairs above, of confirmed pairs below the line, each to its own scale.

    background: (M,), correlations: (P,) in [-1, 1]. The axis is Fisher's z, on which a correlation's spread does not
    depend on its value; the bins at the ends hold what lies beyond them.
    """
    background, correlations = (np.asarray(values, dtype=float) for values in (background, correlations))
    known = np.concatenate([background, correlations])
    if not known.size:
        return style.empty_figure("Near duplicates", "no pairs were compared")
    figure, axes = style.plot(3.6, grid=None)
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
        style.note(
            axes, name, (0.006, 0.96 if sign > 0 else 0.04), at="axes fraction", va="top" if sign > 0 else "bottom",
            size=style.TEXT_SIZE, bold=True, color=color, over_lines=True,
        )  # fmt: skip
    axes.axhline(0, color=style.INK, linewidth=0.8)
    place = float(np.arctanh(np.clip(threshold, -CLOSEST, CLOSEST)))
    axes.axvline(place, color=style.VERMILLION, linewidth=1.3, zorder=4)
    style.note(
        axes, f"threshold {threshold:.3f}", (place, 0), offset=(-5, -6), ha="right", va="top", bold=True,
        color=style.VERMILLION, over_lines=True,
    )  # fmt: skip
    shown = [tick for tick in CORRELATION_TICKS if left - 1e-9 <= np.arctanh(tick) <= right + 1e-9]
    axes.set_xticks([float(np.arctanh(tick)) for tick in shown], [f"{tick:g}".replace("-", "−") for tick in shown])
    axes.set(xlim=(left, right), ylim=(-1.05, 1.05), yticks=[])
    axes.spines["left"].set_visible(False)
    style.title(axes, "How alike unrelated images are", "a near duplicate has to be more alike than that")
    style.label_axes(axes, x="correlation of the thumbnails beyond what look-alikes reach")
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
