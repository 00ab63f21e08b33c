"""What a root run says of itself in the store: the verdict first, figures with intervals, and where the reports are."""

import json
from pathlib import Path

import pandas as pd
import pytest

from pipeline.run_notes import link_results, root_note, run_name, stage_note
from pipeline.runner import StageSummary, Summary
from pipeline.stage import StageRecord

RATE = {"numerator": 9, "denominator": 205, "value": 9 / 205, "low": 0.0203, "high": 0.0817, "confidence": 0.95}
ESTIMATE = {"value": 0.8991, "low": 0.8744, "high": 0.9226, "confidence": 0.95}
METRICS = {
    "class_metrics": {"accuracy": RATE, "balanced_accuracy": ESTIMATE},
    "ranking": {"auroc": ESTIMATE, "average_precision": ESTIMATE},
    "operating_points": {
        "escape_budget": {"escape_rate": RATE, "overkill_rate": RATE | {"value": None, "low": None, "high": None}},
        "balanced": {"balanced_accuracy": ESTIMATE},
    },
    "budget": {"statement": "Certified: 9 of 205 escape."},
}
DECISION = {"version": "3", "model_name": "castings", "alias": "champion", "reason": "passes every gate"}


@pytest.fixture
def record(tmp_path):
    """`record(stage, files)`: a result with JSON files."""

    def make(stage: str, files: dict | None = None, **headline) -> StageRecord:
        directory: Path = tmp_path / stage
        directory.mkdir()
        for name, content in (files or {}).items():
            (directory / name).write_text(json.dumps(content))
        known = {"version": 1, "result_id": "r", "inputs": {}, "sections": {}, "seconds": 1.0, "commit": "c"}
        return StageRecord(
            stage=stage, fingerprint="f", headline=headline, artifacts=dict.fromkeys(files or {}, 1),
            run_id=f"run-{stage}", versions={}, directory=directory, **known,
        )  # fmt: skip

    return make


def summary(*stages: str, status: str = "finished", error: str | None = None) -> Summary:
    done = [
        StageSummary(
            name=name, action="run", fingerprint="f", run_id="r", seconds=65.0, headline={"auroc": 0.9}, reason=""
        )
        for name in stages
    ]  # fmt: skip
    return Summary(
        status=status, parent_run_id="root", experiment_id="7", tracking_uri=None, seconds=1.0, stages=tuple(done),
        headline={}, error=error,
    )  # fmt: skip


def test_a_run_is_named_by_its_project_where_it_ends_and_the_minute() -> None:
    assert run_name("castings", None).startswith("castings 20")
    assert run_name("castings", "search").startswith("castings search 20")


def test_the_note_opens_with_the_verdict_and_shows_rates_with_counts_and_intervals(record) -> None:
    records = {
        "evaluate": record("evaluate", {"metrics.json": METRICS, "report.html": ""}),
        "promote": record("promote", {"decision.json": DECISION}),
    }
    lines = root_note("castings", summary("evaluate", "promote"), records, planned=2).splitlines()
    assert lines[0] == "### castings: version 3 of `castings` is champion: passes every gate"
    assert "| AUROC | 0.899 | 0.874 to 0.923 |" in lines
    assert "| escape rate | 4.4% (9 of 205) | 2.0% to 8.2% |" in lines
    assert "| overkill rate | – (9 of 205) | – to – |" in lines
    assert "Certified: 9 of 205 escape." in lines
    assert any(line.startswith("- [report.html](#/experiments/7/runs/run-evaluate/artifacts)") for line in lines)
    assert "| evaluate | run | 1 min 05 s | auroc 0.9 |" in lines


def test_a_problem_without_a_good_class_shows_its_class_figures(record) -> None:
    metrics = {"class_metrics": METRICS["class_metrics"], "ranking": None, "operating_points": {}}
    note = root_note(
        "steel", summary("evaluate"), {"evaluate": record("evaluate", {"metrics.json": metrics})}, planned=1
    )
    assert "| balanced accuracy | 0.899 | 0.874 to 0.923 |" in note
    assert "AUROC" not in note


@pytest.mark.parametrize(
    ("made", "planned", "first_line"),
    [
        (summary("prepare"), 7, "### castings: running, 1 of 7 stages done"),
        (summary("prepare", "search"), 2, "### castings: complete up to search"),
        (summary("prepare", status="failed", error="no memory"), 7, "### castings: failed, 1 of 7 stages done"),
    ],
)
def test_the_verdict_says_how_far_a_run_got(made, planned, first_line) -> None:
    assert root_note("castings", made, {}, planned=planned).splitlines()[0] == first_line


def test_names_and_messages_are_shown_as_they_are() -> None:
    failed = summary(status="failed", error="data.source=a_b_c: <b>[x](y)</b> *\ndata.root=$b$")
    note = root_note("castings", failed, {}, planned=7)
    assert "data.source=a\\_b\\_c: \\<b\\>\\[x\\](y)\\</b\\> \\*\n\ndata.root=\\$b\\$\n" in note


def test_a_stage_says_its_figures_and_its_reports(record) -> None:
    done = record("search", {"search.html": ""}, best_trial=2, gain_over_defaults=0.11284, note=None)
    assert stage_note(done) == "- best trial: 2\n- gain over defaults: 0.1128\n- report: search.html, in the artifacts"


def test_the_root_shows_the_data_set_and_the_model_of_its_stages(record, tracker) -> None:
    root = tracker.start_root("castings", {})
    prepared = record("prepare", {"data_report.json": {"root": "/images", "digest": "abc"}})
    pd.DataFrame({"image_id": ["a"], "is_defect": [False]}).to_parquet(prepared.directory / "manifest.parquet")
    model = tracker.client.create_logged_model(tracker.experiment_id, "model", source_run_id=root.id)
    link_results(root, tracker, prepared)
    link_results(root, tracker, record("deliver", {"delivery.json": {"model_id": model.model_id}}))
    link_results(root, tracker, record("search"))
    found = tracker.client.get_run(root.id)
    assert [entry.dataset.digest for entry in found.inputs.dataset_inputs] == ["abc"]
    assert [entry.model_id for entry in found.outputs.model_outputs] == [model.model_id]


def test_a_model_that_another_store_holds_is_not_linked(record, tracker) -> None:
    root = tracker.start_root("castings", {})
    link_results(root, tracker, record("deliver", {"delivery.json": {"model_id": "m-elsewhere"}}))
    assert tracker.client.get_run(root.id).outputs.model_outputs == []
