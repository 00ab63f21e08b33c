"""Figures of the comparison of methods: what each reaches with its interval, how it got there, and its rates.

Small multiples: a panel per method in front of all others in grey, so that none hides another and no colour has to be
looked up.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import zip_longest

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from components.report import pictures, style

COLUMNS = 5
NAME_CHARS = 21
"""A method's name is broken into lines of this many characters."""
METRIC_NAMES = {"auroc": "AUROC", "val_loss": "validation loss"}
MAX_RATE_POINTS = 240
"""A curve of rates is thinned to so many points."""


def comparison_dots(
    intervals: Mapping[str, pd.DataFrame], single: pd.DataFrame, within_noise: Mapping[str, bool | None]
) -> Figure:
    """A panel per metric, a row per method: the mean with its interval, and each seed as a stroke.

    intervals: metric (a share, in [0, 1]) → columns entry, mean, low, high (nan where unknown), in the order of the
    rows. single: columns entry and the metrics, a row per training. within_noise: whether a method is within the noise
    of the best, None where that is not known; one that is not is drawn grey.
    """
    if not intervals or next(iter(intervals.values())).empty:
        return style.empty_figure("Results", "no method has been trained")
    names = [str(name) for name in next(iter(intervals.values()))["entry"]]
    figure = style.new_figure(style.WIDTH, 1.5 + 0.32 * len(names))
    panels = figure.subplots(1, len(intervals), sharey=True, squeeze=False)[0]
    for axes, (metric, table) in zip(panels, intervals.items(), strict=True):
        style.quiet_axes(axes, grid="x")
        _dots(axes, table, single[["entry", metric]], within_noise)
        axes.set_title(_name(metric), loc="left", fontsize=style.TITLE_SIZE, fontweight="bold", color=style.INK, pad=8)
        axes.xaxis.set_major_locator(MaxNLocator(nbins=4, prune=None))
        style.name_rows(axes, names)
        axes.tick_params(labelleft=axes is panels[0])
    panels[0].get_yticklabels()[0].set_fontweight("bold")
    known = None not in within_noise.values()
    blue = (
        "within the noise of the best (mean, 95 % interval over seeds)" if known else "mean, 95 % interval over seeds"
    )
    handles = [Line2D([], [], color=style.BLUE, marker="o", linewidth=1.8, label=blue)]
    if known and False in within_noise.values():
        handles.append(Line2D([], [], color=style.FAINT, marker="o", linewidth=1.8, label="worse than the best"))
    figure.legend(handles=handles, loc="outside lower left", frameon=False, fontsize=style.SMALL_SIZE,
                  labelcolor=style.MUTED, ncols=2)  # fmt: skip
    return style.finish(figure)


def comparison_curves(curves: pd.DataFrame, *, metric: str, order: Sequence[str]) -> Figure:
    """The metric after each epoch: a panel per method, its mean over seeds in blue, its seeds thin, the others grey.

    curves: columns entry, seed, epoch and the metric, nan where it has no value. order: of the panels. The height of
    all panels is that of the methods' means.
    """
    title = f"{_name(metric)[:1].upper()}{_name(metric)[1:]} after each epoch"
    known = curves[np.isfinite(curves[metric].to_numpy(dtype=float))] if metric in curves else curves.iloc[:0]
    if known.empty:
        return style.empty_figure(title, "nothing was measured")
    means = known.groupby(["entry", "epoch"])[metric].mean().unstack("entry")
    figure, panels = _panels(
        order, title, "blue: mean and single seeds; grey: the means of the other methods", x="epoch"
    )
    for name, axes in panels.items():
        axes.plot(means.index, means.drop(columns=name, errors="ignore"), color=style.FAINT, alpha=0.45, linewidth=0.9)
        for _, one in known[known["entry"] == name].groupby("seed"):
            axes.plot(one["epoch"], one[metric], color=style.BLUE, linewidth=0.7, alpha=0.45, zorder=3)
        if name in means:
            marker = "o" if len(means) == 1 else ""
            axes.plot(means.index, means[name], color=style.BLUE, linewidth=2.0, marker=marker, markersize=4, zorder=4)
        else:
            style.note(axes, "no whole epoch", (0.5, 0.5), at="axes fraction", ha="center", color=style.MUTED)
        axes.set_ylim(*_limits(means.to_numpy()))
    return style.finish(figure)


