"""Carrying a plan out: what a stage gets, what is committed, and what a failure leaves behind."""

import json
import os
import signal
import subprocess
from pathlib import Path

import pytest
from filelock import FileLock

from components.data.image_files import MARKER
from components.errors import InputError
from pipeline import provenance, runner
from pipeline.loading import load
from pipeline.plan import make_plan
from pipeline.provenance import PACKAGES, current_commit
from pipeline.runner import Later, PipelineRun, is_interruption
from pipeline.stage import read_record


def fail(context) -> None:
    (context.directory / "half.txt").write_text("half")
    raise RuntimeError("the lamp went out")


def interrupt(context) -> None:
    (context.work / "half").write_text("done")
    (context.directory / "leftover.txt").write_text("old")
    raise KeyboardInterrupt


def test_stages_run_once_in_order_and_read_what_is_upstream(execute, toys, plan) -> None:
    execute()
    assert toys.ran == ["first", "second", "third"]
    assert (plan()["third"].directory / "out.txt").read_text() == "first;first;second;third;"
    execute()
    assert toys.ran == ["first", "second", "third"]


def test_stages_that_follow_from_a_result_have_the_configuration_that_it_gives(
    toys, config, fake_tracker, console
) -> None:
    first = make_plan(config, toys.stages, until="first")
    changed, seen = load("smoke", {"storage.root": config.storage.root, "train.epochs": 9}), []
    toys.during = {name: lambda context: seen.append(context.ends_at) for name in ("first", "second", "third")}

    def later(plan) -> Later:
        assert read_record(plan[-1].directory) is not None  # its result stands
        rest = make_plan(changed, toys.stages, until="third", settled=plan)[1:]
        return Later(plan=rest, config=changed, ends_at=80.0)

    summary = PipelineRun(first, config, fake_tracker, console, ends_at=100.0, later=later).execute("toys")
    assert [stage.name for stage in summary.stages] == toys.ran == ["first", "second", "third"]
    assert toys.seen["third"]["train"].epochs == 9
    assert seen == [100.0, 80.0, 80.0]
    assert [item.action for item in make_plan(changed, toys.stages, until="third")] == ["reused"] * 3


def test_a_stage_receives_the_sections_that_it_declares_and_no_others(execute, toys, config) -> None:
    execute()
    assert toys.seen["first"] == {"seed": config.seed, "data": config.data}
    assert toys.seen["second"] == {"recipe": config.recipe}


def test_the_record_says_what_was_made_from_what(execute, plan) -> None:
    summary = execute()
    planned = plan()
    records = {name: read_record(item.directory) for name, item in planned.items()}
    third = records["third"]
    assert third.inputs == {name: records[name].result_id for name in ("first", "second")}
    assert third.fingerprint == planned["third"].fingerprint
    assert third.artifacts == {"out.txt": len("first;first;second;third;")}
    assert third.sections["train"]["epochs"] == 6
    assert third.run_id == summary.stages[2].run_id
    assert third.commit == current_commit()
    assert set(third.versions) == set(PACKAGES)
    assert len({record.result_id for record in records.values()}) == 3


def test_scratch_is_gone_when_a_stage_is_done(execute, plan) -> None:
    execute()
    assert not (plan()["second"].directory / "unfinished").exists()


def test_the_summary_tells_reused_from_run(execute) -> None:
    assert [stage.action for stage in execute().stages] == ["run"] * 3
    summary = execute({"train.epochs": "9"})
    assert [stage.action for stage in summary.stages] == ["reused", "reused", "run"]
    assert [stage.seconds == 0.0 for stage in summary.stages][:2] == [True, True]
    assert summary.status == "finished"
    assert summary.headline["second_number"] == 1.5
    assert json.loads(summary.to_json())["stages"][2]["reason"] == "train.epochs 6 → 9"


def test_a_forced_result_gets_a_new_id_under_the_same_fingerprint(execute, plan) -> None:
    execute()
    before = read_record(plan()["second"].directory)
    execute(force=["second"])
    after = read_record(plan()["second"].directory)
    assert before.fingerprint == after.fingerprint
    assert before.result_id != after.result_id


def test_the_root_and_the_stages_are_described_in_the_store(execute, fake_tracker) -> None:
    execute()
    root, _, second, *_ = fake_tracker.runs
    assert root.note.startswith("### smoke: complete up to third")
    assert "| second | run |" in root.note
    assert second.note == "- second number: 1.5\n- second good: True\n- second bad: False"


# --- interruptions and failures


