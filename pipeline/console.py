"""What a person sees while it runs: progress bars, one line per stage, a final table. All of it on standard error.

Standard output is left to results, so that `--json` can be piped. Names come from users: nothing in a text is markup.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from typing import Any

from rich.console import Console as RichConsole
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

from components.display import visible

Advance = Callable[..., None]
#: Without a terminal a bar cannot be drawn; a line this often says that work continues.
QUIET_SECONDS = 30


class Terminal(RichConsole):
    """Shows each text, in tables too, as it is: no markup, no emoji codes, and control characters as escapes."""

    def __init__(self, **options: Any) -> None:  # noqa: ANN401 - whatever rich takes
        super().__init__(highlight=False, markup=False, emoji=False, **options)

    def render_str(self, text: str, **options: Any) -> Text:  # noqa: ANN401 - whatever rich passes on
        """Every string that is printed comes by here."""
        return super().render_str(visible(text), **options)


class Console:
    """Progress and messages, drawn on a terminal and written as plain lines elsewhere."""

    def __init__(self, *, quiet: bool = False) -> None:
        self.rich = Terminal(stderr=True, quiet=quiet)
        self._warned: set[str] = set()

    def say(self, message: str, style: str = "") -> None:
        self.rich.print(message, style=style, soft_wrap=True)

    def warn(self, message: str) -> None:
        self.say(f"warning: {message}", "yellow")

    def warn_once(self, subject: str, message: str) -> None:
        """Warn, unless something was said of the subject already."""
        if subject not in self._warned:
            self._warned.add(subject)
            self.warn(message)

    def table(self, table: Table) -> None:
        self.rich.print(table)

    @contextlib.contextmanager
    def bar(self, description: str, total: int | None, *, done: int = 0) -> Iterator[Advance]:
        """A progress bar; the block gets `advance(n=1, note="")`."""
        if self.rich.is_terminal:
            yield from self._drawn(description, total, done)
        else:
            yield from self._lines(description, total, done)

    def _drawn(self, description: str, total: int | None, done: int) -> Iterator[Advance]:
        columns = (
            SpinnerColumn(),
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}", style="dim", markup=False),
        )
        with Progress(*columns, console=self.rich) as progress:
            task = progress.add_task(visible(description), total=total, completed=done, note="")

            def advance(n: int = 1, note: str | None = None) -> None:
                fields: dict[str, Any] = {} if note is None else {"note": visible(note)}
                progress.update(task, advance=n, **fields)

            yield advance

    def _lines(self, description: str, total: int | None, done: int) -> Iterator[Advance]:
        said, shown = time.monotonic(), ""
        of = f"/{total}" if total is not None else ""

        def advance(n: int = 1, note: str | None = None) -> None:
            nonlocal done, said, shown
            done += n
            shown = note if note is not None else shown
            if time.monotonic() - said >= QUIET_SECONDS:
                said = time.monotonic()
                self.say(f"  {description} {done}{of} {shown}".rstrip())

        yield advance


def duration(seconds: float) -> str:
    """`3.2 s`, `4 min 05 s`, `2 h 03 min`."""
    seconds = round(seconds, 1)  # 59.97 is a minute, not 60.0 s
    if seconds < 60:
        return f"{seconds:.1f} s"
    if seconds < 3600:
        return f"{int(seconds // 60)} min {int(seconds % 60):02d} s"
    return f"{int(seconds // 3600)} h {int(seconds % 3600 // 60):02d} min"
