"""What the reports of the stages share: a page whose figures go to MLflow, tables, numbers in words."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pandas as pd
from rich.box import SIMPLE_HEAD
from rich.table import Table

from components.report.html import Section, render_report
from components.report.style import percent
from pipeline.stage import StageContext

DASH = "–"
MOST_KEY_CHARS = 100


def write_page(
    context: StageContext,
    name: str,
    *,
    title: str,
    subtitle: str,
    headline: Sequence[tuple[str, str, str]],
    sections: Sequence[Section],
) -> None:
    """Write the page to the stage's folder, and log each figure to MLflow.

    headline: (name, value, hint) of what is shown large at the top. The file of a figure is named by the beginning of
    its caption, up to a colon.
    """
    for section in sections:
        for caption, figure in section.figures:
            file = caption.partition(":")[0].lower().replace(" ", "_")
            context.log_figure(figure, f"figures/{file}.png")
    html = render_report(title=title, subtitle=subtitle, headline=headline, sections=sections)
    (context.directory / name).write_text(html, encoding="utf-8")


def first_rows(caption: str, table: pd.DataFrame, most: int, artifact: str) -> tuple[str, pd.DataFrame]:
    """A table of at most `most` rows, whose caption says where the rest is."""
    if len(table) > most:
        caption = f"{caption}: {most} of {len(table):,} rows; all of them are in {artifact}"
    return caption, table.head(most).reset_index(drop=True)


def terminal_table(title: str, columns: Sequence[str], rows: Iterable[tuple[Sequence[str], str]]) -> Table:
    """A table for the terminal: the first column is set left, and so is one without a name, which may be broken.

    rows: cells and a style of rich's for the whole row.
    """
    table = Table(title=title, title_justify="left", title_style="bold", box=SIMPLE_HEAD)
    for number, column in enumerate(columns):
        table.add_column(column, justify="right" if number and column else "left", no_wrap=bool(column))
    for cells, style in rows:
        table.add_row(*cells, style=style)
    return table


def share(value: float | None) -> str:
    """A share in per cent; a dash for None."""
    return DASH if value is None else percent(value)


def decimal(value: float | None, digits: int = 3, *, sign: str = "") -> str:
    """A number with so many decimals, a dash for None. sign: "+" for one that shows it."""
    return DASH if value is None else f"{value:{sign}.{digits}f}".replace("-", "−")


def interval(record: Mapping[str, Any], *, as_share: bool = True) -> str:
    """Low and high of a record; a dash where it has none."""
    show = share if as_share else decimal
    return DASH if record["low"] is None else f"{show(record['low'])} to {show(record['high'])}"


def file_safe(name: str) -> str:
    """A name of an optimizer or a backbone as part of a file's or a metric's; a path is cut, and told by a digest."""
    safe = re.sub(r"[^A-Za-z0-9_.-]", "_", name)
    if len(safe) <= MOST_KEY_CHARS:
        return safe
    return f"{safe[:MOST_KEY_CHARS]}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"
