"""The report of a search, made from the files of its result."""

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest

from components.search.trial import Suggestion, TrialRecord
from pipeline.reports.search import gain_in_words, search_section, write_report
from pipeline.search.results import JOURNAL, SearchOutcome, write_results
from pipeline.search_space import searched_space
from pipeline.sections.recipe import ModelConfig, Recipe, RecipeConfig
from pipeline.sections.search import Dimension, SearchConfig

FOUND = {("resnet18", "adamw"): SimpleNamespace(lower=1e-4, suggested=1e-2, upper=1.0)}
SEARCH = SearchConfig(space=(Dimension(sets="recipe.lr", bounds="range_test"),), max_epochs=3)


def record(number: int, lr: float, scores: list[float], *, latency_ms: float | None = None) -> TrialRecord:
    return TrialRecord(
        number=number,
        suggestion=Suggestion(point={"recipe.lr": 0.5}, overrides={"recipe.lr": lr} if number else {}, epochs=3),
        unstopped=True,
        status="completed" if len(scores) == 3 else "stopped",
        scores=dict(enumerate(scores, start=1)),
        seconds_at={epoch: float(epoch) for epoch in range(1, len(scores) + 1)},
        metrics={} if latency_ms is None else {1: {"latency_ms": latency_ms}},
    )


@pytest.fixture
def context(tmp_path) -> SimpleNamespace:
    (tmp_path / JOURNAL).touch()
    (tmp_path / "result").mkdir()
    said: list[str] = []
    drawn: list[str] = []
    return SimpleNamespace(
        work=tmp_path,
        directory=tmp_path / "result",
        inputs={"prepare": SimpleNamespace(sections={"data": {"good_labels": ["good"]}, "seed": 7})},
        console=SimpleNamespace(say=said.append, warn=said.append),
        log_figure=lambda figure, name: drawn.append(name),
        said=said,
        drawn=drawn,
    )


def reported(context, records: list[TrialRecord]) -> Path:
    searched = searched_space(Recipe(model=ModelConfig(), recipe=RecipeConfig(batch_size=32)), SEARCH, FOUND)
    write_results(context, searched, SEARCH, SearchOutcome(records=records, rungs=(1, 3) if records else ()))
    write_report(context)
    return context.directory


def test_the_report_has_the_trials_the_rungs_and_a_figure_of_each_question(context) -> None:
    section = search_section(reported(context, [record(0, 0, [0.5, 0.6, 0.7]), record(1, 0.1, [0.6, 0.7, 0.9]),
                                                record(2, 0.9, [0.4])]))  # fmt: skip
    assert [title for title, _ in section.figures] == ["Search", "Importance"]
    trials, rungs = (table for _, table in section.tables)
    assert trials["trial"].tolist() == [0, 1, 2]
    assert rungs[["epoch", "reached", "continued", "stopped"]].to_numpy().tolist() == [
        [0, 3, 3, 0], [1, 3, 2, 1], [3, 2, 0, 0],
    ]  # fmt: skip
    assert context.drawn == ["figures/search.png", "figures/importance.png"]
    assert (context.directory / "search.html").is_file()
    assert "Trial 1 was the best" in context.said[-2]


def test_the_recipes_of_the_portfolio_are_listed_each_with_its_reason(context) -> None:
    slow = record(1, 0.1, [0.6, 0.7, 0.9])
    named = replace(slow, suggestion=replace(slow.suggestion, phase="portfolio: a third of the rate"))
    section = search_section(reported(context, [record(0, 0, [0.5, 0.6, 0.7]), named]))
    table = next(table for title, table in section.tables if title.startswith("The portfolio"))
    assert table[["recipe", "trial", "epochs", "score"]].to_numpy().tolist() == [["a third of the rate", 1, 3, 0.9]]
    assert table["reason"][0].startswith("Small sets prefer it")


def test_where_latency_was_measured_the_front_is_shown_and_listed(context) -> None:
    fast, slow = record(1, 0.1, [0.6, 0.7, 0.8], latency_ms=1.0), record(2, 0.2, [0.6, 0.7, 0.9], latency_ms=2.0)
    section = search_section(reported(context, [record(0, 0, [0.5, 0.6, 0.7], latency_ms=3.0), fast, slow]))
    assert section.figures[-1][0] == "Quality and latency"
    assert section.tables[-1][1]["trial"].tolist() == [1, 2]


def test_without_a_search_the_files_say_so(context) -> None:
    folder = reported(context, [])
    assert "No search was made" in search_section(folder).text
    found = json.loads((folder / "best.json").read_text())["overrides"]
    assert found == {"recipe.lr": 1e-2, "recipe.batch_size": 32, "recipe.precision": "auto"}
    assert pd.read_parquet(folder / "trials.parquet").empty
    assert context.drawn == []


@pytest.mark.parametrize(
    ("outcome", "words"),
    [
        ({"trial": None}, "No trial reached a score."),
        ({"trial": 0}, "The defaults had the best score."),
        ({"trial": 3, "gain": None}, "the defaults reached no score to compare it with"),
    ],
)
def test_the_outcome_is_said_in_words(outcome: dict, words: str) -> None:
    assert words in gain_in_words(outcome)
