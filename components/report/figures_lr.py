"""The figure of the range test: the loss as the learning rate rises, and the bounds that follow from it."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from components.report import style

CLOSE_DECADES = 0.55
"""Labels of lines nearer to each other than this go on rows of their own."""


def range_test_figure(curves: pd.DataFrame, bounds: Mapping[str, Any], title: str) -> Figure:
    """Loss against learning rate, each seed and their median, with the bounds that follow.

    curves: columns seed, step, lr (> 0), loss (nan allowed), …; bounds: the record of an analysis: lower,
    suggested, upper, band (low, high), valley, abstained, reason, fit {lr, loss}.
    """
    usable = curves[np.isfinite(curves["loss"]) & (curves["lr"] > 0)]
    if usable.empty:
        return style.empty_figure(title, "the range test recorded no finite loss")
    figure = style.new_figure(style.WIDTH, 4.3)
    axes = figure.add_subplot()
    style.quiet_axes(axes)
    axes.set_xscale("log")
    median = usable.groupby("step", sort=True).agg(lr=("lr", "median"), loss=("loss", "median"))
    for _, one in usable.groupby("seed", sort=True):
        axes.plot(one["lr"], one["loss"], color=style.FAINT, linewidth=0.7, alpha=0.8)
    axes.plot(median["lr"], median["loss"], color=style.INK, linewidth=1.6, zorder=4)
    fitted = _fit(axes, bounds)
    axes.set_ylim(*_loss_limits(median["loss"].to_numpy()))
    axes.set_xlim(float(usable["lr"].min()), float(usable["lr"].max()))
    _mark_bounds(axes, bounds)
    style.title(axes, title, _range_subtitle(bounds))
    if bounds["abstained"]:
        _say_abstained(axes, str(bounds["reason"]))
    style.label_axes(axes, x="learning rate", y="training loss")
    _range_key(axes, seeds=usable["seed"].nunique(), fitted=fitted)
    return style.finish(figure)


def _fit(axes: Axes, bounds: Mapping[str, Any]) -> bool:
    fit = bounds.get("fit") or {}
    rates, losses = fit.get("lr") or [], fit.get("loss") or []
    if len(rates):
        axes.plot(rates, losses, color=style.VERMILLION, linewidth=1.6, linestyle=(0, (4, 1.6)), zorder=5)
    return len(rates) > 0


def _loss_limits(losses: np.ndarray) -> tuple[float, float]:
    """The fall and the start of the rise; a divergence would flatten everything else."""
    start, least = float(np.median(losses[: max(len(losses) // 8, 1)])), float(losses.min())
    drop = max(start - least, 0.25 * abs(start), 1e-6)  # a flat loss has to look flat
    return least - 0.12 * drop, min(float(losses.max()), start + 0.8 * drop) + 0.28 * drop


def _mark_bounds(axes: Axes, bounds: Mapping[str, Any]) -> None:
    lower, upper, suggested = bounds["lower"], bounds["upper"], bounds["suggested"]
    axes.axvspan(lower, upper, color=style.BLUE, alpha=0.07, linewidth=0)
    if bounds.get("band") and not bounds["abstained"] and None not in bounds["band"]:
        axes.axvspan(*bounds["band"], color=style.BLUE, alpha=0.16, linewidth=0)
    marks = [(lower, "lower", style.BLUE, 1.0, "-"), (upper, "upper", style.BLUE, 1.0, "-")]
    if suggested is not None:
        marks.append((suggested, "default" if bounds["abstained"] else "suggested", style.BLUE, 2.0, "-"))
    if bounds.get("valley") is not None:
        marks.append((bounds["valley"], "valley", style.GREEN, 1.0, ":"))
    row, previous = 0, -np.inf
    low, high = axes.get_xlim()
    for place, name, color, width, dashes in sorted(mark for mark in marks if low <= mark[0] <= high):
        row = row + 1 if np.log10(place) - previous < CLOSE_DECADES else 0
        previous = np.log10(place)
        axes.axvline(place, color=color, linewidth=width, linestyle=dashes, zorder=3)
        axes.annotate(
            f"{name} {style.rate(place)}",
            (place, 1),
            xytext=(4, -4 - 12 * row),
            xycoords=("data", "axes fraction"),
            textcoords="offset points",
            va="top",
            fontsize=style.SMALL_SIZE,
            fontweight="bold" if width > 1 else "normal",
            color=color,
            zorder=6,
            path_effects=style.halo(),
        )


def _range_subtitle(bounds: Mapping[str, Any]) -> str:
    span = f"{style.rate(bounds['lower'])} … {style.rate(bounds['upper'])}"
    if bounds["abstained"]:
        return f"The test abstains; the search uses the optimizer's default range {span}"
    return f"Search range {span}, suggestion {style.rate(bounds['suggested'])}"


def _say_abstained(axes: Axes, reason: str) -> None:
    axes.annotate(
        textwrap.fill(f"No verdict: {reason}", 64),
        (0.02, 0.05),
        xycoords="axes fraction",
        va="bottom",
        fontsize=style.TEXT_SIZE,
        color=style.INK,
        zorder=7,
        bbox={
            "facecolor": "#FFF4DE",
            "edgecolor": style.ORANGE,
            "linewidth": 0.8,
            "boxstyle": "round,pad=0.5",
        },
    )


def _range_key(axes: Axes, *, seeds: int, fitted: bool) -> None:
    lines = [
        Line2D([], [], color=style.FAINT, linewidth=1, label="one seed"),
        Line2D([], [], color=style.INK, linewidth=1.6, label=f"median of {seeds} seed{'s' if seeds > 1 else ''}"),
    ]
    if fitted:
        lines.append(
            Line2D([], [], color=style.VERMILLION, linewidth=1.6, linestyle=(0, (4, 1.6)), label="decreasing fit")
        )
    style.key(axes, lines)
