"""The winner of a search against the defaults: both trained again from several seeds, compared seed by seed.

The differences have a panel and an axis of their own (an estimation plot, Gardner & Altman 1986): whether the winner is
ahead is seen there, and not guessed from two clouds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

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
    _differences(right, pairs[:, 1] - pairs[:, 0], difference, low, confidence)
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
    return pairs[np.isfinite(pairs).all(axis=1)]


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
    low, high = float(pairs.min()), float(pairs.max())
    edge = 0.12 * (high - low) or 0.01
    axes.set_ylim(low - edge, high + edge)
    style.label_axes(axes, y=metric_name)


def _differences(axes: Axes, differences: np.ndarray, mean: float | None, low: float | None, confidence: float) -> None:
    """A dot per seed over the mean, whose interval is open to the right: nothing is claimed of how far it is ahead."""
    style.quiet_axes(axes, grid="x")
    axes.spines["left"].set_visible(False)
    axes.set_yticks([])
    axes.axvline(0, color=style.MUTED, linewidth=1.0, zorder=2)
    axes.set_ylim(-0.5, 1.6)
    heights = 1 + (np.linspace(-0.18, 0.18, len(differences)) if len(differences) > 1 else np.zeros(1))
    axes.scatter(
        differences, heights, s=40, color=[_color(value) for value in differences], edgecolors=style.PAPER, zorder=4
    )
    known = [value for value in (mean, low) if value is not None and np.isfinite(value)]
    span = np.array([0.0, *differences, *known])
    edge = 0.12 * float(np.ptp(span)) or 0.01
    left, right = float(span.min()) - edge, float(span.max()) + edge
    axes.set_xlim(left, right)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=6))
    if mean is None or not np.isfinite(mean):
        return
    color = style.INK
    if low is not None and np.isfinite(low):
        axes.plot([low, right], [0.2, 0.2], color=color, linewidth=1.6, zorder=3, alpha=0.35)
        axes.plot([low, mean], [0.2, 0.2], color=color, linewidth=2.2, zorder=3)
        axes.plot([low, low], [0.1, 0.3], color=color, linewidth=2.2, zorder=3)
        _say(axes, f"{100 * confidence:g} % sure: {_signed(low)} or more", low, -10, color=style.MUTED)
    axes.scatter([mean], [0.2], s=70, color=color, edgecolors=style.PAPER, linewidths=1.2, zorder=5)
    _say(axes, f"mean {_signed(mean)}", mean, 10, color=style.INK)


def _say(axes: Axes, text: str, x: float, drop: float, *, color: str) -> None:
    """Text over or under a place on the interval, kept inside of the axes."""
    left, right = axes.get_xlim()
    share = (x - left) / (right - left)
    ha = "left" if share < 0.3 else "right" if share > 0.7 else "center"
    axes.annotate(
        text, (x, 0.2), xytext=({"left": -4, "center": 0, "right": 4}[ha], drop), textcoords="offset points", ha=ha,
        va="bottom" if drop > 0 else "top", fontsize=style.TEXT_SIZE, fontweight="bold" if drop > 0 else "normal",
        color=color, path_effects=style.halo(), zorder=6,
    )  # fmt: skip


def _color(value: float) -> str:
    return style.BLUE if value > 0 else style.VERMILLION if value < 0 else style.MUTED


def _subtitle(
    first: str, second: str, seeds: int, difference: float | None, low: float | None, confidence: float
) -> str:
    text = trial_looks.counted(seeds, "seed")
    if difference is None or not np.isfinite(difference):
        return f"{text}; the difference is not known"
    text += f": {second} {_signed(difference)} against {first}"
    if low is None or not np.isfinite(low):
        return f"{text}; too few seeds for an interval"
    verdict = "ahead" if low > 0 else "not ahead"
    return f"{text}, and with {100 * confidence:g} % confidence {_signed(low)} or more: {verdict}"


def _signed(value: float) -> str:
    return f"{value:+.4f}".replace("-", "−")