def test_a_stage_that_fails_commits_nothing_and_the_exception_propagates(execute, toys, plan, fake_tracker) -> None:
    toys.during["second"] = fail
    with pytest.raises(RuntimeError, match="the lamp went out"):
        execute()
    assert toys.ran == ["first", "second"]
    planned = plan()
    assert planned["first"].action == "reused"
    assert read_record(planned["second"].directory) is None
    assert fake_tracker.ended == [("run-0", "FAILED")]
    assert fake_tracker.runs[0].note.startswith("### smoke: failed, 1 of 3 stages done\n\nthe lamp went out")


def test_an_interruption_ends_the_runs_as_killed(execute, toys, fake_tracker) -> None:
    toys.during["second"] = interrupt
    with pytest.raises(KeyboardInterrupt):
        execute()
    assert fake_tracker.ended == [("run-0", "KILLED")]


def test_what_was_done_before_a_failure_is_in_the_summary(toys, config, fake_tracker, console) -> None:
    toys.during["second"] = fail
    pipeline = PipelineRun(make_plan(config, toys.stages, until="third"), config, fake_tracker, console)
    assert pipeline.summary("failed").parent_run_id is None
    with pytest.raises(RuntimeError):
        pipeline.execute("toys")
    summary = pipeline.summary("failed", "the lamp went out")
    assert ([s.name for s in summary.stages], summary.status, summary.error) == (
        ["first"],
        "failed",
        "the lamp went out",
    )
    assert summary.parent_run_id == "run-0"


def test_an_interrupted_stage_that_can_go_on_finds_its_scratch(execute, toys, plan, fake_tracker) -> None:
    toys.during["second"] = interrupt
    with pytest.raises(KeyboardInterrupt):
        execute()
    found = []
    toys.during["second"] = lambda context: found.append((context.work / "half").read_text())
    summary = execute()
    assert found == ["done"]
    assert fake_tracker.runs[-2].tags["resume"] is True
    assert summary.stages[1].action == "continued"
    assert plan()["second"].action == "reused"


def test_what_is_to_be_done_afterwards_is_done_once_the_result_stands(execute, toys, plan) -> None:
    found = []

    def leave(context) -> None:
        context.afterwards.append(lambda: found.append(read_record(context.directory) is not None))

    toys.during["second"] = lambda context: (leave(context), interrupt(context))
    with pytest.raises(KeyboardInterrupt):
        execute()
    assert found == []
    toys.during["second"] = leave
    execute()
    assert found == [True]


def test_an_interrupted_stage_that_cannot_go_on_starts_in_an_empty_directory(execute, toys, plan) -> None:
    toys.during["third"] = interrupt
    with pytest.raises(KeyboardInterrupt):
        execute()
    found = []
    toys.during["third"] = lambda context: found.extend(path.name for path in context.directory.rglob("*"))
    execute()
    assert found == ["unfinished", "inputs.json"]
    assert "leftover.txt" not in read_record(plan()["third"].directory).artifacts


def test_a_forced_stage_starts_in_an_empty_directory(execute, toys) -> None:
    execute()
    found = []
    toys.during["second"] = lambda context: found.append((context.directory / "out.txt").exists())
    execute(force=["second"])
    assert found == [False]


def test_a_forced_stage_that_fails_leaves_no_result_behind(execute, toys, plan) -> None:
    execute()
    toys.during["second"] = fail
    with pytest.raises(RuntimeError):
        execute(force=["second"])
    assert [item.action for item in plan().values()] == ["reused", "continued", "run"]


def test_a_result_that_another_process_is_making_is_left_to_it(execute, plan, storage, toys) -> None:
    directory = plan()["first"].directory
    directory.parent.mkdir(parents=True)
    lock = FileLock(str(directory) + ".lock")
    with lock, pytest.raises(InputError, match=r"storage\.root=.*another process is making this very result of first"):
        execute()
    assert toys.ran == []
    execute()
    assert toys.ran == ["first", "second", "third"]


def test_a_result_that_another_process_made_since_the_plan_is_reused(
    toys, config, fake_tracker, console, execute
) -> None:
    planned = make_plan(config, toys.stages, until="third")
    execute()
    summary = PipelineRun(planned, config, fake_tracker, console).execute("late")
    assert toys.ran == ["first", "second", "third"]
    assert {(stage.action, stage.reason) for stage in summary.stages} == {
        ("reused", "another process made it meanwhile")
    }


