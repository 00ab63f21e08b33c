"""MLflow through the one door, on a SQLite store: the tree of runs, who is dead, what is cut, the registry."""

import contextlib
import http.server
import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
import uuid

import mlflow
import pandas as pd
import psutil
import pytest
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from sqlalchemy import event

from components import liveness, tracking, tracking_store
from components.errors import InputError, ModelError
from components.home import environment
from components.registry import Registry
from components.tracking import Run, Tracker, describe_dataset


def status(tracker: Tracker, run: Run) -> str:
    return tracker.client.get_run(run.id).info.status


def tags(tracker: Tracker, run: Run) -> dict:
    return tracker.client.get_run(run.id).data.tags


def as_if_of(run: Run, *, host: str | None = None, pid: int | None = None, beat: float | None = None) -> Run:
    """Let a root look like that of another process."""
    changes = {liveness.TAG_HOST: host, liveness.TAG_PID: pid, liveness.TAG_HEARTBEAT: beat}
    run.set_tags({key: value for key, value in changes.items() if value is not None})
    return run


@pytest.fixture(scope="module")
def gone_pid() -> int:
    """The id of a process that has ended."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


# --- connecting


def test_an_experiment_is_made_once_and_found_again(store_uri, tracker, monkeypatch) -> None:
    name = f"again-{uuid.uuid4().hex}"
    made = Tracker.connect(store_uri, experiment=name)
    assert Tracker.connect(store_uri, experiment=name).experiment_id == made.experiment_id != tracker.experiment_id


def test_a_check_makes_neither_a_store_nor_an_experiment(store_uri, tracker, tmp_path) -> None:
    Tracker.check(f"sqlite:///{tmp_path}/new/mlflow.db", experiment="x")
    assert list(tmp_path.iterdir()) == []
    name = f"unmade-{uuid.uuid4().hex}"
    Tracker.check(store_uri, experiment=name)
    assert tracker.client.get_experiment_by_name(name) is None


def test_an_experiment_that_another_process_makes_meanwhile_is_taken(store_uri, tracker, monkeypatch) -> None:
    name = f"raced-{uuid.uuid4().hex}"
    theirs = tracker.client.create_experiment(name)
    monkeypatch.setattr(tracking, "_find_experiment", lambda client, name: None)
    assert Tracker.connect(store_uri, experiment=name).experiment_id == theirs


def test_the_store_comes_from_the_environment_where_none_is_given(store_uri, tracker, monkeypatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", store_uri)
    assert Tracker.connect(None, experiment="first").uri == store_uri


def test_without_any_store_a_file_in_the_working_directory_is_meant(monkeypatch, tmp_path) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.chdir(tmp_path)
    assert tracking_store.resolve_uri(None) == f"sqlite:///{tmp_path}/mlflow.db"


@pytest.mark.timeout(120)  # MLflow's own attempts take four minutes
@pytest.mark.parametrize(
    "uri",
    [
        "http://127.0.0.1:9",
        "http://me:secret@127.0.0.1:9",
        "sqlite:///{folder}/taken/mlflow.db",
        "sqlite:///{folder}",
        "sqlite:///{folder}/taken",
        "file:{folder}/mlruns",
        "nonsense://here",
    ],
)
def test_a_store_that_cannot_be_used_is_said_soon(uri: str, tmp_path, monkeypatch) -> None:
    monkeypatch.delenv("MLFLOW_RUN_ID", raising=False)
    (tmp_path / "taken").write_text("no database")
    with pytest.raises(InputError, match=r"^tracking\.uri=.*cannot be used.*give another URI") as caught:
        Tracker.connect(uri.format(folder=tmp_path), experiment="x")
    assert "secret" not in str(caught.value)


def sqlite_with(path, *statements: str) -> str:
    with contextlib.closing(sqlite3.connect(path)) as store, store:
        for statement in statements:
            store.execute(statement)
    return f"sqlite:///{path}"


@pytest.mark.parametrize(
    ("statements", "query", "remedy"),
    [
        (["CREATE TABLE alembic_version (a)"], "?mode=ro&uri=true", "make the file and its folder writable"),
        (["CREATE TABLE parts (a)"], "", "a database of something else than MLflow; give another file"),
    ],
)
def test_a_file_that_takes_no_runs_is_refused_with_the_remedy(tmp_path, statements, query, remedy) -> None:
    uri = sqlite_with(tmp_path / "mlflow.db", *statements)
    with pytest.raises(InputError, match=remedy):
        Tracker.connect(uri.replace("///", "///file:" if query else "///") + query, experiment="x")


def test_a_store_of_another_release_of_mlflow_is_refused_with_the_remedy(store_uri, tmp_path) -> None:
    shutil.copy(store_uri.removeprefix("sqlite:///"), tmp_path / "newer.db")
    uri = sqlite_with(tmp_path / "newer.db", "UPDATE alembic_version SET version_num = 'ffffffffffff'")
    with pytest.raises(InputError, match="another release of MLflow made it"):
        Tracker.connect(uri, experiment="x")


def test_a_store_that_somebody_has_locked_is_refused_with_the_remedy(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(tracking_store, "LOCK_SECONDS", 0)
    uri = sqlite_with(tmp_path / "mlflow.db", "CREATE TABLE alembic_version (a)")
    with contextlib.closing(sqlite3.connect(tmp_path / "mlflow.db")) as other:
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(InputError, match="wait for the process that writes to it"):
            Tracker.connect(uri, experiment="x")


def test_the_first_of_two_new_stores_stays(tmp_path) -> None:
    for text in ("first", "second"):
        (tmp_path / text).write_text(text)
        tracking_store._put_in_place(tmp_path / text, tmp_path / "mlflow.db")
    assert (tmp_path / "mlflow.db").read_text() == "first"


def test_the_patience_with_a_server_comes_back_after_the_first_contact(tracker, monkeypatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "7")
    monkeypatch.delenv("MLFLOW_HTTP_REQUEST_TIMEOUT", raising=False)
    with environment(tracking_store._IMPATIENT):
        assert os.environ["MLFLOW_HTTP_REQUEST_MAX_RETRIES"] == "1"
    assert os.environ["MLFLOW_HTTP_REQUEST_MAX_RETRIES"] == "7"
    assert "MLFLOW_HTTP_REQUEST_TIMEOUT" not in os.environ


def test_a_write_to_a_database_is_finished_before_an_interrupt_is_heard(tracker, monkeypatch) -> None:
    run = tracker.start_root("torn", {})
    write = tracking.MlflowClient.log_batch

    def interrupted(client, *arguments, **options) -> None:
        signal.raise_signal(signal.SIGINT)
        write(client, *arguments, **options)

    monkeypatch.setattr(tracking.MlflowClient, "log_batch", interrupted)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
    try:
        with pytest.raises(KeyboardInterrupt):
            run.log_metrics({"loss": 0.5})
    finally:
        signal.signal(signal.SIGINT, before)
    assert tracker.client.get_run(run.id).data.metrics == {"loss": 0.5}


def test_a_call_to_a_server_can_be_interrupted() -> None:
    assert type(tracking_store.open_store("http://127.0.0.1:9")) is tracking.MlflowClient


def test_a_deleted_experiment_is_refused_with_the_remedy(store_uri, tracker) -> None:
    name = tracker.client.get_experiment(tracker.experiment_id).name
    tracker.client.delete_experiment(tracker.experiment_id)
    with pytest.raises(InputError, match=f"mlflow experiments restore -x {tracker.experiment_id}"):
        Tracker.connect(store_uri, experiment=name)


@pytest.mark.parametrize(
    ("uri", "shown"),
    [
        ("http://me:secret@host:5000/x", "http://…@host:5000/x"),
        ("http://me:sec@ret@host", "http://…@host"),
        ("http://host/a@b", "http://host/a@b"),
        ("sqlite:////home/me@work/mlflow.db", "sqlite:////home/me@work/mlflow.db"),
    ],
)
def test_a_password_is_not_shown(tracker, uri: str, shown: str) -> None:
    assert Tracker(tracker.client, uri, "0").shown_uri == shown


# --- roots


def test_a_root_says_whose_it_is(tracker) -> None:
    root = tracker.start_root("castings", {"escapement.commit": "abc"})
    found = tags(tracker, root)
    assert found["escapement.host"] == socket.gethostname()
    assert found["escapement.pid"] == str(os.getpid())
    since_boot = int(found["escapement.process_started"]) / os.sysconf("SC_CLK_TCK")
    assert since_boot == pytest.approx(psutil.Process().create_time() - psutil.boot_time(), abs=2)
    assert float(found["escapement.heartbeat"]) == pytest.approx(time.time(), abs=30)
    assert (found["escapement.root"], found["escapement.commit"]) == (root.id, "abc")
    assert tracker.client.get_run(root.id).info.run_name == "castings"


def test_the_run_of_mlflow_run_is_adopted_and_taken_out_of_the_environment(store_uri, tracker, monkeypatch) -> None:
    made = tracker.client.create_run(tracker.experiment_id)
    monkeypatch.setenv("MLFLOW_RUN_ID", made.info.run_id)
    connected = Tracker.connect(store_uri, experiment="another")
    assert connected.experiment_id == tracker.experiment_id
    root = connected.start_root("castings", {})
    assert root.id == made.info.run_id
    assert "MLFLOW_RUN_ID" not in os.environ
    assert connected.start_root("castings", {}).id != root.id


@pytest.mark.parametrize(("given", "kept"), [(None, "castings 2026-11-29"), ("night shift", "night shift")])
def test_the_run_of_mlflow_run_takes_our_name_unless_a_person_gave_it_one(tracker, monkeypatch, given, kept) -> None:
    made = tracker.client.create_run(tracker.experiment_id, run_name=given)
    monkeypatch.setenv("MLFLOW_RUN_ID", made.info.run_id)
    root = tracker.start_root("castings 2026-11-29", {})
    assert tracker.client.get_run(root.id).info.run_name == kept


def test_a_note_is_cut_at_the_length_that_the_store_takes(tracker) -> None:
    root = tracker.start_root("r", {})
    root.set_note("x" * 9000)
    assert tracker.client.get_run(root.id).data.tags["mlflow.note.content"] == "x" * 8000


def test_an_adopted_run_of_another_store_is_a_fault_of_the_environment(store_uri, tracker, monkeypatch) -> None:
    monkeypatch.setenv("MLFLOW_RUN_ID", "0" * 32)
    with pytest.raises(InputError, match="cannot be used"):
        Tracker.connect(store_uri, experiment="another")


def test_the_heart_beats_while_the_block_runs(tracker, monkeypatch, waiting) -> None:
    monkeypatch.setattr(tracking, "HEARTBEAT_SECONDS", 0.05)
    root = tracker.start_root("r", {})
    root.set_tags({liveness.TAG_HEARTBEAT: "0"})
    with tracker.heartbeat(root):
        waiting(lambda: tags(tracker, root)[liveness.TAG_HEARTBEAT] != "0")
    root.set_tags({liveness.TAG_HEARTBEAT: "0"})
    time.sleep(0.2)
    assert tags(tracker, root)[liveness.TAG_HEARTBEAT] == "0"


def test_a_missed_beat_stops_nothing(tracker, monkeypatch, caplog, waiting) -> None:
    monkeypatch.setattr(tracking, "HEARTBEAT_SECONDS", 0.01)
    with tracker.heartbeat(tracker.run("0" * 32)):
        waiting(lambda: caplog.text)
    assert "heartbeat not written" in caplog.text


# --- stages


def test_a_stage_is_a_child_of_the_root(tracker) -> None:
    root = tracker.start_root("r", {})
    stage = tracker.start_stage(root, "train", "f1", resume=False)
    assert [child.info.run_id for child in tracker.children(root)] == [stage.id]
    assert tags(tracker, stage)["escapement.fingerprint"] == "f1"
    assert tags(tracker, stage)["escapement.root"] == root.id


@pytest.mark.parametrize("end", ["KILLED", "FAILED"])
def test_an_unfinished_stage_goes_on_under_the_new_root_and_the_old_root_is_superseded(tracker, end) -> None:
    old = tracker.start_root("old", {})
    stage = tracker.start_stage(old, "train", "f1", resume=False)
    stage.log_params({"lr": 1})
    tracker.end_tree(old.id, end)
    new = tracker.start_root("new", {})
    again = tracker.start_stage(new, "train", "f1", resume=True)
    assert again.id == stage.id
    assert status(tracker, again) == "RUNNING"
    assert [child.info.run_id for child in tracker.children(new)] == [stage.id]
    assert tracker.children(old) == []
    assert tags(tracker, old)["escapement.superseded_by"] == new.id
    assert status(tracker, old) == end
    again.log_params({"lr": 2, "failure_limit": 0.5})  # what may change without being another run keeps its first value
    assert tracker.client.get_run(again.id).data.params == {"lr": "1", "failure_limit": "0.5"}


@pytest.mark.parametrize(("stage", "fingerprint"), [("search", "f1"), ("train", "f2")])
def test_another_stage_or_fingerprint_gets_a_run_of_its_own(tracker, stage, fingerprint) -> None:
    old = tracker.start_root("old", {})
    killed = tracker.start_stage(old, "train", "f1", resume=False)
    tracker.end_tree(old.id, "KILLED")
    new = tracker.start_root("new", {})
    assert tracker.start_stage(new, stage, fingerprint, resume=True).id != killed.id
    assert "escapement.superseded_by" not in tags(tracker, old)


@pytest.mark.parametrize("end", ["FINISHED", "RUNNING"])
def test_a_finished_or_running_stage_is_not_taken_over(tracker, end) -> None:
    root = tracker.start_root("r", {})
    first = tracker.start_stage(root, "train", "f1", resume=False)
    if end != "RUNNING":
        first.finish(end)
    assert tracker.start_stage(root, "train", "f1", resume=True).id != first.id


def test_a_stage_whose_old_root_was_deleted_still_goes_on(tracker) -> None:
    old = tracker.start_root("old", {})
    stage = tracker.start_stage(old, "train", "f1", resume=False)
    tracker.end_tree(old.id, "KILLED")
    tracker.client.delete_run(old.id)
    assert tracker.start_stage(tracker.start_root("new", {}), "train", "f1", resume=True).id == stage.id


def test_a_stage_begun_anew_supersedes_the_interrupted_one(tracker) -> None:
    old = tracker.start_root("old", {})
    killed = tracker.start_stage(old, "train", "f1", resume=False)
    tracker.end_tree(old.id, "KILLED")
    new = tracker.start_root("new", {})
    anew = tracker.start_stage(new, "train", "f1", resume=False)
    assert anew.id != killed.id
    assert tags(tracker, killed)["escapement.superseded_by"] == anew.id
    assert status(tracker, killed) == "KILLED"
    anew.finish("KILLED")
    assert tracker.start_stage(new, "train", "f1", resume=True).id == anew.id


@pytest.fixture
def elsewhere(store_uri, tracker):
    """A second experiment of the same store, as `mlflow run` would use it."""
    other = Tracker.connect(store_uri, experiment=f"elsewhere-{uuid.uuid4().hex}")
    yield other
    other.client.delete_experiment(other.experiment_id)


def test_a_stage_of_another_experiment_goes_on_where_it_is(tracker, elsewhere) -> None:
    old = elsewhere.start_root("old", {})
    stage = elsewhere.start_stage(old, "search", "f1", resume=False)
    elsewhere.end_tree(old.id, "KILLED")
    again = tracker.start_stage(tracker.start_root("new", {}), "search", "f1", resume=True)
    assert (again.id, again.experiment_id) == (stage.id, elsewhere.experiment_id)
    trial = tracker.start_child(again, "trial-0", {})
    assert tracker.client.get_run(trial.id).info.experiment_id == elsewhere.experiment_id
    assert [child.info.run_id for child in tracker.children(again)] == [trial.id]


def test_the_dead_and_the_living_are_found_in_every_experiment(tracker, elsewhere, gone_pid) -> None:
    dead = as_if_of(elsewhere.start_root("dead", {}), pid=gone_pid)
    stage = elsewhere.start_stage(dead, "train", "f1", resume=False)
    alive = elsewhere.start_root("alive", {})
    assert tracker.running_roots() == [alive.id]
    assert tracker.reap() == 2
    assert [status(tracker, run) for run in (dead, stage)] == ["KILLED"] * 2


def test_a_run_counts_as_unfinished_until_it_has_ended_well(tracker) -> None:
    run = tracker.start_root("r", {})
    assert tracker.unfinished(run.id).id == run.id
    run.finish("KILLED")
    assert tracker.unfinished(run.id).id == run.id
    run.finish()
    assert tracker.unfinished(run.id) is None
    assert tracker.unfinished("0" * 32) is None


def test_the_living_are_told_apart_by_the_storage_that_they_use(tracker, tmp_path) -> None:
    root = tracker.start_root("r", {tracking.TAG_STORAGE: str(tmp_path)})
    assert tracker.running_roots(storage=tmp_path) == [root.id]
    assert tracker.running_roots(storage=tmp_path / "other") == []


@pytest.mark.parametrize("model", ["models:/nope@champion", "./nofolder"])
def test_a_model_that_is_not_there_is_a_fault_of_the_user(store_uri, tracker, monkeypatch, model: str) -> None:
    tracking.use_store(store_uri)
    with pytest.raises(InputError, match=r"^model=.*cannot be loaded.*or a model folder"):
        tracking.load_pyfunc(model, model_config={})


def test_ending_a_tree_ends_what_runs_below_and_nothing_that_has_ended(tracker) -> None:
    root = tracker.start_root("r", {})
    done = tracker.start_stage(root, "prepare", "f0", resume=False)
    done.finish()
    stage = tracker.start_stage(root, "search", "f1", resume=False)
    trial = tracker.start_child(stage, "trial-0", {})
    other = tracker.start_root("other", {})
    assert tracker.end_tree(root.id, "KILLED") == 3
    assert [status(tracker, run) for run in (root, stage, trial)] == ["KILLED"] * 3
    assert status(tracker, done) == "FINISHED"
    assert status(tracker, other) == "RUNNING"
    assert tracker.end_tree(root.id, "FAILED") == 0


# --- the dead and the living


def test_the_run_of_a_process_that_is_gone_is_ended_with_all_below(tracker, gone_pid) -> None:
    root = as_if_of(tracker.start_root("r", {}), pid=gone_pid)
    stage = tracker.start_stage(root, "search", "f1", resume=False)
    trial = tracker.start_child(stage, "trial-0", {})
    assert tracker.running_roots() == []
    assert tracker.reap() == 3
    assert [status(tracker, run) for run in (root, stage, trial)] == ["KILLED"] * 3
    assert tracker.reap() == 0


def test_the_run_of_a_living_process_is_left_alone(tracker) -> None:
    root = tracker.start_root("r", {})
    stage = tracker.start_stage(root, "search", "f1", resume=False)
    assert tracker.reap() == 0
    assert status(tracker, stage) == "RUNNING"
    assert tracker.running_roots() == [root.id]


def test_a_process_id_that_somebody_else_has_now_does_not_keep_a_run_alive(tracker) -> None:
    root = tracker.start_root("r", {})
    root.set_tags({liveness.TAG_STARTED: "1"})
    assert tracker.reap() == 1
    assert status(tracker, root) == "KILLED"


def test_only_experiments_with_runs_of_ours_are_searched_and_no_run_of_others_is_read(
    store_uri, tracker, elsewhere, monkeypatch
) -> None:
    ours = elsewhere.start_root("ours", {})
    foreign = tracker.client.create_experiment(f"foreign-{uuid.uuid4().hex}")
    for experiment in (foreign, tracker.experiment_id):
        tracker.client.create_run(experiment, tags={"mlflow.parentRunId": "f" * 32})
    search, asked, read = tracking.MlflowClient.search_runs, [], []

    def watched(client, experiments, *arguments, **options):
        found = search(client, experiments, *arguments, **options)
        asked.extend(experiments)
        read.extend(run.info.run_id for run in found)
        return found

    monkeypatch.setattr(tracking.MlflowClient, "search_runs", watched)
    assert tracker.reap() == 0
    assert {tracker.experiment_id, elsewhere.experiment_id} <= set(asked)
    assert foreign not in asked
    assert read == [ours.id]
    tracker.client.delete_experiment(foreign)


def test_a_server_that_does_not_answer_is_no_missing_run(monkeypatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    away = Tracker(MlflowClient("http://127.0.0.1:9"), "http://127.0.0.1:9", "0")
    for ask in (away.exists, away.holds_model):
        with pytest.raises(MlflowException, match="API request"):
            ask("0" * 32)


def test_a_container_of_the_same_host_name_does_not_end_the_runs_of_the_first(tracker, gone_pid) -> None:
    root = as_if_of(tracker.start_root("r", {}), pid=gone_pid, beat=time.time() - 60)
    root.set_tags({liveness.TAG_MACHINE: "the-same-boot/4026532999"})
    assert tracker.reap() == 0
    assert tracker.running_roots() == [root.id]


def test_on_another_host_the_heartbeat_decides(tracker) -> None:
    alive = as_if_of(tracker.start_root("a", {}), host="elsewhere", pid=1, beat=time.time() - 60)
    dead = as_if_of(
        tracker.start_root("d", {}), host="elsewhere", pid=os.getpid(),
        beat=time.time() - liveness.DEAD_AFTER_SECONDS - 60,
    )  # fmt: skip
    assert tracker.running_roots() == [alive.id]
    assert tracker.reap() == 1
    assert (status(tracker, alive), status(tracker, dead)) == ("RUNNING", "KILLED")


def test_what_runs_below_a_root_that_its_launcher_has_ended_is_ended(tracker) -> None:
    root = tracker.start_root("r", {})
    stage = tracker.start_stage(root, "search", "f1", resume=False)
    trial = tracker.start_child(stage, "trial-0", {})
    root.finish("FAILED")
    assert tracker.reap() == 2
    assert [status(tracker, run) for run in (stage, trial)] == ["KILLED"] * 2


def test_runs_that_are_not_ours_are_left_alone(tracker) -> None:
    foreign = tracker.client.create_run(tracker.experiment_id)
    ended = tracker.client.create_run(tracker.experiment_id)
    tracker.client.set_terminated(ended.info.run_id)
    below = tracker.client.create_run(tracker.experiment_id, tags={"mlflow.parentRunId": ended.info.run_id})
    assert tracker.reap() == 0
    assert [status(tracker, tracker.run(run.info.run_id)) for run in (foreign, below)] == ["RUNNING"] * 2


# --- logging


def test_a_long_parameter_is_cut_and_many_are_logged(tracker) -> None:
    run = tracker.start_root("r", {})
    run.log_params({"long": "x" * 7000, "none": None, **{f"p{n}": n for n in range(250)}})
    params = tracker.client.get_run(run.id).data.params
    assert params["long"] == "x" * tracking.MAX_PARAM_CHARS
    assert (params["none"], params["p249"], len(params)) == ("None", "249", 252)


def test_metrics_without_a_value_are_left_out_and_long_histories_are_whole(tracker) -> None:
    run = tracker.start_root("r", {})
    run.log_metrics({"a": 1.5, "b": None, "c": True}, step=3)
    run.log_history([(step, {"loss": 1 / (step + 1), "missing": None}) for step in range(1100)])
    metrics = tracker.client.get_run(run.id).data.metrics
    assert metrics == {"a": 1.5, "c": 1.0, "loss": pytest.approx(1 / 1100)}
    history = tracker.client.get_metric_history(run.id, "loss")
    assert [entry.step for entry in history] == list(range(1100))
    assert tracker.client.get_metric_history(run.id, "a")[0].step == 3


def test_a_metric_that_is_sent_twice_with_its_time_stands_once(tracker) -> None:
    run = tracker.start_root("r", {})
    for _ in range(2):
        run.log_history([(3, {"loss": 0.5})], time_ms=1_700_000_000_000)
    history = tracker.client.get_metric_history(run.id, "loss")
    assert [(entry.step, entry.value, entry.timestamp) for entry in history] == [(3, 0.5, 1_700_000_000_000)]


def test_a_run_whose_making_was_not_answered_is_found_when_it_is_asked_for_again(tracker, monkeypatch) -> None:
    parent = tracker.start_root("r", {})
    children = tracking.ChildRuns(tracker, parent, "entry")

    def unanswered(*args) -> None:
        made(*args)
        raise ConnectionError("connection reset")

    made = tracker.start_child
    with monkeypatch.context() as patch:
        patch.setattr(tracker, "start_child", unanswered)
        with pytest.raises(ConnectionError):
            children.open("a", name="a", stage="trial", params={})
    run = children.open("a", name="a", stage="trial", params={"lr": 0.1})
    children.open("b", name="b", stage="trial", params={})
    assert sorted(child.data.tags["entry"] for child in tracker.children(parent)) == ["a", "b"]
    assert tracker.client.get_run(run.id).data.params == {"lr": "0.1"}


def test_nothing_to_log_is_no_fault(tracker) -> None:
    run = tracker.start_root("r", {})
    run.log_metrics({})
    run.log_params({})
    run.log_history([])
    logged = tracker.client.get_run(run.id).data
    assert (logged.metrics, logged.params) == ({}, {})


def test_a_data_set_is_recorded_with_its_digest_source_and_context(tracker) -> None:
    run = tracker.start_root("r", {})
    table = pd.DataFrame({"path": ["a.png"], "is_defect": [True]})
    dataset = describe_dataset(table, name="manifest", source="/images", digest="d" * 64)
    run.log_dataset(dataset, context="prepare")
    (entry,) = tracker.client.get_run(run.id).inputs.dataset_inputs
    assert (entry.dataset.name, entry.dataset.digest) == ("manifest", "d" * 36)
    assert "/images" in entry.dataset.source
    assert [(tag.key, tag.value) for tag in entry.tags] == [("mlflow.data.context", "prepare")]


def test_a_text_and_a_file_become_artifacts(tracker, tmp_path) -> None:
    run = tracker.start_root("r", {})
    (tmp_path / "a.csv").write_text("1")
    run.log_text("{}", "config.json")
    run.log_artifact(tmp_path / "a.csv", "tables")
    assert [item.path for item in tracker.client.list_artifacts(run.id)] == ["config.json", "tables"]
    assert tracker.client.list_artifacts(run.id, "tables")[0].path == "tables/a.csv"


def test_a_run_of_another_store_does_not_exist(tracker) -> None:
    assert not tracker.exists("0" * 32)
    run = tracker.start_root("r", {})
    assert tracker.exists(run.id)
    tracker.client.delete_run(run.id)
    assert not tracker.exists(run.id)


# --- the registry


@pytest.fixture
def registry(tracker) -> Registry:
    return Registry(tracker, f"castings-{uuid.uuid4().hex}")


@pytest.fixture
def log_model(tracker, tmp_path):
    """Logs a model folder that holds next to nothing; its id and the run's."""

    def log() -> tuple[str, str]:
        folder = tmp_path / "model"
        folder.mkdir(exist_ok=True)
        (folder / "MLmodel").write_text("flavors: {python_function: {loader_module: nothing}}\nmodel_uuid: a\n")
        run = tracker.start_root("r", {})
        return tracker.log_model(run, folder, name="model", params={"backbone": "tiny"}), run.id

    return log


