"""How many trials reached each rung, and what became of the others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch, PathPatch
from matplotlib.path import Path
from matplotlib.ticker import MaxNLocator

from components.report import style, trial_looks
from components.report.trial_looks import STATUS_COLORS, STATUS_NAMES

BAR = 0.3
"""Width of a bar, the distance from one to the next being 1."""
LABEL_SHARE = 0.07
"""What the label of a piece takes of the height of all trials."""
MAX_NAMED = 6
"""Of more bars than these the pieces are labelled with their number alone."""
FLOW = "#CFE0EC"
PALE = (style.SKY, style.PURPLE)
"""Colours in which a text would be hard to read."""


def rung_survival_figure(survival: Sequence[Mapping[str, Any]]) -> Figure:
    """A bar per rung, as high as the trials that reached it; from it, what goes on flows to the next one.

    survival: records of `RungSurvival.to_dict`, lowest rung first: rung, reached, went_on, and stopped, diverged,
    failed, completed, the ends of those that did not go on.
    """
    heading = "How many trials reached each rung"
    if not survival or not survival[0]["reached"]:
        return style.empty_figure(heading, "no trial has run")
    total = survival[0]["reached"]
    shown = [record for record in survival if record["reached"]]
    figure = style.new_figure(style.WIDTH, 3.7)
    axes = figure.add_subplot()
    style.quiet_axes(axes)
    ended = [name for name in STATUS_NAMES if any(record[name] for record in shown)]
    for place, record in enumerate(shown):
        _bar(axes, place, record, total, named=len(shown) <= MAX_NAMED)
        if record["went_on"]:
            _flow(axes, place, record["went_on"])
        axes.annotate(
            f"{record['reached']:,}", (place, record["reached"]), xytext=(0, 4), textcoords="offset points",
            ha="center", fontsize=style.TEXT_SIZE, fontweight="bold", color=style.INK,
        )  # fmt: skip
    axes.set_xlim(-0.5, max(len(shown) - 0.3, 2.2))
    axes.set_ylim(0, 1.1 * total)
    axes.set_xticks(range(len(shown)), [_name(record["rung"]) for record in shown])
    axes.tick_params(axis="x", length=0, labelsize=style.TEXT_SIZE, labelcolor=style.INK)
    axes.yaxis.set_major_locator(MaxNLocator(integer=True, nbins=7))
    style.title(axes, heading, _subtitle(survival, total))
    style.label_axes(axes, y="trials")
    handles = [
        Patch(color=FLOW, label="went on"),
        *(Patch(color=STATUS_COLORS[n], label=STATUS_NAMES[n]) for n in ended),
    ]
    style.key(axes, handles, drop=22)
    return style.finish(figure)


def _bar(axes: Axes, place: int, record: Mapping[str, Any], total: int, *, named: bool) -> None:
    """What went on at the bottom, the ends above it."""
    axes.bar(place, record["went_on"], width=BAR, color=FLOW)
    bottom = record["went_on"]
    beside = []
    for name, color in STATUS_COLORS.items():
        count = record[name]
        if not count:
            continue
        axes.bar(place, count, bottom=bottom, width=BAR, color=color)
        beside.append((bottom + count / 2, f"{count:,} {STATUS_NAMES[name]}" if named else f"{count:,}", color))
        bottom += count
    lowest = -float(total)
    for height, text, color in beside:
        lowest = height = max(height, lowest + LABEL_SHARE * total)  # small pieces lie closer than their labels may
        axes.annotate(
            text, (place + BAR / 2, height), xytext=(6, 0), textcoords="offset points", va="center",
            fontsize=style.SMALL_SIZE, color=style.INK if color in PALE else color,
            path_effects=style.halo(), zorder=5,
        )  # fmt: skip


def _flow(axes: Axes, place: int, count: int) -> None:
    left, right = place + BAR / 2, place + 1 - BAR / 2
    axes.add_patch(
        PathPatch(
            Path([(left, 0), (right, 0), (right, count), (left, count), (left, 0)]),
            facecolor=FLOW,
            alpha=0.45,
            linewidth=0,
        )
    )


def _name(rung: int) -> str:
    return "start" if rung == 0 else f"epoch {rung}"


def _subtitle(survival: Sequence[Mapping[str, Any]], total: int) -> str:
    completed = sum(record["completed"] for record in survival)
    stopped = sum(record["stopped"] for record in survival)
    lost = sum(record["diverged"] + record["failed"] for record in survival)
    text = f"Of {trial_looks.counted(total, 'trial')}, {completed} ran to the end, {stopped} were stopped early"
    return text + (f", {lost} diverged or failed" if lost else "")
