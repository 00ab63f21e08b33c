"""The figure of a confirmation: the difference of two recipes, replicate by replicate, and what is expected of it."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.figure import Figure

from components.report import style


def difference_figure(
    differences: Sequence[tuple[str, float]],
    *,
    measured: tuple[float, float] | None,
    expected: tuple[float, float, float] | None,
    objective: str,
    confidence: float,
) -> Figure:
    """A row for each replicate's difference winner − defaults, for their mean, and for the expected difference.

    differences: (name, difference) of each replicate that has one. measured: mean and standard error. expected: mean,
    and its bounds, each one-sided at the confidence.
    """
    if not differences:
        return style.empty_figure("Winner less defaults", "no two trainings could be compared")
    names = [name for name, _ in differences]
    names += ["mean, with its standard error"] if measured is not None else []
    names += [f"expected, {100 * confidence:g} % bounds"] if expected is not None else []
    figure, axes = style.plot(1.5 + 0.34 * len(names), grid="x")
    axes.axvline(0.0, color=style.MUTED, **style.DASHES)
    axes.plot([value for _, value in differences], range(len(differences)), "o", color=style.FAINT, markersize=5)
    if measured is not None:
        row, (mean, se) = len(differences), measured
        axes.errorbar(mean, row, xerr=se, fmt="o", color=style.MUTED, markersize=6, linewidth=1.8)
    if expected is not None:
        mean, low, high = expected
        limits = [[mean - low], [high - mean]]
        axes.errorbar(mean, len(names) - 1, xerr=limits, fmt="D", color=style.BLUE, markersize=6, linewidth=1.8)
    style.name_rows(axes, names)
    style.title(axes, "Winner less defaults", "right of the line the winner is better")
    style.label_axes(axes, x=f"difference in {objective}")
    return style.finish(figure)