def test_a_model_that_nobody_registered_has_neither_versions_nor_aliases(registry) -> None:
    assert registry.aliases() == {}
    assert registry.version_with_alias("champion") is None
    assert registry.version_of_model("m-1") is None


def test_versions_count_up_and_are_found_by_the_model_that_they_hold(tracker, registry, log_model) -> None:
    (first, first_run), (second, second_run) = log_model(), log_model()
    assert registry.register(model_id=first, run_id=first_run, tags={"escapement.train_run": "x"}) == "1"
    assert registry.version_of_model(second) is None
    assert registry.register(model_id=second, run_id=second_run, tags={}) == "2"
    assert (registry.version_of_model(first), registry.version_of_model(second)) == ("1", "2")
    version = tracker.client.get_model_version(registry.model_name, "1")
    assert version.tags["escapement.train_run"] == "x"
    assert version.run_id == first_run


def test_an_alias_moves_and_goes(registry, log_model) -> None:
    for model_id, run_id in (log_model(), log_model()):
        registry.register(model_id=model_id, run_id=run_id, tags={})
    registry.set_alias("champion", "1")
    registry.set_alias("challenger", "2")
    assert registry.aliases() == {"champion": "1", "challenger": "2"}
    registry.set_alias("champion", "2")
    assert registry.version_with_alias("champion") == "2"
    registry.remove_alias("challenger")
    assert registry.aliases() == {"champion": "2"}


