"""The course of one training: losses, the validation metric, and the learning rate, epoch by epoch."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from components.report import style


def learning_curves(history: pd.DataFrame, *, best_epoch: int) -> Figure:
    """Three panels over the epochs: training and validation loss, validation metric, learning rate.

    history: columns epoch, train_loss, val_loss, val_score, lr; nan where not measured.
    best_epoch: the epoch whose weights were kept, marked in the first two panels.
    """
    if history.empty:
        return style.empty_figure("Training", "no epoch has been completed")
    figure = style.new_figure(style.WIDTH, 3.3)
    loss, metric, rate = figure.subplots(1, 3, width_ratios=[2.2, 2.2, 1.4])
    for axes in (loss, metric, rate):
        style.quiet_axes(axes)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=6))
        style.label_axes(axes, x="epoch")
    _line(loss, history, "train_loss", style.MUTED, "training")
    _line(loss, history, "val_loss", style.BLUE, "validation")
    _line(metric, history, "val_score", style.BLUE, "")
    _line(rate, history, "lr", style.GREEN, "")
    rate.yaxis.set_major_formatter(lambda value, _: style.rate(value) if value > 0 else "0")
    rate.set_ylim(bottom=0)
    style.title(loss, "Loss")
    style.title(metric, "Validation metric")
    style.title(rate, "Learning rate")
    _mark_best(loss, history, "val_loss", best_epoch, named=False)
    _mark_best(metric, history, "val_score", best_epoch, named=True)
    return style.finish(figure)


def _line(axes: Axes, history: pd.DataFrame, column: str, color: str, name: str) -> None:
    """One column over the epochs, named at its right end instead of in a legend."""
    known = history[np.isfinite(history[column].to_numpy(dtype=float))]
    if known.empty:
        return
    marker = "o" if len(known) <= 15 else ""
    axes.plot(known["epoch"], known[column], color=color, linewidth=1.8, marker=marker, markersize=3.5)
    if name:
        axes.annotate(
            name, (known["epoch"].iloc[-1], known[column].iloc[-1]), xytext=(6, 0),
            textcoords="offset points", va="center", fontsize=style.TEXT_SIZE, color=color,
            annotation_clip=False,
        )  # fmt: skip


def _mark_best(axes: Axes, history: pd.DataFrame, column: str, best_epoch: int, *, named: bool) -> None:
    rows = history[history["epoch"] == best_epoch]
    if rows.empty or not np.isfinite(rows[column].iloc[0]):
        return
    value = float(rows[column].iloc[0])
    axes.axvline(best_epoch, color=style.FAINT, linewidth=0.9, linestyle=(0, (3, 2)), zorder=1)
    axes.scatter([best_epoch], [value], s=46, color=style.VERMILLION, zorder=4, edgecolors=style.PAPER)
    if named:
        late = best_epoch > history["epoch"].median()
        axes.annotate(
            f"best {style.number(round(value, 4))}, epoch {best_epoch}",
            (best_epoch, 0),
            xytext=(-6 if late else 6, 6),
            xycoords=("data", "axes fraction"),
            textcoords="offset points",
            ha="right" if late else "left",
            fontsize=style.TEXT_SIZE,
            fontweight="bold",
            color=style.VERMILLION,
            path_effects=style.halo(),
        )
