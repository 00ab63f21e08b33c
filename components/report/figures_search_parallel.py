"""Parallel coordinates of a search: an axis per searched key, a line per trial, the score as the last axis and colour.

More keys than fit beside each other go on in a second row, with the score at its end again.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure

from components.display import shortened
from components.report import pictures, style, trial_looks
from components.report.parallel_axes import Axis, axis_of, numeric_axis
from components.report.trial_looks import COMPLETED

MAX_AXES = 8
"""Keys in a row."""
HEIGHT = 3.1
"""Inches of a row's axes."""
ABSENT = -0.1
"""Height of the place for a key that was not searched in a trial, and for a trial without a score, below the axes."""
LABEL_HEIGHT = 0.135
"""What a label of two lines takes of the height of the axes."""
SPAN = np.linspace(0, 1, 17)
EASED = SPAN * SPAN * (3 - 2 * SPAN)
"""A line leaves and reaches an axis at a right angle, so that the eye can follow it across."""
CONTRAST = 2.0
"""Shares of the score axis are raised to this power for their colour: what matters is which lines end near the top."""
_SCORES = LinearSegmentedColormap.from_list("scores", ["#C3D9E8", "#8FC3E4", style.BLUE, "#052B47"])


def parallel_coordinates(
    trials: pd.DataFrame,
    dimensions: Mapping[str, str],
    *,
    best_trial: object,
    default_trial: object,
    metric_name: str,
) -> Figure:
    """A line per trial through its settings to its score: the darker the higher, thin if it did not run to its end.

    trials: columns trial, status, score (nan for none) and those of the dimensions, missing where a key was not
    searched. dimensions: column → "log", "linear" or "choice", from left to right. best_trial, default_trial: values of
    `trial`, None for none.
    """
    heading = f"Search: settings and {metric_name}"
    if trials.empty or not dimensions:
        return style.empty_figure(heading, "no trial has run" if trials.empty else "no key was searched")
    scores = trial_looks.known_scores(trials)
    order = np.argsort(np.where(np.isfinite(scores), scores, -np.inf), kind="stable")
    trials, scores = trials.iloc[order], scores[order]  # the best are drawn last, in front
    axes_of = [axis_of(name, trials[name], scale) for name, scale in dimensions.items()]
    score_axis = numeric_axis(metric_name, scores, log=False)
    if len(score_axis.ticks) == 1:  # one score: the label of its trial says it
        score_axis = replace(score_axis, ticks=[])
    rows = -(-len(axes_of) // MAX_AXES)
    per_row = -(-len(axes_of) // rows)
    subtitle = _subtitle(trials, scores)
    figure = style.new_figure(style.WIDTH, trial_looks.heading_height(subtitle) + (HEIGHT + 0.7) * rows)
    named = _named(best_trial, default_trial)
    for row, axes in enumerate(figure.subplots(rows, 1, squeeze=False)[:, 0]):
        shown = [*axes_of[row * per_row : (row + 1) * per_row], score_axis]
        _prepare(axes, shown, places=per_row + 1)
        _lines(axes, shown, trials, scores)
        _emphasised(axes, shown, trials, scores, named)
    trial_looks.figure_heading(figure, heading, subtitle)
    return style.finish(figure)


def _prepare(axes: Axes, shown: Sequence[Axis], *, places: int) -> None:
    """Axes, ticks and names; the last axis is the score's, with its colours along it."""
    axes.set_axis_off()
    axes.set_xlim(-0.04, (places - 1) * 1.13)
    lacks = any(np.isnan(axis.heights).any() for axis in shown)
    axes.set_ylim(ABSENT - 0.05 if lacks else -0.03, 1.03)
    chars = int(130 / places)
    for x, axis in enumerate(shown):
        last = axis is shown[-1]
        axes.plot([x, x], [0, 1], color=style.MUTED, linewidth=0.9, zorder=4, solid_capstyle="butt")
        if last:
            gradient = np.linspace(0, 1, 65)
            strip = [[(x, low), (x, 1.0)] for low in gradient[:-1]]  # each over the one below: no seams
            axes.add_collection(
                LineCollection(strip, colors=_shade(gradient[:-1]), linewidths=7, zorder=4.2, capstyle="butt")
            )
        for height, text in axis.ticks:
            axes.plot([x], [height], marker="_", markersize=7, markeredgewidth=0.9, color=style.MUTED, zorder=5)
            _text(axes, shortened(text, chars), (x, height), (8, 0), ha="left", va="center")
        if np.isnan(axis.heights).any():
            _text(axes, "no score" if last else "not searched", (x, ABSENT), (8, 0), ha="left", va="center")
        name = pictures.wrapped(axis.name, max(chars, 8), lines=2)
        _text(axes, name, (x, 1.03), (-4, 4), ha="left", va="bottom", color=style.INK, weight="bold")


def _text(
    axes: Axes,
    text: str,
    place: tuple[float, float],
    offset: tuple[float, float],
    *,
    ha: str,
    va: str,
    color: str = style.MUTED,
    weight: str = "normal",
) -> None:
    axes.annotate(
        text, place, xytext=offset, textcoords="offset points", ha=ha, va=va, color=color, fontweight=weight,
        fontsize=style.SMALL_SIZE, zorder=8, annotation_clip=False,
        bbox={"boxstyle": "round,pad=0.12", "facecolor": style.PAPER, "alpha": 0.8, "linewidth": 0},
    )  # fmt: skip


def _paths(shown: Sequence[Axis]) -> np.ndarray:
    """(trials, points, 2) the smooth line of each trial through all axes."""
    heights = np.column_stack([np.where(np.isnan(axis.heights), ABSENT, axis.heights) for axis in shown])
    pieces = [heights[:, [x]] + (heights[:, [x + 1]] - heights[:, [x]]) * EASED for x in range(heights.shape[1] - 1)]
    ys = np.concatenate(pieces, axis=1)
    xs = np.concatenate([x + SPAN for x in range(heights.shape[1] - 1)])
    return np.stack([np.broadcast_to(xs, ys.shape), ys], axis=2)


def _lines(axes: Axes, shown: Sequence[Axis], trials: pd.DataFrame, scores: np.ndarray) -> None:
    paths, scored = _paths(shown), np.isfinite(scores)
    full = trials["status"].eq(COMPLETED).to_numpy()
    crowded = min(1.0, math.sqrt(60 / len(trials)))
    colors = _shade(np.nan_to_num(shown[-1].heights))
    for kept, width, alpha, above in (
        (~scored, 0.5 + 0.3 * crowded, 0.4 + 0.5 * crowded, 0.0),
        (scored & ~full, 0.35 + 0.45 * crowded, 0.35 + 0.6 * crowded, 0.1),
        (scored & full, 0.9 + 1.0 * crowded, 0.75 + 0.25 * crowded, 0.2),
    ):
        axes.add_collection(
            LineCollection(
                list(paths[kept]),
                linewidths=width,
                alpha=alpha,
                zorder=2 + above,
                colors=colors[kept] if above else [style.FAINT],
                linestyles="-" if above else (0, (4, 2)),
            )
        )


def _shade(heights: np.ndarray) -> np.ndarray:
    """(N, 4) the colours of places on the axis of the score."""
    return _SCORES(heights**CONTRAST)


def _named(best_trial: object, default_trial: object) -> list[tuple[object, str, str]]:
    """What is emphasised, in the order of drawing: trial, name, colour."""
    if best_trial == default_trial:
        return [(best_trial, "best: the defaults", style.VERMILLION)]
    return [(default_trial, "defaults", style.INK), (best_trial, "best", style.VERMILLION)]


def _emphasised(
    axes: Axes,
    shown: Sequence[Axis],
    trials: pd.DataFrame,
    scores: np.ndarray,
    named: Sequence[tuple[object, str, str]],
) -> None:
    paths = _paths(shown)
    found = [(np.flatnonzero((trials["trial"] == trial).to_numpy()), name, color) for trial, name, color in named]
    drawn = [(int(rows[0]), name, color) for rows, name, color in found if rows.size]
    places = _apart([float(paths[row, -1, 1]) for row, _, _ in drawn])
    for (row, name, color), height in zip(drawn, places, strict=True):
        path = paths[row]
        axes.plot(path[:, 0], path[:, 1], color=style.PAPER, linewidth=4.2, zorder=6)
        axes.plot(path[:, 0], path[:, 1], color=color, linewidth=2.2, zorder=6.1)
        knots = np.arange(len(shown))
        heights = [path[min(x * len(SPAN), len(path) - 1), 1] for x in knots]
        axes.scatter(knots, heights, s=24, color=color, edgecolors=style.PAPER, linewidths=0.9, zorder=7)
        label = f"{name}\n{style.number(round(scores[row], 4))}"
        _text(axes, label, (len(shown) - 1, height), (44, 0), ha="left", va="center", color=color, weight="bold")


def _apart(heights: list[float]) -> list[float]:
    """The heights of at most two labels, moved apart where they would meet."""
    if len(heights) < 2 or abs(heights[0] - heights[1]) >= LABEL_HEIGHT:
        return heights
    middle, half = sum(heights) / 2, LABEL_HEIGHT / 2
    return [middle - half, middle + half] if heights[0] <= heights[1] else [middle + half, middle - half]


def _subtitle(trials: pd.DataFrame, scores: np.ndarray) -> str:
    text = trial_looks.counted(len(trials), "trial")
    short = int((np.isfinite(scores) & ~trials["status"].eq(COMPLETED).to_numpy()).sum())
    text += f", {short} of them stopped early (thin; their last score)" if short else ""
    lost = int((~np.isfinite(scores)).sum())
    text += f", {lost} without a score (dashed)" if lost else ""
    return text + "; the darker a line, the higher its score"
