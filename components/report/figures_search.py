"""The figure of the search: what each trial reached, against its learning rate."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from components.report import style

COMPLETED, STOPPED = "completed", "stopped"
"""A trial that was trained to its full length, and one that was stopped before; the latter is drawn hollow."""


def search_figure(
    trials: pd.DataFrame,
    *,
    default_trial: object,
    best_trial: object,
    bounds: Mapping[str, tuple[float, float]],
    metric_name: str,
) -> Figure:
    """Score against learning rate, a colour and marker per optimizer, its search bounds as a bar below.

    trials: columns trial, status, optimizer, lr (> 0), score, epochs. A trial that diverged or failed has the score
    nan, and is a cross below the others.
    default_trial, best_trial: values of `trial`, None for none; bounds: optimizer → (low, high).
    """
    heading = f"Search: {metric_name} against learning rate"
    trials = trials[trials["lr"] > 0]
    if trials.empty:
        return style.empty_figure(heading, "no trial has run")
    optimizers = list(dict.fromkeys([*bounds, *trials["optimizer"]]))
    figure = style.new_figure(style.WIDTH, 4.5)
    axes = figure.add_subplot()
    style.quiet_axes(axes)
    axes.set_xscale("log")
    scores = trials["score"].to_numpy(dtype=float)
    bottom, top = _score_limits(scores)
    step = 0.055 * (top - bottom)
    floor = bottom - step * (len(optimizers) + 1.6)
    for order, name in enumerate(optimizers):
        color, marker = style.CYCLE[order % 6], style.MARKERS[order % 6]
        _scatter(axes, trials[trials["optimizer"] == name], color=color, marker=marker, failed_at=bottom - step)
        _bound_bar(axes, name, bounds.get(name), height=bottom - step * (order + 2.1), color=color)
    axes.set_ylim(floor, top + 2 * step)
    left, right = axes.get_xlim()
    axes.set_xlim(left, right * (right / left) ** 0.09)  # room for the names of the bars
    if default_trial == best_trial:
        _name_trial(axes, trials, best_trial, "best: the defaults,")
    else:
        _name_trial(axes, trials, default_trial, "defaults")
        _name_trial(axes, trials, best_trial, "best")
    axes.set_yticks([tick for tick in axes.get_yticks() if bottom <= tick <= top])
    style.title(axes, heading, _search_subtitle(trials, bounds))
    style.label_axes(axes, x="learning rate", y=metric_name)
    _search_key(axes, optimizers, trials)
    return style.finish(figure)


def _score_limits(scores: np.ndarray) -> tuple[float, float]:
    finite = scores[np.isfinite(scores)]
    if not finite.size:
        return 0.0, 1.0
    low, high = float(finite.min()), float(finite.max())
    return (low, high) if high > low else (low - 0.01, high + 0.01)


def _scatter(axes: Axes, trials: pd.DataFrame, *, color: str, marker: str, failed_at: float) -> None:
    scored = np.isfinite(trials["score"].to_numpy(dtype=float))
    full = trials["status"].eq(COMPLETED).to_numpy()
    for kept, face in ((scored & full, color), (scored & ~full, "none")):
        axes.scatter(
            trials["lr"][kept], trials["score"][kept],
            s=34, marker=marker, facecolors=face, edgecolors=color, linewidths=1.1, zorder=3,
        )  # fmt: skip
    failed = trials["lr"][~scored]
    axes.scatter(failed, np.full(len(failed), failed_at), s=28, marker="x", color=color, linewidths=1.3, zorder=3)


def _bound_bar(axes: Axes, name: str, limits: tuple[float, float] | None, *, height: float, color: str) -> None:
    if limits is None:
        return
    axes.plot(limits, [height, height], color=color, linewidth=3, alpha=0.55, solid_capstyle="butt")
    axes.annotate(
        f"{name} searched", (limits[1], height), xytext=(5, 0), textcoords="offset points",
        va="center", fontsize=style.SMALL_SIZE - 0.5, color=color,
    )  # fmt: skip


def _name_trial(axes: Axes, trials: pd.DataFrame, trial: object, name: str) -> None:
    """Ring a trial and name it, on the side where the fewest other trials are covered."""
    rows = trials[trials["trial"] == trial]
    if rows.empty or not np.isfinite(rows["score"].iloc[0]):
        return
    place = float(rows["lr"].iloc[0]), float(rows["score"].iloc[0])
    axes.scatter(*place, s=130, facecolors="none", edgecolors=style.INK, linewidths=1.2, zorder=5)
    label = f"{name} {style.number(round(place[1], 4))}"
    points = _in_points(axes, trials["lr"].to_numpy(dtype=float), trials["score"].to_numpy(dtype=float))
    here = _in_points(axes, np.array([place[0]]), np.array([place[1]]))[0]
    width, height = 5.2 * len(label), 12.0

    def covered(side: tuple[float, float]) -> int:
        middle = here + np.array(side) * (np.array([width, height]) / 2 + 9)
        return int((np.abs(points - middle) < np.array([width / 2 + 5, height / 2 + 5])).all(axis=1).sum())

    side = min(((0.0, 1.0), (0.0, -1.0), (1.0, 0.0), (-1.0, 0.0)), key=covered)
    axes.annotate(
        label,
        place,
        xytext=(9 * side[0], 9 * side[1]),
        textcoords="offset points",
        ha={-1.0: "right", 0.0: "center", 1.0: "left"}[side[0]],
        va={-1.0: "top", 0.0: "center", 1.0: "bottom"}[side[1]],
        fontsize=style.TEXT_SIZE,
        fontweight="bold",
        color=style.INK,
        zorder=6,
        path_effects=style.halo(),
    )


def _in_points(axes: Axes, rates: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """(N, 2) places in typographic points, before the layout has its last word."""
    pixels = axes.transData.transform(np.column_stack([rates, scores]))
    return pixels * 72 / axes.figure.dpi


def _search_subtitle(trials: pd.DataFrame, bounds: Mapping[str, tuple[float, float]]) -> str:
    failed = int((~np.isfinite(trials["score"].to_numpy(dtype=float))).sum())
    text = f"{len(trials)} trials"
    text += f", {failed} without a score (crosses)" if failed else ""
    return text + ("; bars: the range searched per optimizer" if bounds else "")


def _search_key(axes: Axes, optimizers: list[str], trials: pd.DataFrame) -> None:
    handles = [
        Line2D([], [], linestyle="", marker=style.MARKERS[order % 6], color=style.CYCLE[order % 6], label=name)
        for order, name in enumerate(optimizers)
    ]
    if trials["status"].eq(STOPPED).any():
        handles.append(
            Line2D(
                [],
                [],
                linestyle="",
                marker="o",
                markerfacecolor="none",
                color=style.MUTED,
                label="stopped early",
            )
        )
    style.key(axes, handles)
