"""One look for every figure: colours that colour-blind readers can tell apart, quiet axes, number formats.

Colours from Okabe & Ito 2008 (Color Universal Design). Good is always blue, defective always vermillion.
No pyplot: a figure belongs to its caller, and two threads can draw at once.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D
from matplotlib.patheffects import withStroke
from matplotlib.text import Text
from matplotlib.ticker import FixedLocator, LogFormatter

from components.display import shortened
from components.report import letters

BLUE, VERMILLION, GREEN = "#0072B2", "#D55E00", "#009E73"
ORANGE, SKY, PURPLE = "#E69F00", "#56B4E9", "#CC79A7"
INK, MUTED, FAINT, HAIRLINE, PAPER = "#1B2430", "#5E6876", "#AEB6C0", "#E3E7EC", "#FFFFFF"

GOOD, DEFECTIVE = BLUE, VERMILLION
CYCLE = (BLUE, VERMILLION, GREEN, PURPLE, ORANGE, SKY)
MARKERS = ("o", "s", "^", "D", "v", "P")
SPLIT_COLORS = {"train": "#0072B2", "val": "#5AA9D6", "calibration": "#E69F00", "test": "#5E6876"}

BLOCK: dict[str, Any] = {"linewidth": 9, "solid_capstyle": "butt", "zorder": 2}
DASHES: dict[str, Any] = {"linewidth": 0.9, "linestyle": (0, (3, 2))}

TITLE_SIZE, TEXT_SIZE, SMALL_SIZE = 11.5, 9.0, 8.0

WIDTH = 9.8
"""Inches of a figure that fills the report's column."""

MOST_CLASSES = 40
"""With more of them a figure shows a choice of the classes, and a table all."""
LABEL_COLUMNS = 48
"""A line of a tick's label loses its middle beyond so many columns."""
KEY_COLUMNS, TITLE_COLUMNS = 60, 90
"""The same of an entry of a key, and of a title over the report's width."""


def new_figure(width: float, height: float) -> Figure:
    """An empty figure of that many inches, laid out by constraints."""
    layout = ConstrainedLayoutEngine(w_pad=0.08, h_pad=0.08, wspace=0.06, hspace=0.06)
    return Figure(figsize=(width, height), layout=layout, facecolor=PAPER, dpi=110)


def plot(height: float, *, width: float = WIDTH, grid: str | None = "y") -> tuple[Figure, Axes]:
    """A figure of that many inches with one pair of quiet axes."""
    figure = new_figure(width, height)
    axes = figure.add_subplot()
    quiet_axes(axes, grid=grid)
    return figure, axes


def quiet_axes(axes: Axes, *, grid: str | None = "y") -> None:
    """Two spines, a hairline grid behind the data on one axis ("x", "y", "both" or None), short ticks."""
    axes.set_facecolor(PAPER)
    for side, spine in axes.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set_color(FAINT)
        spine.set_linewidth(0.8)
    axes.tick_params(colors=MUTED, labelsize=SMALL_SIZE, length=3, width=0.8, which="major")
    axes.tick_params(length=0, which="minor")
    axes.set_axisbelow(True)
    if grid:
        axes.grid(True, axis=grid, color=HAIRLINE, linewidth=0.8)  # type: ignore[arg-type]


def title(axes: Axes, text: str, subtitle: str = "") -> None:
    """A bold title at the left edge and a quieter line under it."""
    text = shortened(letters.shown(text), TITLE_COLUMNS)
    axes.set_title(text, loc="left", fontsize=TITLE_SIZE, fontweight="bold", color=INK, pad=24 if subtitle else 10)
    if subtitle:
        note(axes, subtitle, (0, 1), offset=(0, 9), at="axes fraction", va="baseline", size=TEXT_SIZE, color=MUTED)


def note(
    axes: Axes,
    text: str,
    place: tuple[float, float],
    *,
    offset: tuple[float, float] = (0, 0),
    at: str | tuple[str, str] = "data",
    ha: str = "left",
    va: str = "center",
    size: float = SMALL_SIZE,
    color: str = INK,
    bold: bool = False,
    over_lines: bool = False,
) -> None:
    """Write a text `offset` points from a place, which may lie beyond the axes.

    at: what the place counts in, as `annotate` takes it. over_lines: with a rim of paper around the text.
    """
    axes.annotate(
        text, place, xytext=offset, xycoords=at, textcoords="offset points", ha=ha, va=va, fontsize=size,
        fontweight="bold" if bold else "normal", color=color, linespacing=1.25, annotation_clip=False, zorder=7,
        path_effects=[withStroke(linewidth=2.6, foreground=PAPER)] if over_lines else None,
    )  # fmt: skip


