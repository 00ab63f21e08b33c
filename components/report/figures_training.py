"""The curves of one training: losses, the validation metric, and the learning rate, epoch by epoch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from components.report import style


def curves_of_member(
    member: str, history: pd.DataFrame, *, best_epoch: int, steps: pd.DataFrame, ledger: Sequence[Mapping[str, Any]]
) -> Figure:
    """`learning_curves` of one network, from tables and a ledger of several, whose rows name theirs as `member`."""
    return learning_curves(
        history[history["member"] == member].reset_index(drop=True),
        best_epoch=best_epoch,
        steps=steps[steps["member"] == member],
        ledger=[entry for entry in ledger if entry["member"] == member],
    )


def learning_curves(
    history: pd.DataFrame,
    *,
    best_epoch: int,
    steps: pd.DataFrame | None = None,
    ledger: Sequence[Mapping[str, Any]] = (),
) -> Figure:
    """Three panels over the epochs: training and validation loss, validation metric, learning rate.

    history: columns epoch, step, train_loss, lr, val_loss and val_score; nan where not measured, and the last two are
    absent without validation images.
    best_epoch: the epoch whose weights were kept, marked in the first two panels.
    steps: columns step and lr_<name> for each parameter group; without it, the rate is that of each epoch's last step.
    ledger: what the monitor found, each with `step`, `kind` and `action`; ticks at the upper edge of the first panel.
    """
    if history.empty:
        return style.empty_figure("Training", "no epoch has been completed")
    figure = style.new_figure(style.WIDTH, 3.3)
    history = history.reindex(columns=history.columns.union(["val_loss", "val_score"], sort=False))
    loss, metric, rate = figure.subplots(1, 3, width_ratios=[2.2, 2.0, 1.8])
    for axes, name in ((loss, "Loss"), (metric, "Validation metric"), (rate, "Learning rate")):
        style.quiet_axes(axes)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=6))
        style.label_axes(axes, x="epoch")
        style.title(axes, name)
    _line(loss, history, "train_loss", style.MUTED, "training")
    _line(loss, history, "val_loss", style.BLUE, "validation")
    _line(metric, history, "val_score", style.BLUE)
    if steps is None or steps.empty:
        _line(rate, history, "lr", style.GREEN)
    else:
        _rates(rate, history, steps)
    rate.yaxis.set_major_formatter(lambda value, _: style.rate(value) if value > 0 else "0")
    rate.set_ylim(bottom=0)
    _mark_best(loss, history, "val_loss", best_epoch)
    best = _mark_best(metric, history, "val_score", best_epoch)
    if best is not None:
        late = best_epoch > history["epoch"].median()
        style.note(
            metric, f"kept {style.number(round(best, 4))}, epoch {best_epoch}", (best_epoch, 0),
            offset=(-6 if late else 6, 6), at=("data", "axes fraction"), ha="right" if late else "left", va="baseline",
            size=style.TEXT_SIZE, bold=True, color=style.VERMILLION, over_lines=True,
        )  # fmt: skip
    _mark_findings(loss, history, ledger)
    return style.finish(figure)


def _line(axes: Axes, history: pd.DataFrame, column: str, color: str, label: str = "") -> None:
    """One column over the epochs, named at its right end instead of in a legend."""
    known = history[np.isfinite(history[column].to_numpy(dtype=float))]
    if known.empty:
        return
    marker = "o" if len(known) <= 15 else ""
    axes.plot(known["epoch"], known[column], color=color, linewidth=1.8, marker=marker, markersize=3.5)
    if label:
        end = known["epoch"].iloc[-1], known[column].iloc[-1]
        style.note(axes, label, end, offset=(6, 0), size=style.TEXT_SIZE, color=color)


def _mark_best(axes: Axes, history: pd.DataFrame, column: str, best_epoch: int) -> float | None:
    """Mark the best epoch; its value, None where it was not measured."""
    rows = history[history["epoch"] == best_epoch]
    if rows.empty or not np.isfinite(rows[column].iloc[0]):
        return None
    value = float(rows[column].iloc[0])
    axes.axvline(best_epoch, color=style.FAINT, zorder=1, **style.DASHES)
    axes.scatter([best_epoch], [value], s=46, color=style.VERMILLION, zorder=4, edgecolors=style.PAPER)
    return value


def _rates(axes: Axes, history: pd.DataFrame, steps: pd.DataFrame) -> None:
    """The rate of the fastest and of the slowest group at every step, and the span between them."""
    epochs = _epochs_at(history, steps["step"].to_numpy())
    rates = steps[[column for column in steps.columns if column.startswith("lr_")]].to_numpy(dtype=float)
    fastest, slowest = rates.max(axis=1), rates.min(axis=1)
    axes.plot(epochs, fastest, color=style.GREEN, linewidth=1.6)
    # Half an ulp of rounding in the closed forms is no other rate.
    if np.allclose(fastest, slowest, rtol=1e-9, atol=0):
        return
    axes.plot(epochs, slowest, color=style.GREEN, linewidth=1.0, linestyle=(0, (3, 2)))
    axes.fill_between(epochs, slowest, fastest, color=style.GREEN, alpha=0.15, linewidth=0)
    axes.margins(y=0.16)
    for rate, name in ((fastest, "fastest layers"), (slowest, "slowest")):
        peak = int(np.argmax(rate))
        late = epochs[peak] > epochs[-1] / 2
        style.note(
            axes, name, (epochs[peak], rate[peak]), offset=(-4 if late else 4, 3), ha="right" if late else "left",
            va="bottom", color=style.GREEN, over_lines=True,
        )  # fmt: skip


def _mark_findings(axes: Axes, history: pd.DataFrame, ledger: Sequence[Mapping[str, Any]]) -> None:
    """A row of ticks per kind of finding, above the curves; the first of a row carries its name."""
    kinds = list(dict.fromkeys(entry["kind"] for entry in ledger))
    if not kinds:
        return
    low, high = axes.get_ylim()
    axes.set_ylim(low, high + (high - low) * 0.09 * len(kinds))
    last = float(history["epoch"].max())
    for row, kind in enumerate(kinds):
        entries = [entry for entry in ledger if entry["kind"] == kind]
        places = _epochs_at(history, np.array([entry["step"] for entry in entries]))
        height = 0.98 - 0.08 * row
        axes.plot(
            places, np.full(len(places), height), transform=axes.get_xaxis_transform(), linestyle="", marker="|",
            markersize=7, markeredgewidth=1.4, color=style.VERMILLION, clip_on=False,
        )  # fmt: skip
        name = kind.replace("_", " ") + (f" ×{len(entries)}" if len(entries) > 1 else "")
        back = sum(entry["action"] == "rollback" for entry in entries)
        name += f", rolled back{f' ×{back}' if back > 1 else ''}" if back else ""
        name += ", stopped" if any(entry["action"] == "stop" for entry in entries) else ""
        late = places.max() > last / 2
        style.note(
            axes, name, (places.min() if late else places.max(), height), offset=(-5 if late else 5, 0),
            at=("data", "axes fraction"), ha="right" if late else "left", color=style.VERMILLION, over_lines=True,
        )  # fmt: skip


def _epochs_at(history: pd.DataFrame, steps: np.ndarray) -> np.ndarray:
    """Where on the axis of epochs these steps lie, (N,) float64; beyond the last epoch at its pace."""
    known_steps = np.concatenate([[0.0], history["step"].to_numpy(dtype=float)])
    known_epochs = np.concatenate([[0.0], history["epoch"].to_numpy(dtype=float)])
    beyond = np.maximum(steps - known_steps[-1], 0) * known_epochs[-1] / max(known_steps[-1], 1)
    return np.asarray(np.interp(steps, known_steps, known_epochs) + beyond)
