"""The figure of the probe: how the frozen backbones compare, and which of them stay."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from components.report import style

REASON_COLUMNS = 38
_HOLLOW = {**style.DOT, "markerfacecolor": style.PAPER, "markeredgewidth": 1.5}


def backbones_figure(records: Sequence[Mapping[str, Any]], *, metric_name: str) -> Figure:
    """One row per backbone: its score with the interval, and beside it what became of it and how fast it is.

    records: best first, at least one: backbone, score, low, high (None: no interval), images_per_second, kept, reason.
    """
    figure, axes = style.plot(1.7 + 0.56 * len(records), grid="x")
    for row, record in enumerate(records):
        _draw_row(axes, row, record)
    style.name_rows(axes, [str(record["backbone"]) for record in records])
    name = metric_name.replace("_", " ")
    style.title(
        axes, "Frozen backbones", f"A linear classifier on the features of each: {name} on the validation split"
    )
    style.label_axes(axes, x=f"validation {name}")
    handles = [
        Line2D([], [], color=style.BLUE, label="kept", **style.DOT),
        Line2D([], [], color=style.MUTED, label="dropped", **_HOLLOW),
        style.swatch(style.BLUE, 0.35, "95 % interval"),
    ]
    if records[0]["low"] is not None and len(records) > 1:
        label = "where the best's interval begins"
        handles.append(axes.axvline(records[0]["low"], color=style.FAINT, zorder=1, label=label, **style.DASHES))
    style.key(axes, handles)
    return style.finish(figure)


def _draw_row(axes: Axes, row: int, record: Mapping[str, Any]) -> None:
    kept, score = record["kept"], record["score"]
    color, ink = (style.BLUE, style.INK) if kept else (style.MUTED, style.MUTED)
    if record["low"] is not None:
        axes.plot([record["low"], record["high"]], [row, row], color=color, alpha=0.35, **style.BLOCK)
    axes.plot(score, row, color=color, **(style.DOT if kept else _HOLLOW))
    style.note(
        axes, f"{score:.3f}", (score, row), offset=(0, 8), ha="center", va="baseline", bold=kept, color=ink,
        over_lines=True,
    )  # fmt: skip
    reason = textwrap.fill(record["reason"], REASON_COLUMNS) + f"\n{record['images_per_second']:.0f} images/s"
    style.note(axes, reason, (1, row), offset=(10, 0), at=("axes fraction", "data"), color=ink)