def test_a_version_is_tagged_and_its_folder_found(tracker, registry, log_model) -> None:
    model_id, run_id = log_model()
    version = registry.register(model_id=model_id, run_id=run_id, tags={})
    registry.tag_version(version, {"escapement.gates": "passed"})
    assert tracker.client.get_model_version(registry.model_name, version).tags["escapement.gates"] == "passed"
    assert (registry.download(version) / "MLmodel").is_file()


def test_a_name_that_only_begins_the_same_is_another_model(tracker, registry, log_model) -> None:
    model_id, run_id = log_model()
    registry.register(model_id=model_id, run_id=run_id, tags={})
    assert Registry(tracker, registry.model_name[:-1]).aliases() == {}
    assert Registry(tracker, registry.model_name[:-1]).version_of_model(model_id) is None


def test_a_logged_model_is_an_output_of_its_run(tracker, log_model) -> None:
    model_id, run_id = log_model()
    outputs = tracker.client.get_run(run_id).outputs.model_outputs
    assert [output.model_id for output in outputs] == [model_id]
    assert tracker.client.get_logged_model(model_id).params == {"backbone": "tiny"}


def test_what_a_logged_model_has_lost_is_found_and_put_back(tracker, registry, log_model, tmp_path) -> None:
    model_id, run_id = log_model()
    version = registry.register(model_id=model_id, run_id=run_id, tags={})
    assert registry.logged_model(version) == model_id
    assert tracker.lost_files(model_id, tmp_path / "model") == []
    kept = registry.download(version) / "MLmodel"
    for spoil in (lambda: kept.unlink(), lambda: kept.write_text("short"), lambda: shutil.rmtree(kept.parent)):
        spoil()
        assert tracker.lost_files(model_id, tmp_path / "model") == ["MLmodel"]
        tracker.restore_model(model_id, tmp_path / "model")
        assert tracker.lost_files(model_id, tmp_path / "model") == []
    shutil.rmtree(kept.parent)
    with pytest.raises(ModelError, match="its files cannot be read"):
        registry.download(version)


