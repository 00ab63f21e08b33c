"""Several range tests at a glance: the optimizers beside each other, and one optimizer under several weight decays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from components.report import style

MEASURE_NAMES = {"lr_div": "diverging rate", "lr_min": "rate of lowest loss"}
_DECAYS = LinearSegmentedColormap.from_list("decays", [style.SKY, style.BLUE, style.PURPLE, style.VERMILLION])
_SMOOTHING_DECADES = 0.1


def range_tests_figure(records: Sequence[Mapping[str, Any]]) -> Figure:
    """One row per optimizer on one axis of rates: search range, band, suggestion, where it diverges.

    records: of `LrBounds.to_dict`, at least one; their order is kept, top to bottom. With a key `backbone` in them,
    rows are named by it as well.
    """
    figure = style.new_figure(style.WIDTH, 1.7 + 0.46 * len(records))
    axes = figure.add_subplot()
    style.quiet_axes(axes, grid="x")
    axes.set_xscale("log")
    for row, record in enumerate(records):
        _draw_row(axes, row, record)
    axes.set_ylim(len(records) - 0.4, -0.6)
    axes.set_yticks(range(len(records)), [_row_name(record) for record in records])
    axes.tick_params(axis="y", length=0, labelsize=style.TEXT_SIZE, labelcolor=style.INK)
    axes.spines["left"].set_visible(False)
    axes.set_xlim(*_rate_limits(records))
    abstained = sum(bool(record["abstained"]) for record in records)
    said = (
        f"{abstained} of {len(records)} abstained and stand{'s' * (abstained == 1)} at the optimizer's defaults (grey)"
    )
    several = any("backbone" in record for record in records)
    heading = "Learning rates by backbone and optimizer" if several else "Learning rates by optimizer"
    by = "recipe" if several else "model"
    style.title(axes, heading, said if abstained else f"Each measured with this {by} and data")
    style.label_axes(axes, x="learning rate")
    style.key(axes, _row_key())
    return style.finish(figure)


def _row_name(record: Mapping[str, Any]) -> str:
    return f"{record['backbone']}, {record['optimizer']}" if "backbone" in record else str(record["optimizer"])


def _draw_row(axes: Axes, row: int, record: Mapping[str, Any]) -> None:
    color = style.FAINT if record["abstained"] else style.BLUE
    axes.plot([record["lower"], record["upper"]], [row, row], color=color, alpha=0.25, **_BLOCK)  # type: ignore[arg-type]
    if not record["abstained"]:
        axes.plot(record["band"], [row, row], color=color, alpha=0.45, **_BLOCK)  # type: ignore[arg-type]
    axes.plot(record["suggested"], row, color=style.MUTED if record["abstained"] else color, **_DOT)  # type: ignore[arg-type]
    if record.get("lr_div") is not None:
        axes.plot(record["lr_div"], row, color=style.VERMILLION, **_CROSS)  # type: ignore[arg-type]
    axes.annotate(
        f"default {style.rate(record['suggested'])}" if record["abstained"] else style.rate(record["suggested"]),
        (record["suggested"], row),
        xytext=(0, 8),
        textcoords="offset points",
        ha="center",
        fontsize=style.SMALL_SIZE,
        fontweight="normal" if record["abstained"] else "bold",
        color=style.MUTED if record["abstained"] else style.INK,
        path_effects=style.halo(),
        zorder=6,
    )


_BLOCK = {"linewidth": 9, "solid_capstyle": "butt", "zorder": 2}
_DOT = {"marker": "o", "markersize": 6.5, "linestyle": "none", "zorder": 5}
_CROSS = {"marker": "x", "markersize": 6, "markeredgewidth": 1.7, "linestyle": "none", "zorder": 4}


def _rate_limits(records: Sequence[Mapping[str, Any]]) -> tuple[float, float]:
    ends = [record[key] for record in records for key in ("lower", "upper", "suggested", "lr_div")]
    known = [end for end in ends if end is not None]
    return 10 ** (np.log10(min(known)) - 0.3), 10 ** (np.log10(max(known)) + 0.3)


def _row_key() -> list[Line2D]:
    return [
        Line2D([], [], color=style.BLUE, alpha=0.25, linewidth=7, solid_capstyle="butt", label="search range"),
        Line2D([], [], color=style.BLUE, alpha=0.6, linewidth=7, solid_capstyle="butt", label="band of the suggestion"),
        Line2D([], [], color=style.BLUE, label="suggestion", **_DOT),  # type: ignore[arg-type]
        Line2D([], [], color=style.VERMILLION, label="diverges", **_CROSS),  # type: ignore[arg-type]
    ]


def weight_decay_figure(curves: pd.DataFrame, verdict: Mapping[str, Any]) -> Figure:
    """The smoothed median curve under each weight decay, its limit a tick on the axis, the recommended one bold.

    curves: of one optimizer: columns weight_decay, seed, step, lr (> 0), loss (nan allowed). verdict: of
    `DecayVerdict.to_dict`.
    """
    title = f"Weight-decay range test: {verdict['optimizer']}"
    usable = curves[np.isfinite(curves["loss"]) & (curves["lr"] > 0)]
    if usable.empty:
        return style.empty_figure(title, "the range tests recorded no finite loss")
    figure = style.new_figure(style.WIDTH, 4.5)
    axes = figure.add_subplot()
    style.quiet_axes(axes)
    axes.set_xscale("log")
    limits = {entry["weight_decay"]: entry for entry in verdict["limits"]}
    handles, lowest, start = [], np.inf, 0.0
    for place, (decay, one) in enumerate(usable.groupby("weight_decay", sort=True)):
        color = _DECAYS(place / max(len(limits) - 1, 1))
        rates, losses = _smoothed_median(one)
        chosen = decay == verdict["recommended"]
        axes.plot(rates, losses, color=color, linewidth=2.6 if chosen else 1.3, zorder=4 if chosen else 3)
        handles.append(
            Line2D([], [], color=color, linewidth=2.6 if chosen else 1.3, label=_label(limits[decay], chosen))
        )
        if limits[decay]["limit"] is not None:
            axes.axvline(limits[decay]["limit"], ymax=0.09, color=color, linewidth=3.0 if chosen else 2.0, zorder=5)
        lowest, start = min(lowest, float(losses.min())), max(start, float(losses[0]))
    drop = max(start - lowest, 0.25 * start, 1e-6)
    axes.set_ylim(lowest - 0.12 * drop, start + 0.8 * drop)
    axes.set_xlim(float(usable["lr"].min()), float(usable["lr"].max()))
    style.title(axes, title, _decay_subtitle(verdict))
    style.label_axes(axes, x="learning rate", y="training loss, median of the seeds")
    style.key(axes, handles)
    return style.finish(figure)


def _smoothed_median(one: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    median = one.groupby("step", sort=True)[["lr", "loss"]].median()
    rates = median["lr"].to_numpy()
    apart = (np.log10(rates)[:, None] - np.log10(rates)[None, :]) / _SMOOTHING_DECADES
    weights = np.exp(-0.5 * apart**2)
    return rates, weights @ median["loss"].to_numpy() / weights.sum(axis=1)


def _label(entry: Mapping[str, Any], chosen: bool) -> str:
    limit = "abstains" if entry["limit"] is None else style.rate(entry["limit"])
    return f"weight decay {entry['weight_decay']:g}: {limit}{' (recommended)' if chosen else ''}"


def _decay_subtitle(verdict: Mapping[str, Any]) -> str:
    if verdict["recommended"] is None:
        return f"No verdict: {verdict['reason']}"
    measure = MEASURE_NAMES[verdict["measure"]]
    return (
        f"recipe.weight_decay={verdict['recommended']:g}: the largest whose {measure} (ticks) is not reduced by more "
        f"than {verdict['tolerance_decades']:g} decades"
    )
