"""Figures of the decisions on a split: ROC, the scores and their thresholds, the confusion of classes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from scipy import special

from components.report import pictures, style

SCORE_TICKS = (1e-6, 1e-5, 1e-4, 1e-3, 0.01, 0.1, 0.5, 0.9, 0.99, 0.999, 0.9999, 0.99999, 0.999999)
HISTOGRAM_BINS = 40
CELL_INCHES = {8: 0.86, 20: 0.55}
"""Side of a cell of the confusion, up to so many classes."""
MIN_CELL_INCHES = 0.36
CLASS_COLUMNS = 22
"""A class name beside the confusion is broken into lines of so many columns."""
THRESHOLD_COLORS = (style.INK, style.GREEN, style.PURPLE, style.ORANGE)
_SHADES = LinearSegmentedColormap.from_list("shades", ["#F3F6F9", "#9CC7E3", style.BLUE])


def roc_figure(log_odds: np.ndarray, is_defect: np.ndarray, thresholds: Mapping[str, float]) -> Figure:
    """Two panels: the ROC curve, and both error rates against the threshold; each threshold marked by name.

    log_odds: (N,) finite; is_defect: (N,) bool; thresholds: log-odds; rejected when at or above.
    """
    log_odds, is_defect = np.asarray(log_odds, dtype=float), np.asarray(is_defect, dtype=bool)
    if not is_defect.size:
        return style.empty_figure("ROC", "no images")
    if is_defect.all() or not is_defect.any():
        kind = "defective" if is_defect.all() else "good"
        return style.empty_figure("ROC", f"all {is_defect.size:,} images are {kind}: nothing to separate")
    figure = style.new_figure(style.WIDTH, 4.5)
    roc, errors = figure.subplots(1, 2, width_ratios=[1, 1.15])
    defective, good = np.sort(log_odds[is_defect]), np.sort(log_odds[~is_defect])
    cuts = np.append(np.unique(log_odds), np.inf)
    escape = np.searchsorted(defective, cuts, side="left") / defective.size
    overkill = 1 - np.searchsorted(good, cuts, side="left") / good.size
    style.quiet_axes(roc, grid="both")
    roc.plot(overkill, 1 - escape, color=style.BLUE, linewidth=2, solid_joinstyle="round", clip_on=False, zorder=3)
    roc.plot([0, 1], [0, 1], color=style.FAINT, zorder=1, **style.DASHES)
    roc.set(xlim=(0, 1), ylim=(0, 1), aspect="equal")
    area = -float(np.trapezoid(1 - escape, overkill))
    style.title(roc, "ROC", f"area {area:.4f}; {defective.size:,} defective, {good.size:,} good images")
    style.label_axes(roc, x="overkill: good images rejected", y="sensitivity: defective images rejected")
    _error_curves(errors, cuts, escape, overkill, thresholds)
    for order, (name, threshold) in enumerate(thresholds.items()):
        place = float((good >= threshold).mean()), float((defective >= threshold).mean())
        color = THRESHOLD_COLORS[order % len(THRESHOLD_COLORS)]
        roc.scatter(*place, s=52, color=color, edgecolors=style.PAPER, linewidths=1.2, zorder=5, clip_on=False)
        row = 0.2 - 0.115 * order
        roc.scatter(0.36, row, s=40, color=color, zorder=5)
        text = f"{name}\nescape {style.percent(1 - place[1])}, overkill {style.percent(place[0])}"
        style.note(roc, text, (0.4, row), color=color)
    return style.finish(figure)


def score_histogram(log_odds: np.ndarray, is_defect: np.ndarray, thresholds: Mapping[str, float]) -> Figure:
    """Scores of good images above, of defective ones below the line, as shares of each, on a logit axis.

    log_odds: (N,) finite; is_defect: (N,) bool; thresholds: log-odds. The outermost bins hold what lies beyond the
    axis.
    """
    log_odds, is_defect = np.asarray(log_odds, dtype=float), np.asarray(is_defect, dtype=bool)
    if not log_odds.size:
        return style.empty_figure("Defect scores", "no images")
    figure, axes = style.plot(3.9)
    reach = _reach(log_odds, thresholds)
    edges = np.linspace(-reach, reach, HISTOGRAM_BINS + 1)
    places = np.clip(log_odds, -reach, reach)
    peak = 0.0
    for kind, sign, color, name in (
        (~is_defect, 1, style.GOOD, "good"),
        (is_defect, -1, style.DEFECTIVE, "defective"),
    ):
        share = np.histogram(places[kind], edges)[0] / max(int(kind.sum()), 1)
        peak = max(peak, float(share.max()))
        axes.bar(
            edges[:-1], sign * share, width=np.diff(edges), align="edge", color=color, alpha=0.85,
            edgecolor=style.PAPER, linewidth=0.6,
        )  # fmt: skip
        style.note(
            axes, f"{name} ({kind.sum():,})", (0.012, 0.93 if sign > 0 else 0.07), at="axes fraction",
            size=style.TEXT_SIZE, bold=True, color=color,
        )  # fmt: skip
    axes.set_ylim(-1.25 * peak, 1.25 * peak)
    axes.axhline(0, color=style.INK, linewidth=0.8)
    axes.yaxis.set_major_formatter(lambda value, _: f"{100 * abs(value):.3g} %")
    _threshold_axis(axes, reach, thresholds)
    style.title(axes, "Defect scores", "share of the images of each kind; right of a threshold is rejected")
    style.label_axes(axes, x="calibrated defect score")
    return style.finish(figure)


def confusion_figure(matrix: Sequence[Sequence[int]] | np.ndarray, classes: Sequence[str]) -> Figure:
    """Counts, rows actual and columns predicted, shaded by their share of the row. matrix: (K, K)."""
    table = np.asarray(matrix, dtype=float)
    if not table.size or table.sum() == 0:
        return style.empty_figure("Confusion", "no images")
    count = len(classes)
    cell = next((inches for most, inches in CELL_INCHES.items() if count <= most), MIN_CELL_INCHES)
    figure, axes = style.plot(max(cell * count + 1.2, 3.0), width=max(cell * count + 2.0, 4.6), grid=None)
    share = np.divide(table, table.sum(axis=1, keepdims=True), out=np.zeros_like(table), where=table > 0)
    axes.pcolormesh(share, cmap=_SHADES, vmin=0, vmax=1, edgecolors=style.PAPER, linewidth=2)
    with_shares = count <= min(CELL_INCHES)
    for (row, column), images in np.ndenumerate(table):
        part = share[row, column]
        color = style.PAPER if part > 0.8 else style.INK if images else style.FAINT
        place = (column + 0.5, row + (0.42 if with_shares else 0.5))
        size = style.TITLE_SIZE if with_shares else style.SMALL_SIZE
        style.note(axes, f"{images:,.0f}", place, ha="center", size=size, color=color)
        if with_shares and images:
            style.note(axes, style.percent(part), (column + 0.5, row + 0.7), ha="center", size=7.5, color=color)
    names = [pictures.wrapped(str(name), CLASS_COLUMNS, lines=2) for name in classes]
    turned = count > 4 or max(len(name) for name in names) > 12
    # A second line of a turned name would run into its neighbour.
    columns = [pictures.wrapped(str(name), CLASS_COLUMNS, lines=1) for name in classes] if turned else names
    axes.set_xticks(np.arange(count) + 0.5, columns, rotation=40 if turned else 0, ha="right" if turned else "center",
                    rotation_mode="anchor" if turned else "default")  # fmt: skip
    axes.set_yticks(np.arange(count) + 0.5, names)
    axes.tick_params(length=0, labelsize=style.TEXT_SIZE, labelcolor=style.INK)
    axes.set(ylim=(count, 0), aspect="equal", anchor="W")
    axes.spines[:].set_visible(False)
    what = "number and share of the actual class" if with_shares else "shaded by the share of the actual class"
    style.title(axes, "Confusion", f"{table.sum():,.0f} images; {what}")
    style.label_axes(axes, x="predicted", y="actual")
    return style.finish(figure)


def _error_curves(
    axes: Axes, cuts: np.ndarray, escape: np.ndarray, overkill: np.ndarray, thresholds: Mapping[str, float]
) -> None:
    """Both error rates against the threshold: the trade that an operating point makes."""
    style.quiet_axes(axes)
    reach = _reach(cuts, thresholds)
    places = np.concatenate([[-reach], np.clip(cuts, -2 * reach, 2 * reach)])
    for values, first, color, name, side in (
        (escape, 0.0, style.DEFECTIVE, "escape rate", 1),
        (overkill, 1.0, style.GOOD, "overkill rate", -1),
    ):
        # An image at the cut itself is rejected: the rate changes just above it, hence steps from the left.
        rates = np.concatenate([[first], values])
        axes.plot(places, rates, color=color, linewidth=2, drawstyle="steps-pre")
        where = int(np.argmin(np.abs(rates - 0.6)))
        style.note(
            axes, name, (places[where], 0.6), offset=(8 * side, 0), ha="left" if side > 0 else "right",
            size=style.TEXT_SIZE, bold=True, color=color, over_lines=True,
        )  # fmt: skip
    axes.set_ylim(0, 1.12)
    axes.set_yticks([0, 0.25, 0.5, 0.75, 1], ["0 %", "25 %", "50 %", "75 %", "100 %"])
    _threshold_axis(axes, reach, thresholds)
    style.title(axes, "The trade", "a higher threshold rejects less: fewer good images, and fewer defective ones")
    style.label_axes(axes, x="threshold on the defect score")


def _threshold_axis(axes: Axes, reach: float, thresholds: Mapping[str, float]) -> None:
    """Scores on a logit axis from -reach to reach, and a named line for each threshold."""
    shown = [tick for tick in SCORE_TICKS if abs(special.logit(tick)) <= reach + 1e-9]
    axes.set_xticks([float(special.logit(tick)) for tick in shown], [f"{tick:g}" for tick in shown])
    axes.set_xlim(-reach, reach)
    for order, (name, log_odds) in enumerate(thresholds.items()):
        color, score = THRESHOLD_COLORS[order % len(THRESHOLD_COLORS)], float(special.expit(log_odds))
        place = float(np.clip(log_odds, -reach, reach))
        axes.axvline(place, color=color, linewidth=1.3, zorder=4)
        style.note(
            axes, f"{name} {style.number(round(score, 4)) if score >= 1e-3 else style.rate(score)}", (place, 1),
            offset=(4 if place <= 0 else -4, -3 - 12 * order), at=("data", "axes fraction"),
            ha="left" if place <= 0 else "right", va="top", bold=True, color=color, over_lines=True,
        )  # fmt: skip


def _reach(log_odds: np.ndarray, thresholds: Mapping[str, float]) -> float:
    """Half the width of an axis that holds the thresholds and nearly all log-odds, and all that have a tick."""
    # Half the odds of a threshold lie on the axis, too.
    far = [abs(value) + np.log(2) for value in thresholds.values()]
    inner = np.abs(np.quantile(log_odds[np.isfinite(log_odds)], [0.01, 0.99]))
    return float(np.clip(max(*far, *inner, 0.0), special.logit(0.99), -special.logit(SCORE_TICKS[0])))
