"""What a person sees where there is no terminal: plain lines, seldom, on standard error."""

import re

import pytest
from rich.table import Table

from pipeline import console as module
from pipeline.console import QUIET_SECONDS, Console, Terminal, duration


@pytest.fixture
def clock(monkeypatch):
    class Clock:
        now = 1000.0

        def monotonic(self) -> float:
            return self.now

    clock = Clock()
    monkeypatch.setattr(module, "time", clock)
    return clock


def test_messages_go_to_standard_error_alone_and_are_not_interpreted(capsys) -> None:
    console = Console()
    console.say("[1/6] prepare: [bold]not markup[/bold]", "bold")
    console.warn("careful")
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == "[1/6] prepare: [bold]not markup[/bold]\nwarning: careful\n"


def test_a_long_message_stays_on_one_line(capsys) -> None:
    Console().say("x" * 500)
    assert capsys.readouterr().err == "x" * 500 + "\n"


def test_nothing_in_a_name_acts_at_the_terminal(capsys) -> None:
    name = "[red] NG [/x] :smile: 100% \x1b[31m\u202e\udce9 {x}"
    shown = r"[red] NG [/x] :smile: 100% \x1b[31m\u202e\udce9 {x}"
    console = Console()
    console.say(name)
    table = Table(name, box=None, padding=0)
    table.add_row(name)
    console.table(table)
    assert [line.strip() for line in capsys.readouterr().err.splitlines()] == [shown] * 3


def test_a_progress_bar_shows_names_as_they_are(capsys) -> None:
    console = Console()
    console.rich = Terminal(force_terminal=True, width=120, stderr=True)
    with console.bar("[red] :smile: \x07", 2) as advance:
        advance(1, note="[b]x[/b] \x1b[2J")
    shown = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", capsys.readouterr().err)
    assert r"[red] :smile: \x07" in shown
    assert r"[b]x[/b] \x1b[2J" in shown


def test_of_one_subject_one_warning_is_given(capsys) -> None:
    console = Console()
    for letters in ("x", "y"):
        console.warn_once("letters", f"no font shows {letters}")
    assert capsys.readouterr().err == "warning: no font shows x\n"


def test_a_quiet_console_says_nothing(capsys) -> None:
    Console(quiet=True).say("hello")
    assert capsys.readouterr().err == ""


def test_short_work_writes_no_progress_line(capsys, clock) -> None:
    with Console().bar("training", 10) as advance:
        for _ in range(10):
            advance()
    assert capsys.readouterr().err == ""


def test_long_work_writes_a_line_every_half_minute(capsys, clock) -> None:
    with Console().bar("training", 100, done=10) as advance:
        for _ in range(7):
            clock.now += QUIET_SECONDS / 3
            advance(2, note="loss 0.5")
    assert capsys.readouterr().err.splitlines() == ["  training 16/100 loss 0.5", "  training 22/100 loss 0.5"]


def test_a_note_stays_until_it_is_replaced(capsys, clock) -> None:
    with Console().bar("search", None) as advance:
        advance(0, note="best 0.9")
        clock.now += QUIET_SECONDS
        advance()
    assert capsys.readouterr().err == "  search 1 best 0.9\n"


def test_an_exception_passes_through_a_bar() -> None:
    with pytest.raises(RuntimeError, match="broken"), Console().bar("training", 3):
        raise RuntimeError("broken")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.04, "0.0 s"),
        (59.9, "59.9 s"),
        (59.97, "1 min 00 s"),
        (60, "1 min 00 s"),
        (245, "4 min 05 s"),
        (3599.9, "59 min 59 s"),
        (7380, "2 h 03 min"),
    ],
)
def test_a_duration_is_given_in_the_unit_that_fits(seconds: float, text: str) -> None:
    assert duration(seconds) == text
