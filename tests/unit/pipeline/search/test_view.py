"""What is shown of a search: lines where there is no terminal, a table on one."""

import io
import re

import pytest
from rich.console import Console as RichConsole

from components.search.trial import Suggestion, TrialRecord
from pipeline.console import Console
from pipeline.search import view as module
from pipeline.search.view import SearchView, best_of, short_settings


def record(number: int, scores: list[float], status: str = "completed", *, message: str = "", **changes) -> TrialRecord:
    overrides = {"recipe.optimizer": "sgd", "recipe.lr": 0.0123456} if number else {}
    suggestion = Suggestion(**({"point": {}, "overrides": overrides, "epochs": 3} | changes))
    return TrialRecord(
        number=number,
        suggestion=suggestion,
        unstopped=False,
        status=status,
        scores=dict(enumerate(scores, start=1)),
        seconds=65.0 * len(scores),
        message=message,
    )


@pytest.fixture
def screen():
    """`screen(terminal)`: a console and the text that it has got so far."""

    def make(*, terminal: bool) -> tuple[Console, io.StringIO]:
        text, console = io.StringIO(), Console()
        console.rich = RichConsole(file=text, force_terminal=terminal, width=100, height=30, highlight=False)
        return console, text

    return make


def shown(console: Console, records: list, *, num_trials: int = 5, remaining: float = 0.0) -> SearchView:
    return SearchView(console, records, num_trials=num_trials, objective="auroc", remaining=lambda: remaining)


# --- the best so far


def test_the_best_is_sought_among_those_that_went_furthest() -> None:
    records = [record(0, [0.7, 0.7, 0.7]), record(1, [0.99], "stopped"), record(2, [0.8, 0.8, 0.8])]
    assert best_of(records).number == 2


def test_what_diverged_or_failed_or_has_no_score_is_not_the_best() -> None:
    records = [record(0, [0.9, 0.9], "failed"), record(1, [0.9, 0.9], "diverged"), record(2, [], "running")]
    assert best_of(records) is None
    assert best_of([*records, record(3, [0.1], "running")]).number == 3


# --- without a terminal


def test_as_a_trial_ends_a_line_says_how_and_what_is_left(screen) -> None:
    console, text = screen(terminal=False)
    records = [record(0, [0.5, 0.6, 0.7]), record(1, [0.81234], "stopped")]
    view = shown(console, records, remaining=125.0)
    with view.shown():
        for one in records:
            view.ended(one, "")
    assert text.getvalue().splitlines() == [
        "  trial 0 completed after 3 epochs: auroc 0.7000 (the defaults); best 0.7000 (trial 0), about 2 min 05 s left",
        "  trial 1 stopped after 1 epoch: auroc 0.8123 (optimizer sgd, lr 0.0123); best 0.7000 (trial 0), "
        "about 2 min 05 s left",
    ]


def test_of_what_went_wrong_it_warns(screen) -> None:
    console, text = screen(terminal=False)
    records = [record(1, [], "failed", message="RuntimeError: out"), record(2, [], "diverged")]
    view = shown(console, records)
    with view.shown():
        for one in records:
            view.ended(one, "trace")
    assert text.getvalue().splitlines() == [
        "warning: trial 1 failed: RuntimeError: out",
        "warning: trial 2 diverged: optimizer sgd, lr 0.0123",
    ]


def test_many_trials_are_not_told_one_by_one_but_what_went_wrong_is(screen) -> None:
    console, text = screen(terminal=False)
    view = shown(console, [], num_trials=51)
    with view.shown():
        view.ended(record(1, [0.5]), "")
        view.ended(record(2, [], "failed", message="out"), "")
    assert text.getvalue().splitlines() == ["warning: trial 2 failed: out"]


def test_a_line_now_and_then_says_that_work_goes_on(screen, monkeypatch) -> None:
    seconds = [100.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: seconds[0])
    console, text = screen(terminal=False)
    view = shown(console, [record(0, [0.5]), record(1, [0.4], "running")])
    for seconds[0] in (110.0, 129.0, 131.0, 132.0, 170.0):
        view.tick()
    assert text.getvalue().splitlines() == ["  trials 1/5, best 0.5000 (trial 0)"] * 2


def test_before_any_score_this_is_said(screen) -> None:
    console, text = screen(terminal=False)
    view = shown(console, [record(0, [], "stopped")])
    with view.shown():
        view.ended(record(0, [], "stopped"), "")
    assert text.getvalue().strip() == "trial 0 stopped after 0 epochs: no score (the defaults); no score yet"


# --- on a terminal


def test_the_table_has_the_running_trials_and_then_the_best(screen) -> None:
    console, text = screen(terminal=True)
    records = [
        record(0, [0.5, 0.5, 0.5]),
        record(1, [0.9, 0.9, 0.9]),
        record(2, [0.99], "stopped"),
        record(3, [0.4, 0.4], "running", fold=1, seed=2),
        record(4, [], "failed", message="out"),
    ]
    console.rich.print(shown(console, records)._table())
    table = [line.split() for line in re.sub(r"\x1b\[[0-9;]*m", "", text.getvalue()).splitlines()]
    assert [row[1] for row in table[1:]] == ["3", "1", "0", "2"]
    assert table[0] == ["trial", "epochs", "auroc", "time", "settings"]
    plain = [" ".join(row) for row in table]
    assert "2/3 0.4000 2 min 10 s optimizer sgd, lr 0.0123, fold 1, seed 2" in plain[1]
    assert "3/3 0.5000 3 min 15 s the defaults" in plain[3]


def test_the_table_is_no_longer_than_a_screen(screen) -> None:
    console, _ = screen(terminal=True)
    records = [record(number, [0.5]) for number in range(40)]
    assert shown(console, records)._table().row_count == module.SHOWN


def test_on_a_terminal_the_table_is_left_when_the_search_is_over_and_lines_are_not_told(screen) -> None:
    console, text = screen(terminal=True)
    records = [record(0, [0.5, 0.5, 0.5])]
    view = shown(console, records)
    with view.shown():
        view.ended(records[0], "")
        view.tick()
    assert "completed after" not in text.getvalue()
    assert "the defaults" in text.getvalue().splitlines()[-1]


def test_settings_are_told_in_short() -> None:
    one = record(3, [], overrides={"recipe.lr": 0.000123456, "recipe.loss": "focal", "recipe.batch_size": 32}, seed=4)
    assert short_settings(one) == "lr 0.000123, loss focal, batch_size 32, seed 4"
    assert short_settings(record(0, [])) == ""
    named = record(2, [], overrides={"recipe.lr": 0.01}, phase="portfolio: a third of the rate")
    assert short_settings(named) == "a third of the rate, lr 0.01"
