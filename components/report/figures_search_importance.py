"""How much of the difference between the trials each searched key accounts for, as bars."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from matplotlib.figure import Figure

from components.report import pictures, style, trial_looks

REST = "several together, and noise"


def importance_figure(importances: Mapping[str, Any]) -> Figure:
    """A bar per key, the most important first, and one for what no key explains alone.

    importances: the record of `Importances.to_dict`: shares (key → share in [0, 1]), basis, reason, foretold.
    """
    heading = "Which settings made the difference"
    shares = importances["shares"]
    if not shares:
        return style.empty_figure(heading, f"not known: {importances['reason']}")
    rest = max(0.0, 1 - sum(shares.values()))
    foretold = importances["foretold"]
    color = style.MUTED if foretold is not None and foretold <= 0 else style.BLUE
    bars = [(trial_looks.plain_key(key), share, color) for key, share in shares.items()]
    bars.append((REST, rest, style.FAINT))
    subtitle = _subtitle(importances["basis"], foretold)
    figure = style.new_figure(style.WIDTH, trial_looks.heading_height(subtitle) + 0.2 + 0.3 * len(bars))
    axes = figure.add_subplot()
    style.quiet_axes(axes, grid=None)
    for row, (_, share, color) in enumerate(bars):
        axes.barh(row, share, height=0.62, color=color)
        axes.annotate(
            style.percent(share), (share, row), xytext=(5, 0), textcoords="offset points", va="center",
            fontsize=style.TEXT_SIZE, fontweight="bold" if row == 0 else "normal",
            color=style.MUTED if color == style.FAINT else style.INK,
        )  # fmt: skip
    axes.set_ylim(len(bars) - 0.4, -0.6)
    axes.set_xlim(0, 1.1 * max(share for _, share, _ in bars))
    axes.set_yticks(range(len(bars)), [pictures.wrapped(name, 30, lines=1) for name, _, _ in bars])
    axes.tick_params(axis="y", length=0, labelsize=style.TEXT_SIZE, labelcolor=style.INK)
    axes.get_yticklabels()[-1].set_color(style.MUTED)
    axes.set_xticks([])
    axes.spines["bottom"].set_visible(False)
    trial_looks.figure_heading(figure, heading, subtitle)
    return style.finish(figure)


def _subtitle(basis: str, foretold: float | None) -> str:
    """What the shares are of, and how far they can be trusted."""
    text = f"Share of the score's variance over the space that a key explains alone (fANOVA); {basis}"
    if foretold is None:
        return text
    if foretold <= 0:
        return f"{text}\nThis may be noise: from the settings, the scores of trials not yet seen cannot be foretold"
    share = style.percent(foretold)
    return f"{text}\nFrom the settings, {share} of the variance among trials not yet seen can be foretold"
