"""What the figures of a search and of a confirmation share: names of keys, counts, and a heading over all panels."""

from __future__ import annotations

from matplotlib.figure import Figure

from components.report import pictures, style

HEADING, LINE = 0.62, 0.17
"""Inches of the strip over the panels of a figure, and of each line that its subtitle has beyond the first."""
NAMES = {"lr": "learning rate", "ema": "EMA", "augment_strength": "augmentation"}


def plain_key(key: str) -> str:
    """A searched key for the axis of a figure: `recipe.weight_decay` is weight decay."""
    last = key.rpartition(".")[2]
    return NAMES.get(last, last.replace("_", " "))


def figure_heading(figure: Figure, title: str, subtitle: str) -> None:
    """Title and subtitle over all panels, in a strip of `heading_height` that the layout leaves free."""
    width, height = figure.get_size_inches()
    engine = figure.get_layout_engine()
    assert engine is not None
    engine.set(rect=(0, 0, 1, 1 - heading_height(subtitle) / height))  # type: ignore[call-arg]
    pictures.heading(figure, title)
    figure.text(pictures.MARGIN / width, 1 - 0.38 / height, subtitle, ha="left", va="top",
                fontsize=style.TEXT_SIZE, color=style.MUTED)  # fmt: skip


def heading_height(subtitle: str) -> float:
    """Inches that a heading with this subtitle takes."""
    return HEADING + LINE * subtitle.count("\n")
