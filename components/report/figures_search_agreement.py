"""The score at each rung against the final score: whether early stopping can trust what it sees."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from components.display import counted
from components.report import style, trial_looks

COLUMNS = 4
"""At most so many panels beside each other."""
PANEL = 2.4
"""Inches of the height of a panel with its title."""


def rung_agreement_figure(
    scores: pd.DataFrame,
    rungs: Sequence[int],
    final_epoch: int,
    *,
    unstopped: Collection[int],
    records: Sequence[Mapping[str, Any]],
) -> Figure:
    """A panel per rung: the score there against the final one, with the rank correlation over unstopped trials.

    scores: columns trial, epoch, score. unstopped: trials that were never stopped, drawn full; survivors of early
    stopping are hollow, and in no correlation. records: of `rung_agreement`.
    """
    heading = "Does the score at a rung predict the final score?"
    found = {int(record["rung"]): record for record in records}
    by_epoch = scores.pivot(index="trial", columns="epoch", values="score")
    shown = sorted({rung for rung in rungs if rung < final_epoch})
    if not shown:
        return style.empty_figure(heading, "there is no rung before the last epoch")
    panels = {rung: by_epoch.reindex(columns=[rung, final_epoch]).dropna() for rung in shown}
    drawn = {number for pairs in panels.values() for number in pairs.index}
    if not drawn:
        return style.empty_figure(heading, f"no trial has a score after epoch {final_epoch}")
    subtitle = _subtitle(drawn, unstopped)
    columns = min(COLUMNS, max(len(panels), 2))
    rows = -(-len(panels) // columns)
    figure = style.new_figure(style.WIDTH, trial_looks.heading_height(subtitle) + 0.2 + PANEL * rows)
    places = figure.subplots(rows, columns, sharey=True, squeeze=False).flat
    for (rung, pairs), axes in zip(panels.items(), places, strict=False):
        style.quiet_axes(axes, grid="both")
        _points(axes, pairs, unstopped)
        axes.xaxis.set_major_locator(MaxNLocator(nbins=4))
        axes.yaxis.set_major_locator(MaxNLocator(nbins=5))
        _panel_title(axes, rung, found.get(rung))
        first = axes.get_subplotspec().is_first_col()
        style.label_axes(axes, x=f"score after epoch {rung}", y=f"after epoch {final_epoch}" if first else "")
    for axes in places:
        axes.set_visible(False)
    trial_looks.figure_heading(figure, heading, subtitle)
    return style.finish(figure)


def _points(axes: Axes, pairs: pd.DataFrame, unstopped: Collection[int]) -> None:
    """pairs: the early and the final score, by trial."""
    full = pairs.index.isin(list(unstopped))
    size = 16 if len(pairs) > 60 else 30
    early, final = pairs.to_numpy(dtype=float).T
    for kept, face, edge, order in ((~full, "none", style.FAINT, 3), (full, style.BLUE, style.PAPER, 4)):
        axes.scatter(early[kept], final[kept], s=size, facecolors=face, edgecolors=edge, linewidths=0.8, zorder=order)


def _panel_title(axes: Axes, rung: int, record: Mapping[str, Any] | None) -> None:
    rho, count = (None, 0) if record is None else (record["rho"], record["count"])
    low = record is not None and record["low"]
    text = f"ρ = {rho:.2f}" if rho is not None else f"ρ unknown: {counted(count, 'trial')}"
    axes.set_title(f"Epoch {rung}", loc="left", fontsize=style.TEXT_SIZE, fontweight="bold", color=style.INK, pad=6)
    axes.set_title(
        f"{text}, too low" if low else text, loc="right", fontsize=style.TEXT_SIZE, pad=6,
        color=style.MUTED if rho is None else style.VERMILLION if low else style.BLUE,
    )  # fmt: skip


def _subtitle(drawn: Collection[int], unstopped: Collection[int]) -> str:
    full = len(set(drawn) & set(unstopped))
    text = f"ρ: Spearman's rank correlation over the trials that were never stopped ({full}, full)"
    survivors = len(set(drawn)) - full
    if not survivors:
        return text
    return f"{text}\nSurvivors of early stopping ({survivors}, hollow) were picked by their rank, and are not counted"