def test_a_forced_stage_is_made_anew_whatever_another_process_made(
    toys, config, fake_tracker, console, execute
) -> None:
    planned = make_plan(config, toys.stages, until="third", force=["second"])
    execute()
    summary = PipelineRun(planned, config, fake_tracker, console).execute("late")
    assert [stage.action for stage in summary.stages] == ["reused", "run", "run"]


def test_a_process_that_dies_right_after_its_commit_leaves_a_result_and_the_next_one_ends_its_run(
    execute, toys, plan, fake_tracker, monkeypatch
) -> None:
    def die(run, record):
        raise KeyboardInterrupt

    finish = runner._finish
    monkeypatch.setattr(runner, "_finish", die)
    with pytest.raises(KeyboardInterrupt):
        execute(until="first")
    monkeypatch.setattr(runner, "_finish", finish)
    assert plan()["first"].action == "reused"
    stage_run = fake_tracker.runs[1]
    assert stage_run.status == "RUNNING"
    summary = execute(until="first")
    assert summary.stages[0].action == "reused"
    assert (stage_run.status, stage_run.metrics["first_number"]) == ("FINISHED", 1.5)
    assert not (plan()["first"].directory / "unfinished").exists()
    assert toys.ran == ["first"]


def test_ending_the_runs_is_not_disturbed_by_a_second_signal(execute, toys, fake_tracker, monkeypatch) -> None:
    toys.during["second"] = fail
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]

    def end_tree(run_id, status):
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGTERM)
        fake_tracker.ended.append((run_id, status))

    monkeypatch.setattr(fake_tracker, "end_tree", end_tree)
    with pytest.raises(RuntimeError, match="the lamp went out"):
        execute()
    assert fake_tracker.ended == [("run-0", "FAILED")]
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


@pytest.mark.parametrize(
    ("error", "expected"), [(KeyboardInterrupt(), True), (SystemExit(1), True), (RuntimeError(), False)]
)
def test_ctrl_c_and_a_request_to_end_are_interruptions(error: BaseException, expected: bool) -> None:
    assert is_interruption(error) is expected


# --- what goes to the tracker


def test_the_root_carries_the_configuration_the_stages_and_the_summary(execute, fake_tracker, config) -> None:
    summary = execute()
    root = fake_tracker.runs[0]
    assert (root.name, root.status) == ("toys", "FINISHED")
    assert json.loads(root.texts["config.json"]) == config.model_dump(mode="json")
    assert json.loads(root.texts["summary.json"])["status"] == "finished"
    assert json.loads(root.texts["environment.json"]).keys() == set(PACKAGES)
    assert root.tags["escapement.storage"] == str(Path(config.storage.root).resolve())
    assert {root.tags[f"stage.{stage.name}"] for stage in summary.stages} == {"run-1", "run-2", "run-3"}
    assert root.tags["mlflow.source.git.commit"] == current_commit()


def test_a_reused_stage_makes_no_run_and_its_own_run_is_named_at_the_root(execute, fake_tracker) -> None:
    execute()
    execute()
    assert [run.name for run in fake_tracker.runs] == ["toys", "first", "second", "third", "toys"]
    root = fake_tracker.runs[4]
    assert root.tags["stage.third"] == "run-3"
    assert root.metrics["third_number"] == 1.5


def test_a_stage_run_has_its_sections_as_dotted_parameters(execute, fake_tracker) -> None:
    execute()
    second = fake_tracker.runs[2]
    assert second.params["recipe.batch_size"] == 16
    assert not any(key.startswith("data.") for key in second.params)
    assert fake_tracker.runs[1].params["data.splits.train"] == 0.5


def test_only_numbers_become_metrics(execute, fake_tracker) -> None:
    execute()
    second = fake_tracker.runs[2]
    assert {key for key in second.metrics if key.startswith("second_")} == {"second_number"}
    assert second.metrics["stage_seconds"] >= 0


def test_no_password_gets_into_what_is_logged(execute, fake_tracker) -> None:
    fake_tracker.uri, fake_tracker.shown_uri = "http://me:secret@host", "http://…@host"
    summary = execute({"tracking.uri": "http://me:secret@host"})
    assert "secret" not in summary.to_json()
    assert not any("secret" in text for text in fake_tracker.runs[0].texts.values())


def test_a_failure_ends_the_stage_and_the_root_in_mlflow(execute, toys, tracker) -> None:
    toys.during["second"] = fail
    with pytest.raises(RuntimeError):
        execute(tracker=tracker)
    runs = {run.info.run_name: run.info.status for run in tracker.client.search_runs([tracker.experiment_id])}
    assert runs == {"toys": "FAILED", "first": "FINISHED", "second": "FAILED"}


