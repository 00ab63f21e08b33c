"""The figure of the benchmark of quality: what a model is worth over the time that it takes, a panel for each set."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, NullLocator

from components.report import style

TITLES = {
    "elpv": "Solar cells (ELPV)",
    "x_sdd": "Steel strip, seven kinds of defect (X-SDD)",
    "parts": "Generated parts, six images each",
    "small": "50 generated parts, eight images each",
}
TICKS = {5: "5 s", 10: "10 s", 30: "30 s", 60: "1 min", 120: "2 min", 300: "5 min", 600: "10 min", 1800: "30 min"}
TICKS |= {3600: "1 h", 7200: "2 h", 18000: "5 h"}
OURS, LOOP = "ours, ", "loop, "
VIEWS = ", 8 views"
SHOWN = {"first model": "first model", "half": "half as long", "demo": "the demo", "three times": "three times as long"}
ROOM = 0.28
"""Share of the height, above and below the points, for their labels."""


def draw(result: Mapping[str, Any]) -> Figure:
    """result: of the benchmark. Points are medians of the seeds; bars reach from the worst of them to the best."""
    sets = result["sets"]
    columns = min(2, len(sets))
    lines = math.ceil(len(sets) / columns)
    figure = style.new_figure(style.WIDTH, 0.6 + 3.1 * lines)
    panels = figure.subplots(lines, columns, squeeze=False)
    for axes, (name, found) in zip(panels.flat, sets.items(), strict=False):
        _panel(axes, name, found)
    for axes in panels.flat[len(sets) :]:
        axes.set_axis_off()
    handles = [_handle(style.BLUE, "o", filled=True, label="Escapement, one command")]
    handles += [_handle(style.VERMILLION, "s", filled=True, label="bare loop, mean of 8 views")]
    handles += [_handle(style.VERMILLION, "s", filled=False, label="bare loop, one view")]
    figure.legend(
        handles=handles, loc="outside lower left", ncols=3, frameon=False, fontsize=style.SMALL_SIZE,
        labelcolor=style.MUTED,
    )  # fmt: skip
    return style.finish(figure)


def _panel(axes: Axes, name: str, found: Mapping[str, Any]) -> None:
    style.quiet_axes(axes)
    axes.set_xscale("log")
    key, shown = (
        ("auroc", "AUROC") if found["tested_defective"] is not None else ("balanced_accuracy", "balanced accuracy")
    )
    medians = found["medians"]
    ours = [OURS + length for length in SHOWN if OURS + length in medians]
    one = [who for who in medians if who.startswith(LOOP) and not who.endswith(VIEWS)]
    eight = [who + VIEWS for who in one]
    _line(axes, found, one, key, style.VERMILLION, "s", filled=False)
    _line(axes, found, eight, key, style.VERMILLION, "s", filled=True)
    _line(axes, found, ours, key, style.BLUE, "o", filled=True)
    _limits(axes, found, key)
    for who in ours:
        _label(axes, medians[who], key, SHOWN[who.removeprefix(OURS)], style.BLUE, above=True)
    for who in one:
        _label(axes, medians[who], key, who.removeprefix(LOOP).replace(", ", "\n"), style.VERMILLION, above=False)
    style.title(axes, TITLES.get(name, name), f"{found['images']:,} images, {found['tested']} of them for the test")
    style.label_axes(axes, x="time of the whole command", y=shown)


def _line(
    axes: Axes, found: Mapping[str, Any], names: Sequence[str], key: str, color: str, marker: str, *, filled: bool
) -> None:
    """The medians in the order of their seconds, each with its seeds' range."""
    medians = sorted((found["medians"][who]["seconds"], found["medians"][who][key], who) for who in names)
    if not medians:
        return
    for seconds, _, who in medians:
        values = [row[key] for row in found["rows"] if row["who"] == who]
        axes.plot([seconds, seconds], [min(values), max(values)], color=color, linewidth=1.0, alpha=0.5, zorder=3)
    seconds, values, _ = zip(*medians, strict=True)
    axes.plot(
        seconds, values, color=color, linewidth=1.3 if filled else 0.8, marker=marker, markersize=5.5, zorder=4,
        markerfacecolor=color if filled else style.PAPER, markeredgecolor=color,
    )  # fmt: skip


def _limits(axes: Axes, found: Mapping[str, Any], key: str) -> None:
    values = [row[key] for row in found["rows"]]
    room = ROOM * max(max(values) - min(values), 0.02)
    axes.set_ylim(min(values) - room, min(1.0 + room, max(values) + room))
    seconds = [row["seconds"] for row in found["rows"]]
    low, high = min(seconds) / 1.5, max(seconds) * 1.9
    axes.set_xlim(low, high)
    ticks = [tick for tick in TICKS if low <= tick <= high]
    axes.xaxis.set_major_locator(FixedLocator(ticks))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xticks(ticks, [TICKS[tick] for tick in ticks])


def _label(axes: Axes, row: Mapping[str, Any], key: str, text: str, color: str, *, above: bool) -> None:
    style.note(
        axes, text, (row["seconds"], row[key]), offset=(0, 7 if above else -7), ha="center",
        va="bottom" if above else "top", size=style.SMALL_SIZE - 1, color=color, over_lines=True,
    )  # fmt: skip


def _handle(color: str, marker: str, *, filled: bool, label: str) -> Line2D:
    return Line2D(
        [],
        [],
        color=color,
        marker=marker,
        markersize=5.5,
        markerfacecolor=color if filled else style.PAPER,
        label=label,
    )
