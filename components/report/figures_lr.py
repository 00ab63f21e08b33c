"""The figure of the range test: the loss as the learning rate rises, with the bounds that follow."""

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
REASON_COLUMNS = 64


def range_test_figure(curves: pd.DataFrame, bounds: Mapping[str, Any], title: str) -> Figure:
    """Loss against learning rate, each seed and their median, with the bounds that follow.

    curves: columns seed, step, lr (> 0), loss (nan allowed), heldout_loss (if measured), …; bounds: the record of an
    analysis: lower, suggested, upper, band (low, high), valley, lr_div, abstained, reason, fit {lr, loss}.
    """
    usable = curves[np.isfinite(curves["loss"]) & (curves["lr"] > 0)]
    if usable.empty:
        return style.empty_figure(title, "the range test recorded no finite loss")
    figure, axes = style.plot(4.5)
    axes.set_xscale("log")
    median = usable.groupby("step", sort=True).agg(lr=("lr", "median"), loss=("loss", "median"))
    seeds = [
        axes.plot(one["lr"], one["loss"], color=style.FAINT, linewidth=0.7, alpha=0.9, label="one seed")[0]
        for _, one in usable.groupby("seed", sort=True)
    ]
    name = f"median of {len(seeds)} seeds" if len(seeds) > 1 else "median (one seed)"
    handles = [
        seeds[0],
        *axes.plot(median["lr"], median["loss"], color=style.INK, linewidth=1.5, zorder=4, label=name),
        *_fit(axes, bounds),
        *_held_out(axes, usable),
    ]
    axes.set_ylim(*_loss_limits(median["loss"].to_numpy(), room=0.6 if bounds["abstained"] else 0.12))
    axes.set_xlim(float(usable["lr"].min()), float(curves["lr"].max()))
    handles += _spans(axes, bounds)
    _mark_rates(axes, bounds)
    span = f"{style.rate(bounds['lower'])} … {style.rate(bounds['upper'])}"
    if bounds["abstained"]:
        style.title(axes, title, f"The test abstains; the search uses the optimizer's default range {span}")
        axes.annotate(
            textwrap.fill(f"No verdict: {bounds['reason']}", REASON_COLUMNS), (0.02, 0.05), xycoords="axes fraction",
            va="bottom", fontsize=style.TEXT_SIZE, color=style.INK, zorder=7,
            bbox={"facecolor": "#FFF4DE", "edgecolor": style.ORANGE, "linewidth": 0.8, "boxstyle": "round,pad=0.5"},
        )  # fmt: skip
    else:
        style.title(axes, title, f"Search range {span}, suggestion {style.rate(bounds['suggested'])}")
    style.label_axes(axes, x="learning rate", y="loss")
    style.key(axes, handles)
    return style.finish(figure)


def _fit(axes: Axes, bounds: Mapping[str, Any]) -> list[Line2D]:
    fit = bounds.get("fit") or {}
    rates, losses = fit.get("lr") or [], fit.get("loss") or []
    if not rates:
        return []
    return axes.plot(
        rates, losses, color=style.ORANGE, linewidth=2.0, linestyle=(0, (4, 1.4)), zorder=5, label="decreasing fit"
    )


def _held_out(axes: Axes, usable: pd.DataFrame) -> list[Line2D]:
    if "heldout_loss" not in usable or usable["heldout_loss"].isna().all():
        return []
    measured = usable[np.isfinite(usable["heldout_loss"].to_numpy(dtype=float))]
    median = measured.groupby("step", sort=True)[["lr", "heldout_loss"]].median()
    return axes.plot(
        median["lr"], median["heldout_loss"], color=style.PURPLE, marker="o", markersize=3.6, linestyle="none",
        zorder=4.5, label="held-out images",
    )  # fmt: skip


def _loss_limits(losses: np.ndarray, *, room: float) -> tuple[float, float]:
    """The fall and the start of the rise; a divergence would flatten everything else. room: share left below."""
    start, least = float(np.median(losses[: max(len(losses) // 8, 1)])), float(losses.min())
    drop = max(start - least, 0.25 * abs(start), 1e-6)  # a flat loss has to look flat
    return least - room * drop, min(float(losses.max()), start + 0.8 * drop) + 0.34 * drop


def _spans(axes: Axes, bounds: Mapping[str, Any]) -> list[Line2D]:
    """Shade the range, the band of the suggestion, and what lies beyond the divergence; what the key says of them."""
    color = style.MUTED if bounds["abstained"] else style.BLUE
    axes.axvspan(bounds["lower"], bounds["upper"], color=color, alpha=0.07, linewidth=0)
    handles = [style.swatch(color, 0.14, "default range" if bounds["abstained"] else "search range")]
    if bounds.get("band") and not bounds["abstained"] and None not in bounds["band"]:
        axes.axvspan(*bounds["band"], color=color, alpha=0.20, linewidth=0)
        handles.append(style.swatch(color, 0.32, "band of the suggestion"))
    if bounds.get("lr_div") is not None:
        axes.axvspan(bounds["lr_div"], axes.get_xlim()[1], color=style.VERMILLION, alpha=0.06, linewidth=0)
    return handles


def _mark_rates(axes: Axes, bounds: Mapping[str, Any]) -> None:
    color = style.MUTED if bounds["abstained"] else style.BLUE
    marks: list[tuple[float | None, str, str, float, Any]] = [
        (bounds["lower"], "lower", color, 1.0, "-"),
        (bounds["upper"], "upper", color, 1.0, "-"),
        (bounds["suggested"], "default" if bounds["abstained"] else "suggested", color, 2.0, "-"),
        (bounds.get("valley"), "valley", style.GREEN, 1.3, ":"),
        (bounds.get("lr_div"), "diverges", style.VERMILLION, 1.3, (0, (2, 1.5))),
    ]
    low, high = axes.get_xlim()
    shown = [(rate, *rest) for rate, *rest in marks if rate is not None and low <= rate <= high]
    row, taken = 0, -np.inf
    for rate, name, color, width, dashes in sorted(shown, key=lambda mark: mark[0]):
        share = np.log10(rate / low) / np.log10(high / low)
        at_end = share > 1 - END_SHARE
        row = row + 1 if share - at_end * LABEL_SHARE < taken else 0
        taken = share + (not at_end) * LABEL_SHARE
        axes.axvline(rate, color=color, linewidth=width, linestyle=dashes, zorder=3)
        style.note(
            axes, f"{name} {style.rate(rate)}", (rate, 1), offset=(-4 if at_end else 4, -4 - 12 * row),
            at=("data", "axes fraction"), ha="right" if at_end else "left", va="top", color=color,
            bold=name in ("suggested", "default"), over_lines=True,
        )  # fmt: skip
