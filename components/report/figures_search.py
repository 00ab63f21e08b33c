"""The figures of a search: scores over learning rates, importance of the keys, quality against latency."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from components.display import counted, width
from components.report import pictures, style

COMPLETED, STOPPED = "completed", "stopped"
AND = " / "
"""Between the backbone and the optimizer in a label."""
ROW = 0.135
"""Inches of a bar of bounds below the trials."""
MANY_TRIALS = 150
"""From here on the marks are smaller."""
KEY_CHARS = 120
"""What fits into a line of a key over the report's width, the sample of each entry counted as six."""
LOG_FROM = 6.0
"""Latencies that differ by more than this factor are drawn on a logarithmic axis."""
REST = "several together, and noise"
NAMES = {"lr": "learning rate", "ema": "EMA", "augment_strength": "augmentation"}


class Mark(NamedTuple):
    color: str
    marker: str


def search_figure(
    trials: pd.DataFrame,
    *,
    default_trial: object,
    best_trial: object,
    bounds: Mapping[str, tuple[float, float]],
    metric_name: str,
) -> Figure:
    """Score against learning rate; the search bounds of each label as a bar below.

    A label is an optimizer, with a colour and a marker of its own, or where several backbones were searched "backbone /
    optimizer": then the colour is the optimizer's and the marker the backbone's.
    trials: columns trial, status, optimizer, lr (> 0), score, and backbone where labels have it. A trial that diverged
    or failed has the score nan, and is a cross below the others; one that was stopped is drawn hollow.
    default_trial, best_trial: values of `trial`, None for none; bounds: label → (low, high).
    """
    heading = f"Search: {metric_name} against learning rate"
    trials = trials[trials["lr"] > 0]
    if trials.empty:
        return style.empty_figure(heading, "no trial has run")
    labels = _labels(trials, bounds)
    marks = _marks([*bounds, *labels])
    figure, axes = style.plot(4.5 + ROW * max(0, len(bounds) - 2))
    axes.set_xscale("log")
    scores = _scores(trials)
    bottom, top = _limits(scores[np.isfinite(scores)])
    step = 0.055 * (top - bottom)
    for name, mark in marks.items():
        _scatter(axes, trials[labels == name], mark, failed_at=bottom - step)
    for row, (name, limits) in enumerate(bounds.items()):
        mark, height = marks[name], bottom - step * (row + 2.1)
        axes.plot(limits, [height, height], color=mark.color, marker=mark.marker, markersize=4, linewidth=3, alpha=0.55)
    axes.set_ylim(bottom - step * (len(bounds) + 1.6), top + 2 * step)
    axes.set_yticks([tick for tick in axes.get_yticks() if bottom <= tick <= top])
    named = {default_trial: ("defaults", "D"), best_trial: ("best", "o")}
    if default_trial == best_trial:
        named = {best_trial: ("best: the defaults,", "o")}
    rings = [ring for trial, look in named.items() for ring in _ring(axes, trials[trials["trial"] == trial], *look)]
    style.title(axes, heading, _search_subtitle(trials, bounds))
    style.label_axes(axes, x="learning rate", y=metric_name)
    handles = [*_search_key(marks, trials), *rings]
    lengths = [width(style.key_label(handle)) + 6 for handle in handles]
    fits = sum(lengths) <= KEY_CHARS
    style.key(axes, handles, columns=len(handles) if fits else max(1, KEY_CHARS // max(lengths)))
    return style.finish(figure)


def importance_figure(importances: Mapping[str, Any]) -> Figure:
    """A bar per key, the most important first, and one for what no key explains alone.

    importances: the record of `Importances.to_dict`: shares (key → share in [0, 1]), basis, reason, r_squared.
    """
    heading = "Which settings made the difference"
    shares, r_squared = importances["shares"], importances["r_squared"]
    if not shares:
        return style.empty_figure(heading, f"not known: {importances['reason']}")
    color = style.MUTED if r_squared is not None and r_squared <= 0 else style.BLUE
    bars = [(_plain_key(key), share, color) for key, share in shares.items()]
    bars.append((REST, max(0.0, 1 - sum(shares.values())), style.FAINT))
    subtitle = _importance_subtitle(importances["basis"], r_squared)
    figure, axes = style.plot(pictures.panels_heading_height(subtitle) + 0.2 + 0.3 * len(bars), grid=None)
    names, widths, colors = zip(*bars, strict=True)
    drawn = axes.barh(range(len(bars)), widths, height=0.62, color=colors)
    axes.bar_label(drawn, [style.percent(share) for share in widths], padding=5, fontsize=style.TEXT_SIZE)
    axes.set_ylim(len(bars) - 0.4, -0.6)
    axes.set_xlim(0, 1.1 * max(widths))
    axes.set_yticks(range(len(bars)), [pictures.wrapped(name, 30, lines=1) for name in names])
    axes.tick_params(axis="y", length=0, labelsize=style.TEXT_SIZE, labelcolor=style.INK)
    axes.set_xticks([])
    axes.spines["bottom"].set_visible(False)
    pictures.panels_heading(figure, heading, subtitle)
    return style.finish(figure)


def pareto_figure(trials: pd.DataFrame, front: Sequence[int], *, metric_name: str) -> Figure:
    """Score of the completed trials against milliseconds per image; the Pareto front is a line.

    trials: columns trial, status, score, latency_ms. front: the trials on it, as `pareto_front` gives them.
    """
    heading = f"{metric_name} against latency"
    known = trials[trials["status"] == COMPLETED]
    known = known[np.isfinite(known[["score", "latency_ms"]].to_numpy(dtype=float, na_value=np.nan)).all(axis=1)]
    if known.empty:
        return style.empty_figure(heading, "no completed trial has both a score and a latency")
    figure, axes = style.plot(4.3, grid="both")
    on_front = known["trial"].isin(list(front))
    best, beaten = known[on_front].sort_values(["latency_ms", "score"]), known[~on_front]
    axes.scatter(beaten["latency_ms"], beaten["score"], s=24, color=style.FAINT, label="beaten", zorder=3)
    # Stairs: between two trials of the front, the slower one is not available yet.
    axes.step(best["latency_ms"], best["score"], "o-", where="post", color=style.BLUE, label="Pareto front", zorder=4)
    latency = known["latency_ms"]
    if latency.min() > 0 and latency.max() > LOG_FROM * latency.min():
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: style.number(value)))
        axes.xaxis.set_minor_formatter(NullFormatter())
    subtitle = f"{counted(len(known), 'completed trial')}; {len(best)} on the Pareto front: "
    style.title(axes, heading, subtitle + "no other is as fast and better, or as good and faster")
    style.label_axes(axes, x="milliseconds per image", y=metric_name)
    style.key(axes, [*axes.lines, *axes.collections])
    return style.finish(figure)


