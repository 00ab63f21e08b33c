"""The figure of the probe: how the frozen backbones compare, and which of them stay."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from components.report import style

TITLE = "Frozen backbones"
REASON_WIDTH = 38
"""Characters of a line that says why a backbone stays or goes."""


def backbones_figure(records: Sequence[Mapping[str, Any]], *, metric_name: str) -> Figure:
    """One row per backbone: its score with the interval, and beside it what became of it and how fast it is.

    records: best first, at least one: backbone, score, low, high (None: no interval), images_per_second, kept, reason.
    """
    figure = style.new_figure(style.WIDTH, 1.7 + 0.56 * len(records))
    axes = figure.add_subplot()
    style.quiet_axes(axes, grid="x")
    for row, record in enumerate(records):
        _draw_row(axes, row, record)
    axes.set_ylim(len(records) - 0.4, -0.6)
    axes.set_yticks(range(len(records)), [str(record["backbone"]) for record in records])
    axes.tick_params(axis="y", length=0, labelsize=style.TEXT_SIZE, labelcolor=style.INK)
    axes.spines["left"].set_visible(False)
    low = records[0]["low"]
    if low is not None and len(records) > 1:
        axes.axvline(low, color=style.FAINT, linewidth=1.0, linestyle=(0, (3, 2)), zorder=1)
    name = metric_name.replace("_", " ")
    style.title(axes, TITLE, f"A linear classifier on what each makes of the images: {name} on the validation split")
    style.label_axes(axes, x=f"validation {name}")
    style.key(axes, _key(bounded=low is not None and len(records) > 1))
    return style.finish(figure)


def _draw_row(axes: Axes, row: int, record: Mapping[str, Any]) -> None:
    color = style.BLUE if record["kept"] else style.MUTED
    if record["low"] is not None:
        axes.plot([record["low"], record["high"]], [row, row], color=color, alpha=0.35, **_BLOCK)  # type: ignore[arg-type]
    axes.plot(record["score"], row, color=color, **(_DOT if record["kept"] else _HOLLOW))  # type: ignore[arg-type]
    axes.annotate(
        f"{record['score']:.3f}",
        (record["score"], row),
        xytext=(0, 8),
        textcoords="offset points",
        ha="center",
        fontsize=style.SMALL_SIZE,
        fontweight="bold" if record["kept"] else "normal",
        color=style.INK if record["kept"] else style.MUTED,
        path_effects=style.halo(),
        zorder=6,
    )
    axes.annotate(
        textwrap.fill(record["reason"], REASON_WIDTH) + f"\n{record['images_per_second']:.0f} images/s",
        (1, row),
        xytext=(10, 0),
        xycoords=("axes fraction", "data"),
        textcoords="offset points",
        va="center",
        fontsize=style.SMALL_SIZE,
        color=style.INK if record["kept"] else style.MUTED,
        annotation_clip=False,
    )


_BLOCK = {"linewidth": 9, "solid_capstyle": "butt", "zorder": 2}
_DOT = {"marker": "o", "markersize": 6.5, "linestyle": "none", "zorder": 5}
_HOLLOW = {**_DOT, "markerfacecolor": style.PAPER, "markeredgewidth": 1.5}


def _key(*, bounded: bool) -> list[Line2D]:
    handles = [
        Line2D([], [], color=style.BLUE, label="kept", **_DOT),  # type: ignore[arg-type]
        Line2D([], [], color=style.MUTED, label="dropped", **_HOLLOW),  # type: ignore[arg-type]
        Line2D([], [], color=style.BLUE, alpha=0.35, linewidth=7, solid_capstyle="butt", label="95 % interval"),
    ]
    if bounded:
        dashes = {"color": style.FAINT, "linewidth": 1.0, "linestyle": (0, (3, 2))}
        handles.append(Line2D([], [], label="where the best's interval begins", **dashes))  # type: ignore[arg-type]
    return handles
