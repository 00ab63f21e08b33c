"""Figures of the audit: near duplicates beside unrelated pairs, leakage, shortcuts."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import cycle
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from components.report import style

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


def leakage_figure(bars: Mapping[str, tuple[float, float, float]]) -> Figure:
    """A bar and an interval for each way of drawing folds. bars: accuracy, its low and its high end, in [0, 1]."""
    if not bars:
        return style.empty_figure("Leakage", "nothing was measured")
    figure, axes = style.plot(1.2 + 0.5 * len(bars), grid="x")
    for place, ((value, low, high), color) in enumerate(
        zip(bars.values(), cycle((style.ORANGE, style.BLUE)), strict=False)
    ):
        axes.barh(place, value, height=0.56, color=color)
        axes.plot([low, high], [place, place], color=style.INK, linewidth=1.4, solid_capstyle="butt", zorder=4)
        text = f"{style.percent(value)}  ({style.percent(low)} to {style.percent(high)})"
        style.note(axes, text, (max(value, high), place), offset=(8, 0), size=style.TEXT_SIZE)
    style.name_rows(axes, list(bars))
    axes.set_xlim(0, 1.28)
    style.percent_axis(axes.xaxis)
    style.title(axes, "What a careless split would show", "accuracy of the label of the most similar other image")
    return style.finish(figure)


def shortcuts_figure(shortcuts: pd.DataFrame) -> Figure:
    """A dot and an interval per cue: how well it alone tells the classes apart, against chance.

    shortcuts: columns name, score, low, high, chance (in [0, 1]) and suspicious (bool); drawn from the top in order.
    """
    if shortcuts.empty:
        return style.empty_figure("Shortcuts", "no cue was tried")
    figure, axes = style.plot(1.5 + 0.3 * len(shortcuts), grid="x")
    chance: dict[str, Any] = {"color": style.INK, "linewidth": 1, "linestyle": (0, (2, 1.5)), "zorder": 2}
    for place, row in enumerate(shortcuts.to_dict("records")):
        color = style.VERMILLION if row["suspicious"] else style.MUTED
        axes.plot([row["low"], row["high"]], [place, place], color=color, linewidth=2, solid_capstyle="round", zorder=3)
        axes.scatter(row["score"], place, s=46, color=color, edgecolors=style.PAPER, linewidths=1, zorder=4)
        axes.plot([row["chance"]] * 2, [place - 0.42, place + 0.42], **chance)
        style.note(axes, style.percent(row["score"]), (1.02, place), color=color, bold=row["suspicious"])
    style.name_rows(axes, [str(name) for name in shortcuts["name"]])
    for text, suspicious in zip(axes.get_yticklabels(), shortcuts["suspicious"], strict=True):
        text.set_color(style.VERMILLION if suspicious else style.INK)
    axes.set_xlim(0, 1.1)
    style.percent_axis(axes.xaxis)
    style.title(axes, "What gives the label away", "balanced accuracy from this alone, without a look at the picture")
    handles = [
        Line2D([], [], color=style.VERMILLION, marker="o", linewidth=2, label="suspicious"),
        Line2D([], [], color=style.MUTED, marker="o", linewidth=2, label="unsuspicious"),
        Line2D([], [], label="chance", **chance),
    ]
    style.key(axes, handles, drop=18)
    return style.finish(figure)
