"""The figure of the search: what each trial reached, against its learning rate."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from components.report import style, trial_looks
from components.report.trial_looks import COMPLETED, STOPPED

AND = " / "
"""Between the backbone and the optimizer in a label."""
ROW = 0.135
"""Inches of a bar of bounds below the trials."""
CHAR_SHARE = 3.6 / 650
"""What a letter beside a bar takes of the width of the axes."""
NAME_GAP = 3.0
"""Points between two names."""
MANY_TRIALS = 150
"""From here on the marks are smaller."""


@dataclass(frozen=True)
class Look:
    """How the trials of a label are drawn."""

    color: str
    marker: str


def search_figure(
    trials: pd.DataFrame,
    *,
    default_trial: object,
    best_trial: object,
    bounds: Mapping[str, tuple[float, float]],
    metric_name: str,
) -> Figure:
    """Score against learning rate; the search bounds of each label as a bar below.

    A label is an optimizer, with a colour and a marker of its own, or where several backbones were searched "backbone /
    optimizer": then the colour is the optimizer's and the marker the backbone's.
    trials: columns trial, status, optimizer, lr (> 0), score, and backbone where labels have it. A trial that diverged
    or failed has the score nan, and is a cross below the others; one that was stopped is drawn hollow.
    default_trial, best_trial: values of `trial`, None for none; bounds: label → (low, high).
    """
    heading = f"Search: {metric_name} against learning rate"
    trials = trials[trials["lr"] > 0]
    if trials.empty:
        return style.empty_figure(heading, "no trial has run")
    labels = _labels(trials, bounds)
    looks = _looks([*bounds, *labels])
    figure = style.new_figure(style.WIDTH, 4.5 + ROW * max(0, len(bounds) - 2))
    axes = figure.add_subplot()
    style.quiet_axes(axes)
    axes.set_xscale("log")
    scores = trial_looks.known_scores(trials)
    bottom, top = _score_limits(scores)
    step = 0.055 * (top - bottom)
    floor = bottom - step * (len(bounds) + 1.6)
    for name, look in looks.items():
        size = 18 if len(trials) > MANY_TRIALS else 34
        _scatter(axes, trials[labels == name], look, size=size, failed_at=bottom - step)
    for row, (name, limits) in enumerate(bounds.items()):
        _bound_bar(axes, name, limits, height=bottom - step * (row + 2.1), color=looks[name].color)
    axes.set_ylim(floor, top + 2 * step)
    axes.set_xlim(*_rate_limits(axes, bounds))
    if default_trial == best_trial:
        _name_trials(axes, trials, {best_trial: "best: the defaults,"})
    else:
        _name_trials(axes, trials, {best_trial: "best", default_trial: "defaults"})
    axes.set_yticks([tick for tick in axes.get_yticks() if bottom <= tick <= top])
    style.title(axes, heading, _search_subtitle(trials, bounds))
    style.label_axes(axes, x="learning rate", y=metric_name)
    trial_looks.wide_key(axes, _search_key(looks, trials))
    return style.finish(figure)


def _labels(trials: pd.DataFrame, bounds: Mapping[str, object]) -> np.ndarray:
    """(N,) the label of each trial."""
    optimizers = trials["optimizer"].to_numpy(dtype=object)
    if "backbone" not in trials:
        return optimizers
    if trials["backbone"].nunique() < 2 and not any(AND in name for name in bounds):
        return optimizers
    return (trials["backbone"].astype(str) + AND + trials["optimizer"].astype(str)).to_numpy(dtype=object)


def _looks(labels: Sequence[str]) -> dict[str, Look]:
    names = list(dict.fromkeys(labels))
    colors = list(dict.fromkeys(name.rpartition(AND)[2] for name in names))
    markers = list(dict.fromkeys(name.rpartition(AND)[0] for name in names))
    found = {}
    for name in names:
        backbone, _, optimizer = name.rpartition(AND)
        place = markers.index(backbone) if backbone else colors.index(optimizer)
        found[name] = Look(style.CYCLE[colors.index(optimizer) % 6], style.MARKERS[place % 6])
    return found


def _score_limits(scores: np.ndarray) -> tuple[float, float]:
    finite = scores[np.isfinite(scores)]
    if not finite.size:
        return 0.0, 1.0
    low, high = float(finite.min()), float(finite.max())
    return (low, high) if high > low else (low - 0.01, high + 0.01)


def _scatter(axes: Axes, trials: pd.DataFrame, look: Look, *, size: float, failed_at: float) -> None:
    scores = trial_looks.known_scores(trials)
    rates, scored = trials["lr"].to_numpy(dtype=float), np.isfinite(scores)
    full = trials["status"].eq(COMPLETED).to_numpy()
    for kept, face, above in ((scored & ~full, "none", 0), (scored & full, look.color, 1)):
        axes.scatter(
            rates[kept], scores[kept], s=size, marker=look.marker,
            facecolors=face, edgecolors=look.color, linewidths=1.1, zorder=3 + above,
        )  # fmt: skip
    failed = rates[~scored]
    axes.scatter(failed, np.full(len(failed), failed_at), s=28, marker="x", color=look.color, linewidths=1.3, zorder=3)


def _bound_bar(axes: Axes, name: str, limits: tuple[float, float], *, height: float, color: str) -> None:
    axes.plot(limits, [height, height], color=color, linewidth=3, alpha=0.55, solid_capstyle="butt")
    axes.annotate(
        f"{name} searched", (limits[1], height), xytext=(5, 0), textcoords="offset points",
        va="center", fontsize=style.SMALL_SIZE - 0.5, color=color,
    )  # fmt: skip


def _rate_limits(axes: Axes, bounds: Mapping[str, tuple[float, float]]) -> tuple[float, float]:
    """The limits that the trials and bars ask for, with room for the names of the bars at the right."""
    left, right = (math.log10(limit) for limit in axes.get_xlim())
    ends = [right]
    for name, (_, high) in bounds.items():
        taken = min(CHAR_SHARE * len(f"{name} searched") + 0.025, 0.5)
        ends.append((math.log10(high) - taken * left) / (1 - taken))
    return 10**left, 10 ** max(ends)


def _name_trials(axes: Axes, trials: pd.DataFrame, names: Mapping[object, str]) -> None:
    """Ring trials and name them, each on the side where it covers no other name, and the fewest trials."""
    points = _in_points(axes, trials["lr"].to_numpy(dtype=float), trial_looks.known_scores(trials))
    taken: list[np.ndarray] = []
    for trial, name in names.items():
        rows = trials[trials["trial"] == trial]
        if rows.empty or not np.isfinite(trial_looks.known_scores(rows)[0]):
            continue
        place = float(rows["lr"].iloc[0]), float(rows["score"].iloc[0])
        axes.scatter(*place, s=130, facecolors="none", edgecolors=style.INK, linewidths=1.2, zorder=5)
        label = f"{name} {style.number(round(place[1], 4))}"
        size = np.array([6.0 * len(label), 12.0])
        here = _in_points(axes, np.array([place[0]]), np.array([place[1]]))[0]
        side, middle = min(
            ((side, here + np.array(side) * (size / 2 + 9)) for side in _SIDES),
            key=lambda option: (
                sum((np.abs(option[1] - other) < size + NAME_GAP).all() for other in taken),
                (np.abs(points - option[1]) < size / 2 + 5).all(axis=1).sum(),
            ),
        )
        taken.append(middle)
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


_SIDES = ((0.0, 1.0), (0.0, -1.0), (1.0, 0.0), (-1.0, 0.0), (1.0, 1.0), (-1.0, 1.0), (1.0, -1.0), (-1.0, -1.0))


def _in_points(axes: Axes, rates: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """(N, 2) places in typographic points, before the layout has its last word."""
    pixels = axes.transData.transform(np.column_stack([rates, scores]))
    return pixels * 72 / axes.figure.dpi


def _search_subtitle(trials: pd.DataFrame, bounds: Mapping[str, object]) -> str:
    failed = int((~np.isfinite(trial_looks.known_scores(trials))).sum())
    text = trial_looks.counted(len(trials), "trial")
    text += f", {failed} without a score (crosses)" if failed else ""
    each = "backbone and optimizer" if any(AND in name for name in bounds) else "optimizer"
    return text + (f"; bars: the range searched per {each}" if bounds else "")


def _search_key(looks: Mapping[str, Look], trials: pd.DataFrame) -> list[Line2D]:
    handles = [
        Line2D([], [], linestyle="", marker=look.marker, color=look.color, label=name) for name, look in looks.items()
    ]
    if trials["status"].eq(STOPPED).any():
        hollow = {"marker": "o", "markerfacecolor": "none", "color": style.MUTED}
        handles.append(Line2D([], [], linestyle="", label="stopped early", **hollow))  # type: ignore[arg-type]
    return handles