# --- a server that is away


@pytest.fixture
def answering(monkeypatch):
    """`answering(status, body)`: what MLflow raises where a server answers so; without a status nothing listens."""
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")

    class Answer(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(self.server.status)
            self.end_headers()
            self.wfile.write(self.server.body)

        def log_message(self, *args) -> None: ...

    with http.server.HTTPServer(("127.0.0.1", 0), Answer) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()

        def at(status: int | None, body: bytes) -> str:
            server.status, server.body = status, body
            return f"http://127.0.0.1:{server.server_port if status is not None else 9}"

        def make(status: int | None, body: bytes) -> Exception:
            with pytest.raises(MlflowException) as caught:
                MlflowClient(at(status, body)).get_run("0" * 32)
            return caught.value

        make.at = at
        yield make
        server.shutdown()


@pytest.mark.parametrize(
    ("status", "body", "remedy"),
    [
        (200, b"<html>please log in</html>", "no MLflow server"),
        (200, b"{}", "no MLflow server"),
        (404, b"no such page", "no MLflow server"),
        (401, b"who are you?", "MLFLOW_TRACKING_TOKEN"),
        (403, b"<html>", "MLFLOW_TRACKING_TOKEN"),
        (500, b"oops", "start the server"),
    ],
)
def test_an_answer_that_is_no_trackings_is_refused_with_the_remedy(answering, status, body, remedy: str) -> None:
    uri = answering.at(status, body)
    with pytest.raises(InputError, match=rf"^tracking\.uri={uri}: .*{remedy}"):
        Tracker.connect(uri, experiment="x")


@pytest.mark.parametrize(
    ("status", "body", "away"),
    [
        (None, b"", True),
        (503, b"try later", True),
        (502, b"<html>", True),
        (503, b'{"error_code": "TEMPORARILY_UNAVAILABLE", "message": "the database is away"}', True),
        (404, b"no such host behind this proxy", True),
        (404, b'{"error_code": "RESOURCE_DOES_NOT_EXIST", "message": "no such run"}', False),
        (400, b'{"error_code": "INVALID_PARAMETER_VALUE", "message": "no such metric"}', False),
        (401, b"who are you?", False),
        (403, b"not for you", False),
    ],
)
def test_a_server_is_away_where_nobody_answers_or_not_for_now(answering, status, body: bytes, away: bool) -> None:
    assert tracking.is_away(answering(status, body)) is away


def test_a_database_that_is_locked_is_away_for_now(tracker, store_uri) -> None:
    run = tracker.start_root("one", {})
    with contextlib.closing(sqlite3.connect(store_uri.removeprefix("sqlite:///"), timeout=30)) as other:
        other.execute("BEGIN EXCLUSIVE")
        engine = tracker.client._tracking_client.store.engine

        @event.listens_for(engine, "before_cursor_execute")
        def impatient(connection, cursor, statement, parameters, context, many) -> None:
            cursor.connection.execute("PRAGMA busy_timeout = 0")

        try:
            with pytest.raises(MlflowException, match="database is locked") as caught:
                run.finish()
        finally:
            event.remove(engine, "before_cursor_execute", impatient)
    assert tracking.is_away(caught.value)


@pytest.mark.parametrize(
    ("error", "away"),
    [(ConnectionResetError("gone"), True), (TimeoutError("slow"), True), (ValueError("API request to"), False)],
)
def test_an_error_that_is_not_mlflows_is_one_of_the_connection_or_none_of_a_server_that_is_away(
    error: Exception, away: bool
) -> None:
    assert tracking.is_away(error) is away


def test_a_table_that_is_logged_again_takes_the_place_of_the_first(tracker) -> None:
    run = tracker.start_root("r", {})
    for scores in ([0.1, 0.2], [0.3]):
        run.log_table(pd.DataFrame({"trial": range(len(scores)), "score": scores}), "tables/trials.json")
    loaded = mlflow.artifacts.load_dict(f"{run_uri(tracker, run)}/tables/trials.json")
    assert loaded == {"columns": ["trial", "score"], "data": [[0, 0.3]]}


def run_uri(tracker, run) -> str:
    return tracker.client.get_run(run.id).info.artifact_uri


def test_the_folder_of_the_artifacts_is_known_where_it_is_on_this_machine(tracker, tmp_path) -> None:
    client = tracker.client
    there = client.create_experiment("local", artifact_location=(tmp_path / "a b").as_uri())
    away = client.create_experiment("away", artifact_location="s3://bucket/x")
    assert Tracker(client, tracker.uri, there).local_artifacts() is None  # nothing was logged yet
    (tmp_path / "a b").mkdir()
    assert Tracker(client, tracker.uri, there).local_artifacts() == tmp_path / "a b"
    assert Tracker(client, tracker.uri, away).local_artifacts() is None