def name_rows(axes: Axes, names: Sequence[str]) -> None:
    """One row for each name, from the top, with the name beside it in the place of an axis."""
    axes.set_yticks(range(len(names)), list(names), fontsize=TEXT_SIZE, color=INK)
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)


def swatch(color: str, alpha: float, label: str) -> Line2D:
    return Line2D([], [], color=color, alpha=alpha, linewidth=7, solid_capstyle="butt", label=label)


def label_axes(axes: Axes, *, x: str = "", y: str = "") -> None:
    axes.set_xlabel(x, fontsize=TEXT_SIZE, color=MUTED)
    axes.set_ylabel(y, fontsize=TEXT_SIZE, color=MUTED)


def key(axes: Axes, handles: Sequence[Artist], *, drop: float = 33.0, columns: int | None = None) -> None:
    """A key of one line, flush with the axes' left edge and `drop` points under them: below the ticks and the name.

    columns: entries to a line; None for all.
    """
    axes.legend(
        handles=list(handles),
        labels=[key_label(handle) for handle in handles],
        loc="upper left",
        bbox_to_anchor=(0, 0),
        borderaxespad=drop / SMALL_SIZE,
        ncols=columns or len(handles),
        frameon=False,
        fontsize=SMALL_SIZE,
        labelcolor=MUTED,
        borderpad=0.8,
        handlelength=1.6,
        handletextpad=0.6,
        columnspacing=1.8,
    )


def key_label(handle: Artist) -> str:
    return shortened(letters.shown(str(handle.get_label())), KEY_COLUMNS)


def finish(figure: Figure) -> Figure:
    """Show each text as it is, in a type face that has its letters; the last call of each figure function.

    Names come from users: a dollar is no mathematics, and what no font has is a code point. The numbers of a
    logarithmic axis alone are mathematics.
    """
    axis_of_all = [axis for axes in figure.axes for axis in (axes.xaxis, axes.yaxis)]
    powers = {label for axis in axis_of_all for label in _powers(axis)}
    for axis in axis_of_all:
        _show_labels(axis)
    texts = figure.findobj(Text)
    for text in texts:
        if text not in powers:
            text.set_parse_math(False)
            text.set_text(letters.shown(text.get_text()))
    families = letters.families_for(text.get_text() for text in texts)
    for text in texts:
        text.set_fontfamily(families)
    return figure


def empty_figure(heading: str, reason: str) -> Figure:
    figure = new_figure(6.0, 1.5)
    axes = figure.add_subplot()
    axes.set_axis_off()
    title(axes, heading)
    axes.text(0, 0.5, reason, transform=axes.transAxes, fontsize=TEXT_SIZE, color=MUTED, va="center")
    return finish(figure)


def number(value: float | None) -> str:
    """A number as a reader types it: 0.0123, 1.2e-5, 12,345; an en dash for None and nan."""
    if value is None or math.isnan(value):
        return "–"
    if math.isinf(value):
        return "∞" if value > 0 else "−∞"
    if value != 0 and (abs(value) < 1e-3 or abs(value) >= 1e7):
        mantissa, exponent = f"{value:.2e}".split("e")
        return f"{float(mantissa):g}e{int(exponent)}"
    if float(value).is_integer():
        return f"{value:,.0f}"
    return f"{value:,.1f}" if abs(value) >= 1000 else f"{value:.4g}"


def rate(value: float) -> str:
    """A learning rate with two digits: 3e-4, 1.2e-3, 0.05."""
    if value == 0 or 0.01 <= value < 100:
        return f"{value:.2g}"
    mantissa, exponent = f"{value:.1e}".split("e")
    return f"{float(mantissa):g}e{int(exponent)}"


def percent(value: float) -> str:
    """A share in per cent, with as many digits as it carries: 0.42 %, 3.9 %, 12.3 %."""
    return f"{100 * value:.2f} %" if 0 < value < 0.01 else f"{100 * value:.1f} %"


def _powers(axis: Axis) -> list[Text]:
    """The labels of a logarithmic axis that matplotlib writes as powers of ten."""
    formatters = {"major": axis.get_major_formatter(), "minor": axis.get_minor_formatter()}
    return [
        label
        for which, formatter in formatters.items()
        if isinstance(formatter, LogFormatter)
        for label in axis.get_ticklabels(which=which)  # type: ignore[arg-type]
    ]


def _show_labels(axis: Axis) -> None:
    """Labels of fixed ticks are set anew whenever the figure is drawn: they have to be right where they come from."""
    if not isinstance(axis.get_major_locator(), FixedLocator):
        return
    labels = [label.get_text() for label in axis.get_majorticklabels()]
    right = ["\n".join(shortened(line, LABEL_COLUMNS) for line in letters.shown(text).split("\n")) for text in labels]
    if right != labels:
        axis.set_ticklabels(right)
