"""The figure of the data: images per class and split."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from components.report import pictures, style

LABEL_CHARS = 30
"""A class name beside a bar is broken into lines of this many characters."""
MIN_LABELLED_SHARE = 0.055
"""A bar segment narrower than this share of the longest bar has no room for its count."""


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
