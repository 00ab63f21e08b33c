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
_CROSS: dict[str, Any] = {"marker": "x", "markersize": 6, "markeredgewidth": 1.7, "linestyle": "none", "zorder": 4}


def range_tests_figure(records: Sequence[Mapping[str, Any]]) -> Figure:
    """One row per optimizer on one axis of rates: search range, band, suggestion, where it diverges.

    records: of `LrBounds.to_dict`, at least one; their order is kept, top to bottom. With a key `backbone` in them,
    rows are named by it as well.
    """
    figure, axes = style.plot(1.7 + 0.46 * len(records), grid="x")
    axes.set_xscale("log")
    for row, record in enumerate(records):
        _draw_row(axes, row, record)
    several = any("backbone" in record for record in records)
    style.name_rows(
        axes, [", ".join(record[key] for key in ("backbone", "optimizer") if key in record) for record in records]
    )
    ends = [record[key] for record in records for key in ("lower", "upper", "suggested", "lr_div")]
    known = np.log10([end for end in ends if end is not None])
    axes.set_xlim(10 ** (known.min() - 0.3), 10 ** (known.max() + 0.3))
    abstained = sum(bool(record["abstained"]) for record in records)
    style.title(
        axes,
        f"Learning rates by {'backbone and ' if several else ''}optimizer",
        f"{abstained} of {len(records)} abstained and stand{'s' * (abstained == 1)} at the optimizer's defaults (grey)"
        if abstained
        else f"Each measured with this {'recipe' if several else 'model'} and data",
    )
    style.label_axes(axes, x="learning rate")
    style.key(
        axes,
        [
            style.swatch(style.BLUE, 0.25, "search range"),
            style.swatch(style.BLUE, 0.6, "band of the suggestion"),
            Line2D([], [], color=style.BLUE, label="suggestion", **style.DOT),
            Line2D([], [], color=style.VERMILLION, label="diverges", **_CROSS),
        ],
    )
    return style.finish(figure)


def _draw_row(axes: Axes, row: int, record: Mapping[str, Any]) -> None:
    abstained, suggested = record["abstained"], record["suggested"]
    color = style.FAINT if abstained else style.BLUE
    axes.plot([record["lower"], record["upper"]], [row, row], color=color, alpha=0.25, **style.BLOCK)
    if not abstained:
        axes.plot(record["band"], [row, row], color=color, alpha=0.45, **style.BLOCK)
    axes.plot(suggested, row, color=style.MUTED if abstained else color, **style.DOT)
    if record.get("lr_div") is not None:
        axes.plot(record["lr_div"], row, color=style.VERMILLION, **_CROSS)
    style.note(
        axes, f"{'default ' if abstained else ''}{style.rate(suggested)}", (suggested, row), offset=(0, 8), ha="center",
        va="baseline", bold=not abstained, color=style.MUTED if abstained else style.INK, over_lines=True,
    )  # fmt: skip


def weight_decay_figure(curves: pd.DataFrame, verdict: Mapping[str, Any]) -> Figure:
    """The smoothed median curve under each weight decay, its limit a tick on the axis, the recommended one bold.

    curves: of one optimizer: columns weight_decay, seed, step, lr (> 0), loss (nan allowed). verdict: of
    `DecayVerdict.to_dict`.
    """
    title = f"Weight-decay range test: {verdict['optimizer']}"
    usable = curves[np.isfinite(curves["loss"]) & (curves["lr"] > 0)]
    if usable.empty:
        return style.empty_figure(title, "the range tests recorded no finite loss")
    figure, axes = style.plot(4.5)
    axes.set_xscale("log")
    limits = {entry["weight_decay"]: entry["limit"] for entry in verdict["limits"]}
    handles, lowest, start = [], np.inf, 0.0
    for place, (decay, one) in enumerate(usable.groupby("weight_decay", sort=True)):
        color = _DECAYS(place / max(len(limits) - 1, 1))
        rates, losses = _smoothed_median(one)
        chosen, limit = decay == verdict["recommended"], limits[decay]
        found = "abstains" if limit is None else style.rate(limit)
        label = f"weight decay {decay:g}: {found}{' (recommended)' if chosen else ''}"
        width = 2.6 if chosen else 1.3
        handles += axes.plot(rates, losses, color=color, linewidth=width, zorder=4 if chosen else 3, label=label)
        if limit is not None:
            axes.axvline(limit, ymax=0.09, color=color, linewidth=3.0 if chosen else 2.0, zorder=5)
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


def _decay_subtitle(verdict: Mapping[str, Any]) -> str:
    if verdict["recommended"] is None:
        return f"No verdict: {verdict['reason']}"
    measure = MEASURE_NAMES[verdict["measure"]]
    return (
        f"recipe.weight_decay={verdict['recommended']:g}: the largest whose {measure} (ticks) is not reduced by more "
        f"than {verdict['tolerance_decades']:g} decades"
    )
