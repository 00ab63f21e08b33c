"""The records of trainings: what the monitor found, and the history, each with its member."""

import json
import math
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from trainings import RECIPE, SPEC, member

from components.report import figures_training
from pipeline.delivery import records


@pytest.fixture
def context(tmp_path) -> SimpleNamespace:
    said: list[str] = []
    logged: list[str] = []
    return SimpleNamespace(
        directory=tmp_path,
        run=SimpleNamespace(log_artifact=lambda path: logged.append(path.name)),
        log_figure=lambda figure, name: logged.append(name),
        console=SimpleNamespace(warn=said.append),
        input=lambda stage, name: tmp_path / f"{stage}-{name}",
        compute=None,
        said=said,
        logged=logged,
    )


def entry(kind: str, action: str = "none", **evidence: float) -> dict:
    return {"step": 3, "epoch": 1, "kind": kind, "action": action, "evidence": evidence, "advice": "a"}


def test_the_ledger_is_json_that_any_reader_takes_and_its_advice_is_said(context) -> None:
    one = member(ledger=[entry("diverged", "rollback", loss=math.inf, slope=0.5)], advice=["the rate is too high"])
    ledger = records._write_ledger(context, [one], "rollback")
    written = json.loads((context.directory / "monitor.json").read_text())
    assert written == {"action": "rollback", "advice": ["the rate is too high"], "ledger": ledger}
    assert ledger[0]["evidence"] == {"loss": None, "slope": 0.5}
    assert ledger[0]["member"] == "whole"
    assert context.said == ["the rate is too high"]
    assert context.logged == ["monitor.json"]


def test_of_several_networks_every_finding_and_advice_names_its_own(context) -> None:
    both = [
        member("fold-0", ledger=[entry("spike")]), member("fold-1", ledger=[entry("spike")], advice=["lower it"])
    ]  # fmt: skip
    ledger = records._write_ledger(context, both, "observe")
    assert [found["member"] for found in ledger] == ["fold-0", "fold-1"]
    assert context.said == ["fold-1: lower it"]


def test_without_a_monitor_there_is_an_empty_ledger(context) -> None:
    assert records._write_ledger(context, [member()], "none") == []
    assert json.loads((context.directory / "monitor.json").read_text())["ledger"] == []
    assert context.said == []


def test_the_headline_counts_verdicts_by_kind() -> None:
    ledger = [entry("spike"), entry("oscillating", "rollback"), entry("spike")]
    assert records._monitor_counts(ledger) == {
        "monitor_verdicts": 3,
        "monitor_rollbacks": 1,
        "monitor_oscillating": 1,
        "monitor_spike": 2,
    }
    assert records._monitor_counts([]) == {"monitor_verdicts": 0, "monitor_rollbacks": 0}


def test_every_row_of_the_history_names_its_member_also_of_one_that_was_not_validated(context) -> None:
    some = [member("fold-0"), member("all", scores=(None, None))]
    records._write_history(context, some, [])
    history = pd.read_parquet(context.directory / "history.parquet")
    assert history["member"].tolist() == ["fold-0", "fold-0", "all", "all"]
    np.testing.assert_array_equal(history["val_score"], [math.nan, 0.5, math.nan, math.nan])
    steps = pd.read_parquet(context.directory / "steps.parquet")
    assert steps[["member", "step"]].to_numpy().tolist() == [["fold-0", 1], ["fold-0", 2], ["all", 1], ["all", 2]]
    assert context.logged == ["figures/learning_curves_fold-0.png", "figures/learning_curves_all.png", "steps.parquet"]


def test_a_members_figure_has_the_findings_of_its_own(context, monkeypatch) -> None:
    drawn: list[dict] = []
    monkeypatch.setattr(
        figures_training, "learning_curves", lambda history, **given: drawn.append(given | {"rows": len(history)})
    )
    found = [entry("spike") | {"member": "fold-1"}]
    records._write_history(context, [member("fold-0"), member("fold-1")], found)
    assert [(one["rows"], one["best_epoch"], one["ledger"]) for one in drawn] == [(2, 2, []), (2, 2, found)]


def test_without_a_training_the_recipe_alone_is_on_record(context) -> None:
    assert records.write_training(context, [], SPEC) == {"networks": 0}
    recipe, trained = records.read_training(context.directory)
    assert (recipe, trained) == (SPEC.recipe, [])


def test_a_later_stage_reads_the_trainings_as_they_were_written(context, monkeypatch) -> None:
    both = [member("fold-0"), member("fold-1", trained_in="confirm")]
    headline = records.write_training(context, both, SPEC)
    assert headline == {
        "networks": 2, "epochs": 4, "median_images_per_second": 2.0, "monitor_verdicts": 0, "monitor_rollbacks": 0,
    }  # fmt: skip
    kept = json.loads((context.directory / "training.json").read_text())["members"][1]
    assert kept == {
        "name": "fold-1", "fold": None, "seed": 7, "epochs": 2, "kept_epoch": 2, "trained_in": "confirm",
        "run_id": "run-fold-1",
    }  # fmt: skip
    monkeypatch.setattr(records, "TrainingStore", lambda folder: folder)
    recipe, trained = records.read_training(context.directory)
    assert recipe == RECIPE
    assert trained == [replace(one, store=context.directory / "members" / one.name) for one in both]
