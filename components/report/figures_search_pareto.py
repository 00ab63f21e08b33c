"""Quality against speed: each trial's score and how long its model takes for an image."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from components.report import style, trial_looks
from components.report.trial_looks import COMPLETED

LOG_FROM = 6.0
"""Latencies that differ by more than this factor are drawn on a logarithmic axis."""
LABEL_HEIGHT = 12.0
"""Points of a label's line."""
CHAR_WIDTH = 5.0


def pareto_figure(trials: pd.DataFrame, front: Sequence[int], *, metric_name: str) -> Figure:
    """Score of the completed trials against milliseconds per image; the front, which none beats in both, is a line.

    trials: columns trial, status, score, latency_ms, and backbone, which the labels of the front name if there are
    several. front: the trials on it, as `pareto_front` gives them.
    """
    heading = f"{metric_name} against latency"
    known = _known(trials)
    if known.empty:
        return style.empty_figure(heading, "no completed trial has both a score and a latency")
    figure = style.new_figure(style.WIDTH, 4.3)
    axes = figure.add_subplot()
    style.quiet_axes(axes, grid="both")
    on_front = known["trial"].isin(list(front)).to_numpy()
    latency, scores = known["latency_ms"].to_numpy(dtype=float), known["score"].to_numpy(dtype=float)
    size = 18 if len(known) > 150 else 32
    axes.scatter(latency[~on_front], scores[~on_front], s=size, color=style.FAINT, edgecolors=style.PAPER, zorder=3)
    best = known[on_front].sort_values(["latency_ms", "score"])
    if latency.min() > 0 and latency.max() > LOG_FROM * latency.min():
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: style.number(value)))
        axes.xaxis.set_minor_formatter(NullFormatter())
    low, high = float(scores.min()), float(scores.max())
    edge = 0.08 * (high - low) or 0.01
    axes.set_ylim(low - edge, high + 2.2 * edge)
    _draw_front(axes, best)
    _name_front(axes, best, several=known.get("backbone", pd.Series(dtype=object)).nunique() > 1)
    style.title(axes, heading, _subtitle(known, len(best)))
    style.label_axes(axes, x="milliseconds per image", y=metric_name)
    handles = [Line2D([], [], color=style.BLUE, marker="o", linewidth=1.4, label="Pareto front")] * bool(len(best))
    handles += [Line2D([], [], color=style.FAINT, marker="o", linestyle="", label="beaten")] * bool((~on_front).any())
    style.key(axes, handles)
    return style.finish(figure)


def _known(trials: pd.DataFrame) -> pd.DataFrame:
    """The completed trials with both numbers: the score of a trial that was stopped is that of an early epoch."""
    if "latency_ms" not in trials:
        return trials.iloc[:0]
    done = trials[trials["status"] == COMPLETED]
    return done[np.isfinite(done[["score", "latency_ms"]].to_numpy(dtype=float, na_value=np.nan)).all(axis=1)]


def _draw_front(axes: Axes, best: pd.DataFrame) -> None:
    """Stairs: between two trials of the front, the slower one is not to be had yet."""
    if best.empty:
        return
    latency, scores = best["latency_ms"].to_numpy(dtype=float), best["score"].to_numpy(dtype=float)
    axes.step(latency, scores, where="post", color=style.BLUE, linewidth=1.4, zorder=4)
    axes.scatter(latency, scores, s=48, color=style.BLUE, edgecolors=style.PAPER, linewidths=1, zorder=5)


def _name_front(axes: Axes, best: pd.DataFrame, *, several: bool) -> None:
    """Names at the upper left, where by definition no trial is better; one that would meet another is left out."""
    taken: list[tuple[float, float, float]] = []
    axes.autoscale_view()
    for row in best.iloc[::-1].to_dict("records"):  # the highest score is named in any case
        label = f"{int(row['trial'])}: {row['backbone']}" if several else f"trial {int(row['trial'])}"
        place = (float(row["latency_ms"]), float(row["score"]))
        x, y = axes.transData.transform(place) * 72 / axes.figure.dpi
        room = x - axes.transAxes.transform((0, 0))[0] * 72 / axes.figure.dpi
        width = CHAR_WIDTH * len(label) + 10
        left = room >= width
        start = x - width if left else x
        if any(start < end and begin < start + width and abs(y - other) < LABEL_HEIGHT for begin, end, other in taken):
            continue
        taken.append((start, start + width, y))
        axes.annotate(
            label, place, xytext=(-6 if left else 2, 5), textcoords="offset points", ha="right" if left else "left",
            fontsize=style.SMALL_SIZE, color=style.INK, path_effects=style.halo(), zorder=6,
        )  # fmt: skip


def _subtitle(known: pd.DataFrame, on_front: int) -> str:
    text = f"{trial_looks.counted(len(known), 'completed trial')}; {on_front} on the Pareto front: "
    return text + "no other is as fast and better, or as good and faster"