def _plain_key(key: str) -> str:
    last = key.rpartition(".")[2]
    return NAMES.get(last, last.replace("_", " "))


def _scores(trials: pd.DataFrame) -> np.ndarray:
    """(N,) float64, nan for a trial without one."""
    return trials["score"].to_numpy(dtype=float, na_value=np.nan)


def _labels(trials: pd.DataFrame, bounds: Mapping[str, object]) -> np.ndarray:
    optimizers = trials["optimizer"].to_numpy(dtype=object)
    if "backbone" not in trials:
        return optimizers
    if trials["backbone"].nunique() < 2 and not any(AND in name for name in bounds):
        return optimizers
    return (trials["backbone"].astype(str) + AND + trials["optimizer"].astype(str)).to_numpy(dtype=object)


def _marks(labels: Sequence[str]) -> dict[str, Mark]:
    names = list(dict.fromkeys(labels))
    colors = list(dict.fromkeys(name.rpartition(AND)[2] for name in names))
    markers = list(dict.fromkeys(name.rpartition(AND)[0] for name in names))
    found = {}
    for name in names:
        backbone, _, optimizer = name.rpartition(AND)
        place = markers.index(backbone) if backbone else colors.index(optimizer)
        found[name] = Mark(style.CYCLE[colors.index(optimizer) % 6], style.MARKERS[place % 6])
    return found


def _limits(scores: np.ndarray) -> tuple[float, float]:
    if not scores.size:
        return 0.0, 1.0
    low, high = float(scores.min()), float(scores.max())
    return (low, high) if high > low else (low - 0.01, high + 0.01)


def _scatter(axes: Axes, trials: pd.DataFrame, mark: Mark, *, failed_at: float) -> None:
    scores, rates = _scores(trials), trials["lr"].to_numpy(dtype=float)
    size = 18 if len(trials) > MANY_TRIALS else 34
    scored, full = np.isfinite(scores), trials["status"].eq(COMPLETED).to_numpy()
    for kept, face, order in ((scored & ~full, "none", 3), (scored & full, mark.color, 4)):
        axes.scatter(
            rates[kept], scores[kept], s=size, marker=mark.marker,
            facecolors=face, edgecolors=mark.color, linewidths=1.1, zorder=order,
        )  # fmt: skip
    failed = rates[~scored]
    axes.scatter(failed, np.full(len(failed), failed_at), s=28, marker="x", color=mark.color, linewidths=1.3, zorder=3)


def _ring(axes: Axes, rows: pd.DataFrame, name: str, marker: str) -> list[Line2D]:
    """Ring a trial that has a score; its entry of the key, none where it has no score."""
    if rows.empty or not np.isfinite(_scores(rows)[0]):
        return []
    lr, score = float(rows["lr"].iloc[0]), float(rows["score"].iloc[0])
    ring = {"marker": marker, "linestyle": "", "markerfacecolor": "none", "markersize": 11, "color": style.INK}
    axes.plot([lr], [score], zorder=5, **ring)  # type: ignore[arg-type]
    return [Line2D([], [], label=f"{name} {style.number(round(score, 4))}", **ring)]  # type: ignore[arg-type]


def _search_subtitle(trials: pd.DataFrame, bounds: Mapping[str, object]) -> str:
    failed = int((~np.isfinite(_scores(trials))).sum())
    text = counted(len(trials), "trial")
    text += f", {failed} without a score (crosses)" if failed else ""
    each = "backbone and optimizer" if any(AND in name for name in bounds) else "optimizer"
    return text + (f"; bars: the range searched per {each}" if bounds else "")


def _search_key(marks: Mapping[str, Mark], trials: pd.DataFrame) -> list[Line2D]:
    handles = [
        Line2D([], [], linestyle="", marker=mark.marker, color=mark.color, label=name) for name, mark in marks.items()
    ]
    if trials["status"].eq(STOPPED).any():
        hollow = {"marker": "o", "markerfacecolor": "none", "color": style.MUTED}
        handles.append(Line2D([], [], linestyle="", label="stopped early", **hollow))  # type: ignore[arg-type]
    return handles


def _importance_subtitle(basis: str, r_squared: float | None) -> str:
    text = f"Share of the score's variance over the space that a key explains alone (fANOVA); {basis}"
    if r_squared is None:
        return text
    if r_squared <= 0:
        return f"{text}\nThis may be noise: the settings do not predict the scores of trials not yet seen"
    return f"{text}\nThe settings predict {style.percent(r_squared)} of the variance among trials not yet seen"
