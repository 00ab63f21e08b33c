"""The display of a search: a bar with the remaining time, and on a terminal a table of the running and best trials.

Without a terminal it prints a line when a trial ends.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from typing import Any

from rich.console import Group, RenderableType
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from components.display import counted
from components.search.trial import TrialRecord
from pipeline.console import QUIET_SECONDS, Console, duration
from pipeline.search.portfolio import portfolio_recipe

SHOWN = 8
#: Without a terminal, longer searches are not shown trial by trial.
SHOWN_ONE_BY_ONE = 50
MARKS = {"running": "▸", "completed": "✓", "stopped": "–", "diverged": "✗", "failed": "✗"}


class SearchView:
    """Shows the records of a search. remaining: returns the remaining seconds."""

    def __init__(
        self,
        console: Console,
        records: list[TrialRecord],
        *,
        num_trials: int,
        objective: str,
        remaining: Callable[[], float],
    ) -> None:
        self._console, self._records, self._total, self._objective = console, records, num_trials, objective
        self._remaining = remaining
        self._live: Live | None = None
        self._progress = Progress(
            SpinnerColumn(),
            TextColumn("trials"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[note]}", style="dim", markup=False),
            console=console.rich,
        )
        self._task = self._progress.add_task("trials", total=num_trials, note="")
        self._said = time.monotonic()

    @contextlib.contextmanager
    def shown(self) -> Iterator[None]:
        if not self._console.rich.is_terminal:
            yield
            return
        with Live(
            get_renderable=self._drawing, console=self._console.rich, refresh_per_second=2, transient=True
        ) as live:
            self._live = live
            yield
        self._console.rich.print(self._table())

    def started(self, record: TrialRecord) -> None:
        """The table shows it."""

    def reported(self, record: TrialRecord, result: dict[str, Any]) -> None:
        """The table shows it."""

    def ended(self, record: TrialRecord, trace: str) -> None:
        """Warn of failures; without a table, print the others."""
        if record.status == "failed":
            self._console.warn(f"trial {record.number} failed: {record.message}")
        elif record.status == "diverged":
            self._console.warn(f"trial {record.number} diverged: {short_settings(record)}")
        elif self._live is None and self._total <= SHOWN_ONE_BY_ONE:
            self._console.say(f"  {self._line(record)}; {self._note()}")
            self._said = time.monotonic()

    def tick(self) -> None:
        """Without a terminal, print the progress every QUIET_SECONDS."""
        if self._live is None and time.monotonic() - self._said >= QUIET_SECONDS:
            self._said = time.monotonic()
            ended = sum(record.ended for record in self._records)
            self._console.say(f"  trials {ended}/{self._total}, {self._note()}")

    def _drawing(self) -> RenderableType:
        ended = sum(record.ended for record in self._records)
        self._progress.update(self._task, completed=ended, note=self._note())
        return Group(self._progress, self._table())

    def _note(self) -> str:
        best = best_of(self._records)
        text = f"best {best.scores[best.epochs]:.4f} (trial {best.number})" if best else "no score yet"
        left = self._remaining()
        return f"{text}, about {duration(left)} left" if left > 0 else text

    def _line(self, record: TrialRecord) -> str:
        score = "no score" if record.score is None else f"{self._objective} {record.score:.4f}"
        epochs = counted(record.epochs, "epoch")
        what = "the defaults" if record.number == 0 else short_settings(record)
        return f"trial {record.number} {record.status} after {epochs}: {score} ({what})"

    def _table(self) -> Table:
        table = Table(box=None, padding=(0, 1), header_style="dim")
        for column, align in (("", "left"), ("trial", "right"), ("epochs", "right"), (self._objective, "right")):
            table.add_column(column, justify=align)  # type: ignore[arg-type]
        table.add_column("time", justify="right")
        table.add_column("settings", overflow="ellipsis", no_wrap=True)
        running = [record for record in self._records if not record.ended]
        best = sorted((r for r in self._records if r.ended and r.score is not None), key=_rank)
        for record in [*running, *best][:SHOWN]:
            score = f"{record.scores[record.epochs]:.4f}" if record.scores else ""
            epochs = f"{record.epochs}/{record.suggestion.epochs}"
            what = "the defaults" if record.number == 0 else short_settings(record)
            cells = (MARKS[record.status], str(record.number), epochs, score, duration(record.seconds), what)
            table.add_row(*cells, style="" if record.ended else "cyan")
        return table


def best_of(records: list[TrialRecord]) -> TrialRecord | None:
    """The trial with the best last score among those that reached the latest epoch, without those on a fold."""
    scored = [record for record in records if record.suggestion.fold is None and record.score is not None]
    return min(scored, key=_rank) if scored else None


def _rank(record: TrialRecord) -> tuple[int, float]:
    return -record.epochs, -record.scores[record.epochs]


def short_settings(record: TrialRecord) -> str:
    """A trial's overrides as a short text, after the name of its recipe in the portfolio."""
    recipe = portfolio_recipe(record.suggestion.phase)
    shown = [] if recipe is None else [recipe.name]
    for key, value in record.suggestion.overrides.items():
        text = f"{value:.3g}" if isinstance(value, float) else str(value)
        shown.append(f"{key.partition('.')[2]} {text}")
    if record.suggestion.fold is not None:
        shown.append(f"fold {record.suggestion.fold}")
    if record.suggestion.seed:
        shown.append(f"seed {record.suggestion.seed}")
    return ", ".join(shown)
