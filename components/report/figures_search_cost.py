"""What each trial cost, and how the best score rose with what was spent."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from components.report import style, trial_looks
from components.report.trial_looks import COMPLETED, STATUS_COLORS, STATUS_NAMES

MANY_BARS = 60
"""From here on bars touch each other."""


def trial_cost_figure(trials: pd.DataFrame, *, metric_name: str) -> Figure:
    """Seconds of each trial, coloured by how it ended; beside it the best score against the time spent so far.

    trials: columns trial, status, score (nan for none), seconds, gpu_seconds. The best score is that of the completed
    trials, in the order of their numbers; of all where none was completed.
    """
    heading = "What the trials cost"
    if trials.empty:
        return style.empty_figure(heading, "no trial has run")
    trials = trials.sort_values("trial")
    figure = style.new_figure(style.WIDTH, 3.9)
    cost, rise = figure.subplots(1, 2, width_ratios=[1.7, 1.0])
    _bars(cost, trials)
    _best_so_far(rise, trials, metric_name)
    completed = _any_completed(trials)
    for axes, text in (
        (cost, "Time of each trial"), (rise, f"Best score so far{', of completed trials' if completed else ''}")
    ):  # fmt: skip
        axes.set_title(text, loc="left", fontsize=style.TEXT_SIZE, fontweight="bold", color=style.INK, pad=8)
    trial_looks.figure_heading(figure, heading, _subtitle(trials))
    return style.finish(figure)


def _bars(axes: Axes, trials: pd.DataFrame) -> None:
    style.quiet_axes(axes)
    seconds = trials["seconds"].to_numpy(dtype=float)
    unit, name = trial_looks.time_unit(float(np.nanmax(seconds, initial=0)))
    colors = [STATUS_COLORS.get(status, style.FAINT) for status in trials["status"]]
    numbers = trials["trial"].to_numpy(dtype=float)
    width = 0.76 if len(trials) < MANY_BARS else 1.0
    axes.bar(numbers, seconds / unit, width=width, color=colors, linewidth=0)
    first, last = float(numbers.min()), float(numbers.max())
    spare = max(0.6, (8 - len(trials)) / 2)  # a few bars keep their width
    axes.set_xlim(first - spare, last + spare)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=9, steps=[1, 2, 5, 10]))
    axes.set_xticks([tick for tick in axes.get_xticks() if first <= tick <= last])
    style.label_axes(axes, x="trial, in the order of their start", y=f"time in {name}")
    present = [status for status in STATUS_COLORS if trials["status"].eq(status).any()]
    style.key(axes, [Patch(color=STATUS_COLORS[status], label=STATUS_NAMES[status]) for status in present])


def _best_so_far(axes: Axes, trials: pd.DataFrame, metric_name: str) -> None:
    style.quiet_axes(axes)
    seconds = np.nancumsum(trials["seconds"].to_numpy(dtype=float))
    scores = trial_looks.known_scores(trials)
    if _any_completed(trials):
        scores = np.where(trials["status"].eq(COMPLETED).to_numpy(), scores, np.nan)
    unit, name = trial_looks.time_unit(float(seconds[-1]))
    style.label_axes(axes, x=f"time of all trials so far, in {name}", y=metric_name)
    known = np.isfinite(scores)
    axes.set_xlim(0, max(seconds[-1] / unit, 1e-9) * 1.02)
    if not known.any():
        axes.set_yticks([])
        axes.text(0.5, 0.5, "no trial has a score", transform=axes.transAxes, ha="center", fontsize=style.TEXT_SIZE,
                  color=style.MUTED)  # fmt: skip
        return
    best = np.maximum.accumulate(np.where(known, scores, -np.inf))
    rises = np.flatnonzero(known & (np.diff(best, prepend=-np.inf) > 0))
    places, heights = np.append(seconds[rises], seconds[-1]) / unit, np.append(best[rises], best[-1])
    axes.step(places, heights, where="post", color=style.BLUE, linewidth=1.8)
    axes.scatter(places[:-1], heights[:-1], s=26, color=style.BLUE, edgecolors=style.PAPER, linewidths=0.8, zorder=4)
    low, high = float(heights.min()), float(heights.max())
    edge = 0.12 * (high - low) or 0.01
    axes.set_ylim(low - edge, high + 1.6 * edge)
    late = places[-2] > 0.5 * places[-1]
    axes.annotate(
        f"{style.number(round(high, 4))}, trial {int(trials['trial'].iloc[rises[-1]])}", (places[-2], high),
        xytext=(2 if late else -2, 5), textcoords="offset points", ha="right" if late else "left",
        fontsize=style.TEXT_SIZE, fontweight="bold", color=style.BLUE, path_effects=style.halo(),
    )  # fmt: skip


def _any_completed(trials: pd.DataFrame) -> bool:
    return bool((trials["status"].eq(COMPLETED).to_numpy() & np.isfinite(trial_looks.known_scores(trials))).any())


def _subtitle(trials: pd.DataFrame) -> str:
    """The whole, and the share of each end in it."""
    total = float(trials["seconds"].sum())
    text = f"{trial_looks.duration(total)} in all"
    gpu = float(trials["gpu_seconds"].sum()) if "gpu_seconds" in trials else 0.0
    text += f" ({trial_looks.duration(gpu)} of a GPU)" if gpu > 0 else ""
    spent = trials.groupby("status")["seconds"].sum()
    parts = [
        f"{STATUS_NAMES[status]} {100 * spent[status] / total:.0f} %"
        for status in STATUS_COLORS
        if total > 0 and spent.get(status, 0) >= 0.005 * total
    ]
    return f"{text}: {', '.join(parts)}" if parts else text
