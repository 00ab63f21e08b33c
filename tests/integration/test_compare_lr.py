"""The comparison of methods on a small problem: its files, its runs, and that what was trained is not trained again."""

import contextlib
import json
import os
import signal
import time

import pandas as pd
import pytest

pytestmark = pytest.mark.integration

ENTRIES = (
    "[{name: fixed, sets: {recipe.optimizer: sgd, recipe.schedule: fixed}}, "
    "{name: adamw, sets: {recipe.optimizer: adamw, recipe.schedule: cosine}}, "
    "{name: schedule-free, sets: {recipe.optimizer: schedulefree_adamw}}]"
)
COMPARISON = {
    "data.source": "generated:count=120,size=32,defect_rate=0.5,parts=40",
    "data.image_size": 32,
    "compare_lr.entries": ENTRIES,
    "compare_lr.epochs": 2,
    "compare_lr.num_seeds": 2,
    "compare_lr.rate_factors": [1, 3],
}
NAMES = {"fixed", "adamw", "schedule-free"}
FILES = {
    "comparison.html",
    "comparison.json",
    "comparison.parquet",
    "curves.parquet",
    "rates.parquet",
    "stage.json",
}


def _results(place):
    """Training that has ended → when. They are removed with the scratch when the stage is done."""
    found = {}
    with contextlib.suppress(FileNotFoundError):
        for path in place.storage.glob("compare_lr/*/unfinished/*/ended.pt"):
            found[path.parent.name] = path.stat().st_mtime_ns
    return found


def _below(runs, run_id):
    return [run for run in runs if run.data.tags.get("mlflow.parentRunId") == run_id]


def _check_files(folder):
    assert {path.name for path in folder.iterdir()} == FILES
    trainings = pd.read_parquet(folder / "comparison.parquet")
    rate, full = trainings[trainings["phase"] == "rate"], trainings[trainings["phase"] == "full"]
    assert len(rate) == 3 * 2
    assert set(rate["seed"]) == {0}
    assert full.groupby("entry")["seed"].apply(sorted).to_dict() == {name: [1, 2] for name in NAMES}
    assert full.groupby("entry")["factor"].nunique().eq(1).all()
    curves = pd.read_parquet(folder / "curves.parquet")
    assert curves.loc[curves["phase"] == "full"].groupby(["entry", "seed"])["epoch"].apply(list).eq([[1, 2]] * 6).all()
    summary = json.loads((folder / "comparison.json").read_text())
    assert {entry["name"] for entry in summary["entries"]} == NAMES
    means = [entry["metrics"]["auroc"]["mean"] for entry in summary["entries"]]
    assert means == sorted(means, reverse=True)
    best = full[full["entry"] == summary["best"]]
    assert means[0] == pytest.approx(best["auroc"].mean())
    assert summary["best"] == summary["entries"][0]["name"]


def _check_runs(place, stage_run):
    runs = place.runs()
    methods = _below(runs, stage_run)
    assert sorted(run.info.run_name for run in methods) == sorted(NAMES)
    for method in methods:
        assert method.data.params["chosen.lr"]
        assert {"final_auroc", "final_auroc_low", "final_val_loss", "val_loss"} <= set(method.data.metrics)
        seeds = _below(runs, method.info.run_id)
        assert sorted(run.data.tags["escapement.seed"] for run in seeds) == ["1", "2"]
        for run in seeds:
            history = place.client().get_metric_history(run.info.run_id, "val_loss")
            assert sorted(metric.step for metric in history) == [1, 2]
    below = [*methods, *(run for method in methods for run in _below(runs, method.info.run_id))]
    assert {run.info.status for run in below} == {"FINISHED"}
    assert place.running() == []


def test_a_comparison_that_was_killed_trains_only_what_it_lacks(workplace, waiting, ending) -> None:
    process = workplace.start(*workplace.pipeline("compare-lr", COMPARISON))
    waiting(lambda: any("full" in name for name in _results(workplace)) or process.poll() is not None)
    assert process.poll() is None, process.communicate()[1][-4000:]
    os.killpg(process.pid, signal.SIGKILL)
    assert ending(process).code == -signal.SIGKILL
    workplace.end_leftovers()
    before = _results(workplace)
    assert len(before) < 12

    process = workplace.start(*workplace.pipeline("compare-lr", COMPARISON))
    after = {}
    while process.poll() is None:
        after |= _results(workplace)
        time.sleep(0.1)
    resumed = ending(process)
    workplace.end_leftovers()
    assert resumed.code == 0, resumed.stderr[-4000:]
    assert resumed.actions == {
        "prepare": "reused",
        "embed": "reused",
        "lr_range_test": "reused",
        "compare_lr": "continued",
    }
    assert {name: after[name] for name in before} == before
    assert f"{len(before)} of them complete" in resumed.stderr
    assert "6 rate trials of 1 epoch and 6 trainings of 2 epochs" in resumed.stderr
    assert resumed.stage("compare_lr")["headline"]["trainings"] == 12
    _check_files(workplace.result(resumed, "compare_lr"))
    _check_runs(workplace, resumed.stage("compare_lr")["run_id"])

    again = workplace.run("compare-lr", COMPARISON, "--dry-run")
    assert set(again.actions.values()) == {"reused"}
