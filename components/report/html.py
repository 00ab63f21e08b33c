"""The report: one HTML file that stands alone, style and figures inside, and asks for nothing outside."""

from __future__ import annotations

import base64
import io
import math
import re
import weakref
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jinja2
import matplotlib
import numpy as np
import pandas as pd
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

from components.display import visible
from components.report import letters, style

PNG_DPI = 160
MAX_SVG_BYTES = 400_000
"""Above this a figure is embedded as PNG: thousands of paths make a page slow."""
MANY_ROWS = 40
"""A table with more rows scrolls in a box of its own, so that the chapters behind it stay within reach."""

_DRAWN: weakref.WeakKeyDictionary[Figure, bytes] = weakref.WeakKeyDictionary()


@dataclass(frozen=True)
class Section:
    """One chapter: paragraphs (split at blank lines), tables, figures, and notes set apart from the text."""

    title: str
    text: str = ""
    tables: Sequence[tuple[str, pd.DataFrame]] = field(default_factory=list)
    figures: Sequence[tuple[str, Figure]] = field(default_factory=list)
    notes: Sequence[str] = field(default_factory=list)


def render_report(
    title: str, subtitle: str, headline: Sequence[tuple[str, str, str]], sections: Sequence[Section]
) -> str:
    """The whole document. headline: (name, value, hint) of each figure that is shown large at the top.

    All text is escaped. Under the subtitle stands what letters the figures cannot show. The page follows the reader's
    light or dark scheme, and prints.
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=lambda value: visible(value) if isinstance(value, str) else value,
    )
    # A per cent sign, and what stands behind ±, stay with their number.
    environment.filters["tidy"] = lambda text: text.replace(" %", "\u00a0%").replace(" ± ", "\u00a0±\u00a0")
    chapters = [
        {
            "id": f"s{order}-" + re.sub(r"[^a-z0-9]+", "-", section.title.lower()).strip("-"),
            "title": section.title,
            "paragraphs": _paragraphs(section.text),
            "tables": [_table(caption, frame) for caption, frame in section.tables],
            "figures": [(caption, figure_uri(figure)) for caption, figure in section.figures],
            "notes": list(section.notes),
        }
        for order, section in enumerate(sections, start=1)
    ]
    unshown = letters.missing_note()
    return environment.get_template("report.html").render(
        title=title,
        subtitle=_paragraphs(subtitle) + ([f"{unshown[0].upper()}{unshown[1:]}."] if unshown else []),
        headline=list(headline),
        sections=chapters,
    )


def figure_png(figure: Figure) -> bytes:
    """The figure as PNG bytes, drawn once however often it is asked for."""
    if figure not in _DRAWN:
        figure.set_dpi(PNG_DPI)
        canvas = FigureCanvasAgg(figure)
        canvas.draw()  # once; `savefig` draws a figure twice, the first time for the places of its parts alone
        buffer = io.BytesIO()
        # A gallery of photographs takes three times as long at the usual level, for a file that is hardly smaller.
        Image.fromarray(np.asarray(canvas.buffer_rgba())).save(buffer, format="png", compress_level=2)
        _DRAWN[figure] = buffer.getvalue()
    return _DRAWN[figure]


def figure_uri(figure: Figure) -> str:
    """A data URI: SVG for drawings, PNG for photographs and for drawings that would be too heavy.

    The text of an SVG is outlines, and the same figure gives the same bytes.
    """
    if not any(axes.images for axes in figure.axes):
        buffer = io.BytesIO()
        with matplotlib.rc_context({"svg.hashsalt": "escapement", "svg.fonttype": "path"}):
            figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
        if len(buffer.getvalue()) <= MAX_SVG_BYTES:
            return "data:image/svg+xml;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")
    return "data:image/png;base64," + base64.b64encode(figure_png(figure)).decode("ascii")


def _table(caption: str, frame: pd.DataFrame) -> dict[str, Any]:
    """Header and cells as text; numbers are set right. A named or non-range index is a column."""
    if frame.index.name is not None or not isinstance(frame.index, pd.RangeIndex):
        frame = frame.reset_index(names=frame.index.name or "")
    columns = [column for _, column in frame.items()]
    numeric = [_is_numeric(column) for column in columns]
    cells = [
        _number_cells(column) if is_number else [_cell(value) for value in column]
        for column, is_number in zip(columns, numeric, strict=True)
    ]
    return {
        "caption": caption,
        "tall": len(frame) > MANY_ROWS,
        "header": list(zip([str(column) for column in frame.columns], numeric, strict=True)),
        "rows": [
            [(cells[position][row], is_number) for position, is_number in enumerate(numeric)]
            for row in range(len(frame))
        ],
    }


def _is_numeric(column: pd.Series) -> bool:
    """Numbers throughout, apart from missing values."""
    known = [value for value in column if not _is_missing(value)]
    return bool(known) and all(
        isinstance(value, int | float | np.number) and not isinstance(value, bool | np.bool_) for value in known
    )


def _number_cells(column: pd.Series) -> list[str]:
    """The same decimals for the whole column where its numbers are of like size; else each by itself."""
    known = np.array([float(value) for value in column if not _is_missing(value)])
    sizes = np.abs(known[known != 0])
    if not np.isfinite(known).all() or not sizes.size or sizes.min() < 1e-3 or sizes.max() >= 1e4:
        return [_cell(value) for value in column]
    most = max(3 - math.floor(math.log10(sizes.max())), 0)
    decimals = most
    while decimals and np.allclose(known, known.round(decimals - 1), rtol=0, atol=1e-9):
        decimals -= 1
    return ["–" if _is_missing(value) else f"{float(value):,.{decimals}f}" for value in column]


def _cell(value: object) -> str:
    if _is_missing(value):
        return "–"
    if isinstance(value, bool | np.bool_):
        return "yes" if value else "no"
    if isinstance(value, int | np.integer):
        return f"{int(value):,}"
    if isinstance(value, float | np.floating):
        return style.number(float(value))
    return str(value)


def _is_missing(value: object) -> bool:
    return value is None or value is pd.NA or value is pd.NaT or (isinstance(value, float) and math.isnan(value))


def _paragraphs(text: str) -> list[str]:
    return [part.strip() for part in re.split(r"\n\s*\n", text) if part.strip()]