def test_an_interruption_kills_the_stage_and_the_root_in_mlflow_and_the_next_run_goes_on(
    execute, toys, tracker
) -> None:
    toys.during["second"] = interrupt
    with pytest.raises(KeyboardInterrupt):
        execute(tracker=tracker)
    runs = {run.info.run_name: run.info for run in tracker.client.search_runs([tracker.experiment_id])}
    assert {name: info.status for name, info in runs.items()} == {
        "toys": "KILLED",
        "first": "FINISHED",
        "second": "KILLED",
    }
    summary = execute(tracker=tracker, name="again")
    assert summary.stages[1].run_id == runs["second"].run_id
    after = {run.info.run_name: run for run in tracker.client.search_runs([tracker.experiment_id])}
    assert {name: run.info.status for name, run in after.items()} == {
        "toys": "KILLED",
        "first": "FINISHED",
        "second": "FINISHED",
        "third": "FINISHED",
        "again": "FINISHED",
    }
    assert after["second"].data.tags["mlflow.parentRunId"] == summary.parent_run_id
    assert after["toys"].data.tags["escapement.superseded_by"] == summary.parent_run_id


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """A checkout of its own, in which the runner believes to lie."""

    def git(*args: str) -> str:
        identity = ["-c", "user.name=a", "-c", "user.email=a@b.c", "-c", "commit.gpgsign=false"]
        return subprocess.run(
            ["git", "-C", str(tmp_path), *identity, *args], check=True, capture_output=True, text=True
        ).stdout.strip()

    monkeypatch.delenv("ESCAPEMENT_COMMIT", raising=False)
    (tmp_path / "pipeline").mkdir()
    (tmp_path / "pipeline" / "runner.py").write_text("1")
    monkeypatch.setattr(provenance, "__file__", str(tmp_path / "pipeline" / "runner.py"))
    git("init", "-q")
    return git


def test_the_repository_that_an_installation_happens_to_lie_in_is_not_its_own(checkout, tmp_path) -> None:
    (tmp_path / "theirs").write_text("x")
    checkout("add", "theirs")
    checkout("commit", "-qm", "theirs")
    assert current_commit() == "unknown"


def test_the_commit_is_that_of_the_checkout_and_says_when_files_differ(checkout, tmp_path) -> None:
    checkout("add", ".")
    checkout("commit", "-qm", "one")
    commit = checkout("rev-parse", "HEAD")
    (tmp_path / "untracked").write_text("x")
    assert current_commit() == commit
    (tmp_path / "pipeline" / "runner.py").write_text("2")
    assert current_commit() == commit + "+dirty"


def test_a_checkout_without_a_commit_is_unknown(checkout) -> None:
    assert current_commit() == "unknown"


def test_without_git_the_commit_is_unknown(checkout, monkeypatch) -> None:
    monkeypatch.setenv("PATH", "")
    assert current_commit() == "unknown"


def test_the_commit_is_passed_on_where_git_did_not_travel(checkout, monkeypatch) -> None:
    monkeypatch.setenv("ESCAPEMENT_COMMIT", "abc123")
    assert current_commit() == "abc123"


def test_a_result_names_every_project_that_uses_it(execute, toys, plan) -> None:
    execute({"project.name": "a"})
    assert read_record(plan()["first"].directory).projects == ["a"]
    execute({"project.name": "b"}, until="second")
    records = {name: read_record(item.directory) for name, item in plan().items()}
    assert {name: record.projects for name, record in records.items()} == {
        "first": ["a", "b"],
        "second": ["a", "b"],
        "third": ["a"],
    }
    assert toys.ran == ["first", "second", "third"]
    execute({"project.name": "a"}, force=["first"], until="first")
    assert read_record(plan()["first"].directory).projects == ["a", "b"]


def test_unfinished_work_names_its_project(execute, toys, plan) -> None:
    toys.during["second"] = interrupt
    with pytest.raises(KeyboardInterrupt):
        execute({"project.name": "a"})
    begun = json.loads((plan()["second"].directory / "unfinished/inputs.json").read_text())
    assert begun == {"project": "a", "inputs": {"first": read_record(plan()["first"].directory).result_id}}


def test_the_folder_of_the_artifacts_is_marked(execute, fake_tracker, tmp_path) -> None:
    fake_tracker.local_artifacts = lambda: tmp_path
    execute()
    assert (tmp_path / MARKER).is_file()
