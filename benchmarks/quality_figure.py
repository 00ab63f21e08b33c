"""The figure of the benchmark of quality: what a model is worth over the time that it takes, a panel for each set."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import NullLocator
from quality_runs import VIEWS

from components.report import style

TITLES = {
    "elpv": "Solar cells (ELPV)",
    "x_sdd": "Seven defects of steel strip (X-SDD)",
    "parts": "Generated parts, six images each",
    "small": "50 generated parts, eight images each",
}
TICKS = {5: "5 s", 10: "10 s", 30: "30 s", 60: "1 min", 120: "2 min", 300: "5 min", 600: "10 min", 1800: "30 min"}
TICKS |= {3600: "1 h", 7200: "2 h", 18000: "5 h"}
OURS, LOOP = "ours, ", "loop, "
MARKERS = ("s", "^", "D", "v", "P", "X")
ROOM = 0.15
"""Share of the height, above and below the points, for their labels."""


def draw(result: Mapping[str, Any]) -> Figure:
    """result: of the benchmark. Points are medians of the seeds; bars reach from the worst of them to the best."""
    sets, markers = result["sets"], _markers(result)
    columns = min(2, len(sets))
    lines = math.ceil(len(sets) / columns)
    figure = style.new_figure(style.WIDTH, 0.8 + 3.0 * lines)
    panels = figure.subplots(lines, columns, squeeze=False)
    for axes, (name, found) in zip(panels.flat, sets.items(), strict=False):
        _panel(axes, name, found, markers)
    for axes in panels.flat[len(sets) :]:
        axes.set_axis_off()
    handles = [
        Line2D([], [], color=style.BLUE, marker="o", markersize=5.5, label="Escapement: first model, delivered ones"),
        Line2D([], [], color=style.VERMILLION, label="bare loop: filled mean of 8 views, hollow one view"),
        *(_handle(setting, marker) for setting, marker in markers.items()),
    ]
    figure.legend(
        handles=handles, loc="outside lower left", ncols=3, frameon=False, fontsize=style.SMALL_SIZE,
        labelcolor=style.MUTED, handlelength=1.8, columnspacing=2.0,
    )  # fmt: skip
    return style.finish(figure)


def _markers(result: Mapping[str, Any]) -> dict[str, str]:
    """By the name of each setting of the loop that was measured."""
    names = [who for found in result["sets"].values() for who in found["medians"] if who.startswith(LOOP)]
    settings = dict.fromkeys(who.removeprefix(LOOP).removesuffix(VIEWS) for who in names)
    return dict(zip(settings, itertools.cycle(MARKERS), strict=False))


def _handle(setting: str, marker: str) -> Line2D:
    return Line2D([], [], color=style.VERMILLION, marker=marker, markersize=5.5, linestyle="none", label=setting)


def _panel(axes: Axes, name: str, found: Mapping[str, Any], markers: Mapping[str, str]) -> None:
    style.quiet_axes(axes)
    axes.set_xscale("log")
    ranks = found["tested_defective"] is not None
    key = "auroc" if ranks else "balanced_accuracy"
    medians = found["medians"]
    ours = sorted((who for who in medians if who.startswith(OURS)), key=lambda who: medians[who]["seconds"])
    one = [f"{LOOP}{setting}" for setting in markers if f"{LOOP}{setting}" in medians]
    _line(axes, found, one, key, markers, filled=False)
    _line(axes, found, [who + VIEWS for who in one], key, markers, filled=True)
    _line(axes, found, ours, key, {}, filled=True)
    _limits(axes, found, key)
    for who in ours:
        place, text = (medians[who]["seconds"], medians[who][key]), who.removeprefix(OURS)
        style.note(axes, text, place, offset=(0, -8), ha="center", va="top", color=style.BLUE, over_lines=True)
    style.title(axes, TITLES.get(name, name), f"{found['images']:,} images, {found['tested']} of them for the test")
    style.label_axes(axes, x="time of the whole command", y="AUROC" if ranks else "balanced accuracy")


def _line(
    axes: Axes, found: Mapping[str, Any], names: Sequence[str], key: str, markers: Mapping[str, str], *, filled: bool
) -> None:
    """The medians in the order of their seconds, each with its seeds' range. markers: none for the pipeline's."""
    color = style.VERMILLION if markers else style.BLUE
    points = sorted((found["medians"][who]["seconds"], found["medians"][who][key], who) for who in names)
    width = 1.4 if filled else 0.7
    axes.plot([x for x, *_ in points], [y for _, y, _ in points], color=color, linewidth=width, zorder=3)
    for seconds, value, who in points:
        values = [row[key] for row in found["rows"] if row["who"] == who]
        axes.plot([seconds, seconds], [min(values), max(values)], color=color, linewidth=1.0, alpha=0.5, zorder=3)
        marker = markers.get(who.removeprefix(LOOP).removesuffix(VIEWS), "o")
        face = color if filled else style.PAPER
        axes.plot(seconds, value, marker, color=color, markersize=5.5, markerfacecolor=face, zorder=4)


def _limits(axes: Axes, found: Mapping[str, Any], key: str) -> None:
    values = [row[key] for row in found["rows"]]
    room = ROOM * max(max(values) - min(values), 0.02)
    axes.set_ylim(min(values) - room, max(values) + room)
    seconds = [row["seconds"] for row in found["rows"]]
    low, high = min(seconds) / 1.5, max(seconds) * 1.7
    axes.set_xlim(low, high)
    axes.xaxis.set_minor_locator(NullLocator())
    ticks = [tick for tick in TICKS if low <= tick <= high]
    axes.set_xticks(ticks, [TICKS[tick] for tick in ticks])
