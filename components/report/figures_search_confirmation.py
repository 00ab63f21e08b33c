"""The winner of a search against the defaults: both trained again from several seeds, compared seed by seed.

The differences have a panel and an axis of their own (an estimation plot, Gardner & Altman 1986).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from components.display import counted
from components.report import pictures, style, trial_looks


def confirmation_figure(
    scores: Mapping[str, Sequence[float]],
    *,
    difference: float | None,
    low: float | None,
    confidence: float,
    metric_name: str,
) -> Figure:
    """Left, the score of each seed under both settings, joined; right, the differences, their mean and its lower limit.

    scores: two labels, the settings that are to be beaten first → a validation score per seed, in one order of the
    seeds (nan for a training that has none). difference: mean of second minus first; low: its one-sided lower limit at
    that confidence. None where they are not known.
    """
    heading = "Winner against defaults, seed by seed"
    pairs = _pairs(scores)
    if not len(pairs):
        return style.empty_figure(heading, "no seed was trained under both settings")
    first, second = list(scores)
    subtitle = _subtitle(first, second, len(pairs), difference, low, confidence)
    figure = style.new_figure(style.WIDTH, trial_looks.heading_height(subtitle) + 2.9)
    left, right = figure.subplots(1, 2, width_ratios=[1.0, 1.5])
    _slopes(left, pairs, (first, second), metric_name)
    _differences(right, pairs[:, 1] - pairs[:, 0], difference, low)
    style.label_axes(right, x=f"{metric_name}: {second} − {first}")
    trial_looks.figure_heading(figure, heading, subtitle)
    return style.finish(figure)


def _pairs(scores: Mapping[str, Sequence[float]]) -> np.ndarray:
    """(seeds, 2) scores of the seeds that have both."""
    columns = [np.asarray(values, dtype=float) for values in scores.values()]
    if len(columns) != 2:
        return np.empty((0, 2))
    count = min(len(column) for column in columns)
    pairs = np.column_stack([column[:count] for column in columns])
    return np.asarray(pairs[np.isfinite(pairs).all(axis=1)])


def _slopes(axes: Axes, pairs: np.ndarray, names: tuple[str, str], metric_name: str) -> None:
    style.quiet_axes(axes)
    for before, after in pairs:
        color = _color(after - before)
        axes.plot([0, 1], [before, after], color=color, linewidth=1.4, alpha=0.8, zorder=3)
        axes.scatter([0, 1], [before, after], s=34, color=color, edgecolors=style.PAPER, linewidths=0.8, zorder=4)
    for place, mean in enumerate(pairs.mean(axis=0)):
        side = -1 if place == 0 else 1
        axes.plot([place + 0.07 * side, place + 0.2 * side], [mean, mean], color=style.INK, linewidth=2.2)
        axes.annotate(
            style.number(round(float(mean), 4)), (place + 0.22 * side, mean), xytext=(3 * side, 0),
            textcoords="offset points", ha="right" if place == 0 else "left", va="center", fontsize=style.TEXT_SIZE,
            fontweight="bold", color=style.INK,
        )  # fmt: skip
    axes.set_xlim(-0.65, 1.65)
    axes.set_xticks([0, 1], [pictures.wrapped(name, 20, lines=1) for name in names])
    axes.tick_params(axis="x", length=0, labelsize=style.TEXT_SIZE, labelcolor=style.INK)
    axes.margins(y=0.12)
    style.label_axes(axes, y=metric_name)


def _differences(axes: Axes, differences: np.ndarray, mean: float | None, low: float | None) -> None:
    """A dot per seed; below them the mean with its lower limit."""
    style.quiet_axes(axes, grid="x")
    axes.spines["left"].set_visible(False)
    axes.set_yticks([])
    axes.axvline(0, color=style.MUTED, linewidth=1.0, zorder=2)
    axes.set_ylim(-0.5, 1.6)
    heights = 1 + (np.linspace(-0.18, 0.18, len(differences)) if len(differences) > 1 else np.zeros(1))
    axes.scatter(
        differences, heights, s=40, color=[_color(value) for value in differences], edgecolors=style.PAPER, zorder=4
    )
    if mean is not None and np.isfinite(mean):
        error = [[mean - low], [0.0]] if low is not None and np.isfinite(low) else None
        axes.errorbar([mean], [0.2], xerr=error, fmt="o", markersize=8, color=style.INK, linewidth=2.2, capsize=5)
    axes.margins(x=0.12)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=6))


def _color(value: float) -> str:
    return style.BLUE if value > 0 else style.VERMILLION if value < 0 else style.MUTED


def _subtitle(
    first: str, second: str, seeds: int, difference: float | None, low: float | None, confidence: float
) -> str:
    text = counted(seeds, "seed")
    if difference is None or not np.isfinite(difference):
        return f"{text}; the difference is not known"
    text += f": {second} {_signed(difference)} against {first}"
    if low is None or not np.isfinite(low):
        return f"{text}; too few seeds for an interval"
    verdict = "ahead" if low > 0 else "not ahead"
    return f"{text}, and with {100 * confidence:g} % confidence {_signed(low)} or more: {verdict}"


def _signed(value: float) -> str:
    return f"{value:+.4f}".replace("-", "−")
