"""The score at each rung against the final score: whether early stopping can trust what it sees."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

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
    stopping are hollow, and in no correlation. records: of `RungAgreement.to_dict`: rung, count, rho, low.
    """
    heading = "Does a rung foretell the final score?"
    found = {int(record["rung"]): record for record in records}
    panels = [(rung, _pairs(scores, rung, final_epoch)) for rung in sorted(set(rungs)) if rung < final_epoch]
    if not panels:
        return style.empty_figure(heading, "there is no rung before the last epoch")
    if all(pairs.empty for _, pairs in panels):
        return style.empty_figure(heading, f"no trial has a score after epoch {final_epoch}")
    drawn = {number for _, pairs in panels for number in pairs["trial"]}
    subtitle = _subtitle(drawn, unstopped)
    columns = min(COLUMNS, max(len(panels), 2))
    rows = -(-len(panels) // columns)
    figure = style.new_figure(style.WIDTH, trial_looks.heading_height(subtitle) + 0.2 + PANEL * rows)
    grid = figure.subplots(rows, columns, sharey=True, squeeze=False)
    everything = list(grid.flat)
    for axes in everything[len(panels) :]:
        axes.set_visible(False)
    limits = _limits(np.concatenate([pairs["final"].to_numpy(dtype=float) for _, pairs in panels]))
    for place, (rung, pairs) in enumerate(panels):
        axes = everything[place]
        style.quiet_axes(axes, grid="both")
        _points(axes, pairs, unstopped)
        axes.set_ylim(*limits)
        axes.set_xlim(*_limits(pairs["early"].to_numpy(dtype=float)))
        axes.xaxis.set_major_locator(MaxNLocator(nbins=4))
        axes.yaxis.set_major_locator(MaxNLocator(nbins=5))
        _panel_title(axes, rung, found.get(rung))
        style.label_axes(
            axes, x=f"score after epoch {rung}", y=f"after epoch {final_epoch}" if place % columns == 0 else ""
        )
    trial_looks.figure_heading(figure, heading, subtitle)
    return style.finish(figure)


def _pairs(scores: pd.DataFrame, rung: int, final_epoch: int) -> pd.DataFrame:
    """Columns trial, early, final of the trials that have both scores."""
    early, final = (
        scores.loc[scores["epoch"] == epoch, ["trial", "score"]].rename(columns={"score": name})
        for epoch, name in ((rung, "early"), (final_epoch, "final"))
    )
    pairs = early.merge(final, on="trial")
    return pairs[np.isfinite(pairs[["early", "final"]].to_numpy(dtype=float)).all(axis=1)]


def _limits(values: np.ndarray) -> tuple[float, float]:
    if not values.size:
        return 0.0, 1.0
    low, high = float(values.min()), float(values.max())
    edge = 0.08 * (high - low) if high > low else 0.01
    return low - edge, high + edge


def _points(axes: Axes, pairs: pd.DataFrame, unstopped: Collection[int]) -> None:
    free = pairs["trial"].isin(list(unstopped)).to_numpy()
    size = 16 if len(pairs) > 60 else 30
    for kept, face, edge, above in ((~free, "none", style.FAINT, 3), (free, style.BLUE, style.PAPER, 4)):
        axes.scatter(
            pairs["early"][kept], pairs["final"][kept], s=size, facecolors=face, edgecolors=edge,
            linewidths=1.0 if face == "none" else 0.6, zorder=above,
        )  # fmt: skip


def _panel_title(axes: Axes, rung: int, record: Mapping[str, Any] | None) -> None:
    rho, count = (None, 0) if record is None else (record["rho"], record["count"])
    low = record is not None and record["low"]
    text = f"ρ = {rho:.2f}" if rho is not None else f"ρ unknown: {trial_looks.counted(count, 'trial')}"
    axes.set_title(f"Epoch {rung}", loc="left", fontsize=style.TEXT_SIZE, fontweight="bold", color=style.INK, pad=6)
    axes.set_title(
        f"{text}, too low" if low else text, loc="right", fontsize=style.TEXT_SIZE, pad=6,
        fontweight="bold" if rho is not None else "normal",
        color=style.MUTED if rho is None else style.VERMILLION if low else style.BLUE,
    )  # fmt: skip


def _subtitle(drawn: Collection[int], unstopped: Collection[int]) -> str:
    free = len(set(drawn) & set(unstopped))
    text = f"ρ: Spearman's rank correlation over the trials that were never stopped ({free}, full)"
    survivors = len(set(drawn)) - free
    if not survivors:
        return text
    return f"{text}\nSurvivors of early stopping ({survivors}, hollow) were picked by their rank, and are not counted"
