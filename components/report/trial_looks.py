"""What the figures of a search share: how a trial's end looks, how keys and times are written, headings."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from components.display import width
from components.report import pictures, style

COMPLETED, STOPPED, DIVERGED, FAILED = "completed", "stopped", "diverged", "failed"
STATUS_COLORS = {COMPLETED: style.BLUE, STOPPED: style.SKY, DIVERGED: style.VERMILLION, FAILED: style.PURPLE}
STATUS_NAMES = {COMPLETED: "completed", STOPPED: "stopped early", DIVERGED: "diverged", FAILED: "failed"}

HEADING, LINE = 0.62, 0.17
"""Inches of the strip over the panels of a figure, and of each line that its subtitle has beyond the first."""
KEY_CHARS = 120
"""What fits into a line of a key over the report's width, the sample of each entry counted as six."""
NAMES = {"lr": "learning rate", "layer_decay": "layer decay", "ema": "EMA", "augment_strength": "augmentation"}


def known_scores(trials: pd.DataFrame) -> np.ndarray:
    """(N,) float64, nan for a trial without one."""
    return trials["score"].to_numpy(dtype=float, na_value=np.nan)


def plain_key(key: str) -> str:
    """A searched key for the axis of a figure: `recipe.weight_decay` is weight decay."""
    last = key.rpartition(".")[2]
    return NAMES.get(last, last.replace("_", " "))


def counted(count: int, noun: str) -> str:
    """1 trial, 2 trials."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def duration(seconds: float) -> str:
    """Seconds as a reader would say them: 42 s, 3.5 min, 2.1 h."""
    unit, name = time_unit(seconds)
    value = seconds / unit
    return f"{value:.0f} {name}" if value >= 20 or unit == 1 else f"{value:.2g} {name}"


def time_unit(seconds: float) -> tuple[float, str]:
    """The unit in which so many seconds are a handy number, in seconds, and its sign."""
    for unit, name, limit in ((1.0, "s", 120.0), (60.0, "min", 7200.0)):
        if seconds < limit:
            return unit, name
    return 3600.0, "h"


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


def wide_key(axes: Axes, handles: Sequence[Artist]) -> None:
    """A key below the axes, in as many columns as its longest entry lets fit."""
    lengths = [width(style.key_label(handle)) for handle in handles]
    longest, total = max(lengths, default=0), sum(length + 6 for length in lengths)
    columns = len(handles) if total <= KEY_CHARS else max(1, KEY_CHARS // (longest + 6))
    style.key(axes, handles, columns=columns)
