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

LABEL_SHARE = 0.115
"""What a label takes of the width of the axes; where two would meet, the second goes a row down."""
END_SHARE = 0.13
"""Nearer than this share to the right end, a label stands left of its line."""
FIT_COLOR, FIT_DASHES = style.ORANGE, (0, (4, 1.4))


def range_test_figure(curves: pd.DataFrame, bounds: Mapping[str, Any], title: str) -> Figure:
    """Loss against learning rate, each seed and their median, with the bounds that follow.

    curves: columns seed, step, lr (> 0), loss (nan allowed), heldout_loss (if measured), …; bounds: the record of an
    analysis: lower, suggested, upper, band (low, high), valley, lr_div, abstained, reason, fit {lr, loss}.
    """
    usable = curves[np.isfinite(curves["loss"]) & (curves["lr"] > 0)]
    if usable.empty:
        return style.empty_figure(title, "the range test recorded no finite loss")
    figure = style.new_figure(style.WIDTH, 4.5)
    axes = figure.add_subplot()
    style.quiet_axes(axes)
    axes.set_xscale("log")
    median = usable.groupby("step", sort=True).agg(lr=("lr", "median"), loss=("loss", "median"))
    for _, one in usable.groupby("seed", sort=True):
        axes.plot(one["lr"], one["loss"], color=style.FAINT, linewidth=0.7, alpha=0.9)
    axes.plot(median["lr"], median["loss"], color=style.INK, linewidth=1.5, zorder=4)
    handles = [
        Line2D([], [], color=style.FAINT, linewidth=1, label="one seed"),
        Line2D([], [], color=style.INK, linewidth=1.5, label=_median_of(usable["seed"].nunique())),
        *_fit(axes, bounds),
        *_held_out(axes, usable),
    ]
    axes.set_ylim(*_loss_limits(median["loss"].to_numpy(), room=0.6 if bounds["abstained"] else 0.12))
    axes.set_xlim(float(usable["lr"].min()), float(curves["lr"].max()))
    handles += _mark_bounds(axes, bounds)
    style.title(axes, title, _subtitle(bounds))
    if bounds["abstained"]:
        _say_abstained(axes, str(bounds["reason"]))
    style.label_axes(axes, x="learning rate", y="loss")
    style.key(axes, handles)
    return style.finish(figure)


def _median_of(seeds: int) -> str:
    return f"median of {seeds} seeds" if seeds > 1 else "median (one seed)"


def _fit(axes: Axes, bounds: Mapping[str, Any]) -> list[Line2D]:
    fit = bounds.get("fit") or {}
    rates, losses = fit.get("lr") or [], fit.get("loss") or []
    if not len(rates):
        return []
    axes.plot(rates, losses, color=FIT_COLOR, linewidth=2.0, linestyle=FIT_DASHES, zorder=5)
    return [Line2D([], [], color=FIT_COLOR, linewidth=2.0, linestyle=FIT_DASHES, label="decreasing fit")]


def _held_out(axes: Axes, usable: pd.DataFrame) -> list[Line2D]:
    """The median held-out loss, where it was measured."""
    if "heldout_loss" not in usable:
        return []
    measured = usable[np.isfinite(usable["heldout_loss"].to_numpy(dtype=float))]
    if measured.empty:
        return []
    median = measured.groupby("step", sort=True)[["lr", "heldout_loss"]].median()
    look = {"color": style.PURPLE, "marker": "o", "markersize": 3.6, "linestyle": "none"}
    axes.plot(median["lr"], median["heldout_loss"], zorder=4.5, **look)  # type: ignore[arg-type]
    return [Line2D([], [], label="held-out images", **look)]  # type: ignore[arg-type]


def _loss_limits(losses: np.ndarray, *, room: float) -> tuple[float, float]:
    """The fall and the start of the rise; a divergence would flatten everything else. room: share left below."""
    start, least = float(np.median(losses[: max(len(losses) // 8, 1)])), float(losses.min())
    drop = max(start - least, 0.25 * abs(start), 1e-6)  # a flat loss has to look flat
    return least - room * drop, min(float(losses.max()), start + 0.8 * drop) + 0.34 * drop


def _mark_bounds(axes: Axes, bounds: Mapping[str, Any]) -> list[Line2D]:
    """Lines and spans of what was found, each named; returns what the key has to say of the spans."""
    lower, upper, suggested = bounds["lower"], bounds["upper"], bounds["suggested"]
    color = style.MUTED if bounds["abstained"] else style.BLUE
    axes.axvspan(lower, upper, color=color, alpha=0.07, linewidth=0)
    handles = [_patch(color, 0.14, "default range" if bounds["abstained"] else "search range")]
    if bounds.get("band") and not bounds["abstained"] and None not in bounds["band"]:
        axes.axvspan(*bounds["band"], color=color, alpha=0.20, linewidth=0)
        handles.append(_patch(color, 0.32, "band of the suggestion"))
    marks = [(lower, "lower", color, 1.0, "-"), (upper, "upper", color, 1.0, "-")]
    if suggested is not None:
        marks.append((suggested, "default" if bounds["abstained"] else "suggested", color, 2.0, "-"))
    if bounds.get("valley") is not None:
        marks.append((bounds["valley"], "valley", style.GREEN, 1.3, ":"))
    low, high = axes.get_xlim()
    if bounds.get("lr_div") is not None:
        marks.append((bounds["lr_div"], "diverges", style.VERMILLION, 1.3, (0, (2, 1.5))))  # type: ignore[arg-type]
        axes.axvspan(bounds["lr_div"], high, color=style.VERMILLION, alpha=0.06, linewidth=0)
    row, taken = 0, -np.inf
    for place, name, color, width, dashes in sorted(mark for mark in marks if low <= mark[0] <= high):
        share = np.log10(place / low) / np.log10(high / low)
        flipped = share > 1 - END_SHARE
        row = row + 1 if share - flipped * LABEL_SHARE < taken else 0
        taken = share + (not flipped) * LABEL_SHARE
        axes.axvline(place, color=color, linewidth=width, linestyle=dashes, zorder=3)
        _name_mark(axes, place, f"{name} {style.rate(place)}", color, row=row, flipped=flipped)
    return handles


def _name_mark(axes: Axes, place: float, text: str, color: str, *, row: int, flipped: bool) -> None:
    axes.annotate(
        text,
        (place, 1),
        xytext=(-4 if flipped else 4, -4 - 12 * row),
        xycoords=("data", "axes fraction"),
        textcoords="offset points",
        ha="right" if flipped else "left",
        va="top",
        fontsize=style.SMALL_SIZE,
        fontweight="bold" if text.startswith(("suggested", "default")) else "normal",
        color=color,
        zorder=6,
        path_effects=style.halo(),
    )


def _patch(color: str, alpha: float, label: str) -> Line2D:
    """A block of the key, as wide as its lines."""
    return Line2D([], [], color=color, alpha=alpha, linewidth=7, solid_capstyle="butt", label=label)


def _subtitle(bounds: Mapping[str, Any]) -> str:
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
