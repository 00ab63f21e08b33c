"""The figure of the frozen backbones: how good each is, and what it costs to serve."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from components.display import counted
from components.report import style

LOG_FROM = 6.0
"""Costs that differ by more than this factor are drawn on a logarithmic axis."""


def candidates_figure(candidates: Sequence[dict[str, Any]], *, metric_name: str) -> Figure:
    """Score with its interval against milliseconds per image; a colour and a marker for each backbone.

    candidates: keys backbone, image_size, score, low and high (None: no interval), serve_ms (> 0).
    """
    heading = f"{metric_name} of frozen features against their cost"
    figure, axes = style.plot(4.3, grid="both")
    names = list(dict.fromkeys(one["backbone"] for one in candidates))
    for number, name in enumerate(names):
        own = sorted((one for one in candidates if one["backbone"] == name), key=lambda one: one["image_size"])
        color = style.CYCLE[number % len(style.CYCLE)]
        marker = style.MARKERS[number % len(style.MARKERS)]
        costs, scores = [one["serve_ms"] for one in own], [one["score"] for one in own]
        axes.plot(costs, scores, color=color, marker=marker, linewidth=1, alpha=0.9, label=name, zorder=4)
        for one in own:
            if one["low"] is not None:
                axes.plot([one["serve_ms"]] * 2, [one["low"], one["high"]], color=color, linewidth=1.2, alpha=0.5)
            text = f"{one['image_size']} px"
            style.note(axes, text, (one["serve_ms"], one["score"]), offset=(7, 0), over_lines=True)
    costs = [one["serve_ms"] for one in candidates]
    if max(costs) > LOG_FROM * min(costs):
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: style.number(value)))
        axes.xaxis.set_minor_formatter(NullFormatter())
    axes.margins(x=0.15)
    style.title(axes, heading, f"{counted(len(candidates), 'candidate')}; bars: 95 % intervals over whole groups")
    style.label_axes(axes, x="milliseconds for one image", y=metric_name)
    style.key(axes, axes.get_legend_handles_labels()[0], columns=3)
    return style.finish(figure)