def comparison_rates(rates: pd.DataFrame, *, order: Sequence[str]) -> Figure:
    """The rate of the fastest group at every step as a share of the method's highest; a panel per method.

    rates: columns entry, seed, step, lr (≥ 0). Its highest rate is written into the panel. The seeds of a method have
    the same curve unless its schedule depends on the loss.
    """
    title = "Learning rate at every step"
    if rates.empty:
        return style.empty_figure(title, "no step was taken")
    figure, panels = _panels(order, title, "of the fastest group, as a share of the method's own peak", x="step")
    for name, axes in panels.items():
        own = rates[rates["entry"] == name]
        peak = float(own["lr"].max()) if len(own) else 0.0
        if peak > 0:
            for _, one in own.groupby("seed"):
                shown = one.iloc[:: max(1, len(one) // MAX_RATE_POINTS)]
                axes.plot(shown["step"], shown["lr"] / peak, color=style.GREEN, linewidth=1.6, alpha=0.75, zorder=3)
            style.note(
                axes, f"peak {style.rate(peak)}", (0.99, 0.97), at="axes fraction", ha="right", va="top",
                color=style.MUTED, over_lines=True,
            )  # fmt: skip
        else:
            style.note(axes, "no step", (0.5, 0.5), at="axes fraction", ha="center", color=style.MUTED)
        axes.set(ylim=(0, 1.32), xlim=(0, int(rates["step"].max()) * 1.02))
        axes.set_yticks([0, 0.5, 1], ["0", "½", "peak"])
    return style.finish(figure)


def _dots(axes: Axes, table: pd.DataFrame, single: pd.DataFrame, within_noise: Mapping[str, bool | None]) -> None:
    metric = single.columns[1]
    for place, row in enumerate(table.to_dict("records")):
        color = style.FAINT if within_noise.get(str(row["entry"])) is False else style.BLUE
        seeds = single.loc[single["entry"] == row["entry"], metric].dropna().to_numpy(dtype=float)
        axes.scatter(seeds, np.full(len(seeds), place), s=42, marker="|", color=color, linewidths=1.0, zorder=3)
        if math.isfinite(row["mean"]):
            if math.isfinite(row["low"]):
                axes.plot([row["low"], row["high"]], [place] * 2, color=color, linewidth=1.8, solid_capstyle="round")
            axes.scatter(row["mean"], place, s=46, color=color, edgecolors=style.PAPER, linewidths=1, zorder=4)
    shown = single.loc[single["entry"].isin(table["entry"]), metric]
    low, high = _limits(np.concatenate([shown.to_numpy(dtype=float), table["mean"].to_numpy(dtype=float)]))
    # A t interval of few seeds is wide: the axis shows the seeds, and as much of the intervals as twice their span.
    ends = table[["low", "high"]].to_numpy(dtype=float)
    ends = ends[np.isfinite(ends)]
    if ends.size:
        span = high - low
        low, high = max(min(low, float(ends.min())), low - span / 2), min(max(high, float(ends.max())), high + span / 2)
    axes.set_xlim(max(low, -0.04), min(high, 1.0 + 0.04 * (1 - low)))  # a share goes no further, whatever t says


def _panels(order: Sequence[str], title: str, subtitle: str, *, x: str) -> tuple[Figure, dict[str, Axes]]:
    """A panel for each name, with one axis of each kind in common. x: name of the lower axis, under the lowest panels.

    The title stands over all panels, in a strip that the layout leaves free.
    """
    columns = min(COLUMNS, max(len(order), 3))
    rows = -(-len(order) // columns)
    figure = style.new_figure(style.WIDTH, pictures.PANELS_HEADING + 1.75 * rows + 0.25)
    pictures.panels_heading(figure, title, subtitle)
    grid = list(figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False).flat)
    for number, (axes, name) in enumerate(zip_longest(grid, order)):
        if name is None:
            axes.set_visible(False)
            continue
        style.quiet_axes(axes)
        axes.set_title(pictures.wrapped(name, NAME_CHARS, lines=2), loc="left", fontsize=style.TEXT_SIZE,
                       fontweight="bold", color=style.INK, pad=5)  # fmt: skip
        lowest = number + columns >= len(order)
        axes.tick_params(labelbottom=lowest, labelleft=number % columns == 0)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=4))
        style.label_axes(axes, x=x if lowest else "")
    return figure, dict(zip(order, grid, strict=False))


def _limits(values: np.ndarray) -> tuple[float, float]:
    """The span of what is known, a little wider. A loss that blew up is cut: it would press all others into a line."""
    known = values[np.isfinite(values)]
    if not known.size:
        return 0.0, 1.0
    low, middle, high = (float(value) for value in np.quantile(known, [0, 0.5, 1]))
    if middle > low:
        high = min(high, middle + 6 * (middle - low))
    edge = 0.06 * (high - low) if high > low else max(0.02 * abs(low), 1e-3)
    return low - edge, high + edge


def _name(metric: str) -> str:
    return METRIC_NAMES.get(metric, metric.replace("_", " "))
