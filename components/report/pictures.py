"""What figures of photographs share: a grid of places in exact inches, an image in its place, captions and names.

All places share one pair of axes, which counts in inches: a pair for each place would take seconds for a hundred of
them, as would constrained layout, which would also stretch a column for a long caption.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from components import display
from components.report import letters, style

MARGIN, GAP, HEADING, LINE = 0.1, 0.12, 0.5, 0.155
"""Inches: around the figure, between images, for the heading; a line of a caption."""
PANELS_HEADING, SUBTITLE_LINE = 0.62, 0.17
"""Inches of the strip over the panels of a figure, and of each line that its subtitle has beyond the first."""
COLUMN_PER_POINT = 0.0072
"""Inches that a column of text takes, by the points of its size."""
NAME_CHARS = 18
"""A class name beside a row is broken into lines of this many characters."""


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where an image goes: inches from the lower left corner of the figure, and the axes that count in them."""

    axes: Axes
    left: float
    bottom: float
    width: float
    height: float

    @property
    def top(self) -> float:
        return self.bottom + self.height


def places(
    rows: int,
    columns: int,
    *,
    fitting: int,
    aspect: float = 1.0,
    left: float = 0.0,
    above: float = 0.0,
    below: float = 0.0,
    apart: float = 0.0,
    top: float = 0.0,
) -> tuple[Figure, np.ndarray]:
    """A figure of the report's width and its (rows, columns) places, sized so that `fitting` of them fill a row.

    Every figure has one width, so that texts are of one size throughout a page. aspect: width of a place by its height.
    In inches: left, room beside each row; above and below, over and under each image; apart, behind the first column;
    top, under the heading.
    """
    width = (style.WIDTH - 2 * MARGIN - left - apart - (fitting - 1) * GAP) / fitting
    height = width / aspect
    pitch = above + height + below + GAP
    total = HEADING + top + rows * pitch - GAP + MARGIN
    figure = style.new_figure(style.WIDTH, total)
    figure.set_layout_engine("none")
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_axis_off()
    axes.set(xlim=(0, style.WIDTH), ylim=(0, total))
    grid = np.empty((rows, columns), dtype=object)
    for row, column in np.ndindex(rows, columns):
        grid[row, column] = Place(
            axes=axes,
            left=MARGIN + left + column * (width + GAP) + (apart if column else 0.0),
            bottom=total - HEADING - top - row * pitch - above - height,
            width=width,
            height=height,
        )
    return figure, grid


def show(place: Place, image: np.ndarray) -> None:
    """Draw one image, (H, W, 3) uint8, as large as it fits, at the upper left of its place."""
    height, width = image.shape[:2]
    scale = min(place.width / width, place.height / height)
    extent = (place.left, place.left + width * scale, place.top - height * scale, place.top)
    place.axes.imshow(image, interpolation="antialiased", aspect="auto", extent=extent)


def caption(place: Place, text: str) -> None:
    """Lines of text below an image, flush with its left edge and no wider than its place."""
    text = _fitted(text, place.width, style.SMALL_SIZE)
    style.note(place.axes, text, (place.left, place.bottom), offset=(0, -4), va="top", color=style.MUTED)


def title_above(place: Place, text: str, *, color: str = style.INK) -> None:
    """One line over an image, flush with its left edge; it may run over the images beside it."""
    text = _fitted(text, style.WIDTH - place.left, style.TEXT_SIZE)
    style.note(place.axes, text, (place.left, place.top), offset=(0, 4), va="bottom", size=style.TEXT_SIZE, color=color)


def heading(figure: Figure, text: str) -> None:
    width, height = figure.get_size_inches()
    text = _fitted(text, width - 2 * MARGIN, style.TITLE_SIZE)
    figure.text(MARGIN / width, 1 - 0.14 / height, text, ha="left", va="top", fontsize=style.TITLE_SIZE,
                fontweight="bold", color=style.INK)  # fmt: skip


def panels_heading(figure: Figure, title: str, subtitle: str) -> None:
    """Title and subtitle over all panels, in a strip of `panels_heading_height` that the layout leaves free."""
    width, height = figure.get_size_inches()
    strip = panels_heading_height(subtitle) / height
    figure.get_layout_engine().set(rect=(0, 0, 1, 1 - strip))  # type: ignore[call-arg,union-attr]
    heading(figure, title)
    figure.text(MARGIN / width, 1 - 0.38 / height, subtitle, ha="left", va="top",
                fontsize=style.TEXT_SIZE, color=style.MUTED)  # fmt: skip


def panels_heading_height(subtitle: str) -> float:
    return PANELS_HEADING + SUBTITLE_LINE * subtitle.count("\n")


def line_count(texts: Iterable[str]) -> int:
    """The lines of the longest text; 0 where all are empty."""
    return max((text.count("\n") + 1 if text else 0 for text in texts), default=0)


def wrapped(text: str, columns: int, *, lines: int = 3) -> str:
    """A name on at most that many lines of at most so many columns, its middle left out where it is too long."""
    return display.wrapped(letters.shown(text), columns, lines=lines)


def _fitted(text: str, inches: float, size: float) -> str:
    """Each line of the text, its middle left out where it takes more room than that at a size in points."""
    columns = max(int(inches / (COLUMN_PER_POINT * size)), 8)
    return "\n".join(display.shortened(line, columns) for line in letters.shown(text).split("\n"))
