"""A run that is killed or interrupted goes on where it was: nothing is lost, doubled, or left RUNNING."""

import json
import os
import signal
import sys
from dataclasses import replace

import pandas as pd
import pytest

from components.training.checkpoint import load_checkpoint

pytestmark = pytest.mark.integration

#: Long enough for a signal to arrive in the middle.
LONG_TRAINING = {"train.epochs": 12, "search.confirm": "never"}
LONG_CONFIRMATION = {"train.epochs": 4}
FOLDS = ["fold-0", "fold-1", "fold-2"]
LONG_SEARCH = {"search.num_trials": 3, "search.max_epochs": 4}
WEIGHTS = "model/artifacts/bundle/weights.safetensors"


def _second_fold(place):
    """The training of the second fold has ended its first epoch."""
    return list(place.storage.glob("train/*/members/fold-1/state.pt"))


def _first_rung(place):
    return list(place.storage.glob("search/*/unfinished/tune-*/*/checkpoint_*/state.pt"))


def _interrupt(place, command, waiting, ending, number, *, sign):
    """Start a command, wait for a sign of progress, and send a signal as a terminal would: to the whole group."""
    process = place.start(*command)
    waiting(lambda: sign(place) or process.poll() is not None)
    assert process.poll() is None, process.communicate()[1][-4000:]
    os.killpg(process.pid, number)
    done = ending(process)
    return replace(done, outlived=place.end_leftovers())


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory, copy_finished_to):
    """What the long training gives without an interruption."""
    place = copy_finished_to(tmp_path_factory.mktemp("undisturbed"), "train", "deliver", "evaluate", "promote")
    return _outcome(place, place.run("deliver", LONG_TRAINING))


def _outcome(place, done):
    """Weights, out-of-fold scores, threshold and history of a training, without what was measured by a clock."""
    train, deliver = (place.result(done, stage) for stage in ("train", "deliver"))
    history = pd.read_parquet(train / "history.parquet")
    point = json.loads((deliver / "operating_point.json").read_text())["operating_point"]
    files = [deliver / WEIGHTS, deliver / "calibration_predictions.parquet", train / "steps.parquet"]
    return (
        [file.read_bytes() for file in files],
        point["threshold"],
        history.drop(columns=["seconds", "images_per_second"]).to_csv(),
    )


def _saved_epochs(place):
    """Member and epoch → seconds that it took, of an interrupted training."""
    files = place.storage.glob("train/*/members/fold-*/epoch-*.pt")
    records = [(path.parent.name, load_checkpoint(path, device="cpu")["record"]) for path in files]
    return {(member, record["epoch"]): record["seconds"] for member, record in records}


def _check_resumed_training(place, resumed, undisturbed, saved):
    """saved: the epochs before it resumed."""
    assert resumed.actions == {
        "prepare": "reused",
        "embed": "reused",
        "lr_range_test": "reused",
        "search": "reused",
        "confirm": "reused",
        "train": "continued",
        "deliver": "run",
    }
    assert _outcome(place, resumed) == undisturbed
    folder = place.result(resumed, "train")
    seconds = pd.read_parquet(folder / "history.parquet").set_index(["member", "epoch"])["seconds"]
    assert list(seconds.index) == [(fold, epoch) for fold in FOLDS for epoch in range(1, 13)]
    assert len(saved) > 12  # the first fold, and of the second an epoch at least
    repeated = [epoch for epoch in saved if seconds[epoch] != saved[epoch]]
    assert len(repeated) <= 1
    assert not (folder / "unfinished").exists()
    assert place.running() == []
    runs = [run for run in place.runs() if run.data.tags.get("escapement.stage") == "train"]
    begun = [run for run in runs if run.data.params["train.epochs"] == "12"]
    assert [run.info.run_id for run in begun] == [resumed.stage("train")["run_id"]]  # one run, gone on with
    assert begun[0].info.status == "FINISHED"
    assert begun[0].data.tags["mlflow.parentRunId"] == resumed.summary["parent_run_id"]
    members = [run for run in place.runs() if run.data.tags.get("mlflow.parentRunId") == begun[0].info.run_id]
    assert sorted(run.data.tags["escapement.entry"] for run in members) == FOLDS
    assert {run.info.status for run in members} == {"FINISHED"}
    for run in members:
        points = place.client().get_metric_history(run.info.run_id, "train_loss")
        assert [point.step for point in points] == list(range(1, 13))


def _roots(place):
    return [run for run in place.runs() if run.data.tags.get("escapement.stage") == "pipeline"]


def test_a_training_that_was_killed_goes_on_from_its_last_epoch(copy_of_finished, undisturbed, waiting, ending):
    place = copy_of_finished("train", "deliver", "evaluate", "promote")
    command = place.pipeline("deliver", LONG_TRAINING)
    killed = _interrupt(place, command, waiting, ending, signal.SIGKILL, sign=_second_fold)
    assert killed.code == -signal.SIGKILL
    assert not list(place.storage.glob("train/*/stage.json"))
    member, root, stage = sorted(place.running())
    assert (member, root[:16], stage) == ("fold-1-seed-1", "smoke deliver 20", "train")
    (old,) = [run.info.run_id for run in _roots(place) if run.info.status == "RUNNING"]
    saved = _saved_epochs(place)
    resumed = place.run("deliver", LONG_TRAINING)
    _check_resumed_training(place, resumed, undisturbed, saved)
    old_root = place.client().get_run(old)
    assert old_root.info.status == "KILLED"
    assert old_root.data.tags["escapement.superseded_by"] == resumed.summary["parent_run_id"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_training_that_was_interrupted_ends_its_runs_and_goes_on(
    copy_of_finished, undisturbed, waiting, ending, number
):
    place = copy_of_finished("train", "deliver", "evaluate", "promote")
    command = place.pipeline("deliver", LONG_TRAINING)
    stopped = _interrupt(place, command, waiting, ending, number, sign=_second_fold)
    assert stopped.code == 130
    assert "error: interrupted; the same command resumes the run" in stopped.stderr
    assert "Traceback" not in stopped.stderr
    assert stopped.summary["status"] == "interrupted"
    assert place.running() == []
    (old,) = [run for run in _roots(place) if run.info.run_id == stopped.summary["parent_run_id"]]
    assert old.info.status == "KILLED"
    saved = _saved_epochs(place)
    resumed = place.run("deliver", LONG_TRAINING)
    _check_resumed_training(place, resumed, undisturbed, saved)


def _second_confirmation(place):
    """The second training of a confirmation has ended its first epoch."""
    return list(place.storage.glob("confirm/*/unfinished/defaults-fold-1/state.pt"))


def test_a_confirmation_that_was_killed_repeats_no_training(
    tmp_path_factory, copy_of_finished, copy_finished_to, waiting, ending
):
    gone = ("confirm", "train", "deliver", "evaluate", "promote")
    whole = copy_finished_to(tmp_path_factory.mktemp("whole"), *gone)
    whole.let_a_trial_win()
    straight = whole.run("confirm", LONG_CONFIRMATION)
    expected = json.loads((whole.result(straight, "confirm") / "confirmation.json").read_text())
    assert len(expected["trainings"]) >= 4, expected["statement"]
    place = copy_of_finished(*gone)
    place.let_a_trial_win()
    command = place.pipeline("confirm", LONG_CONFIRMATION)
    killed = _interrupt(place, command, waiting, ending, signal.SIGKILL, sign=_second_confirmation)
    assert killed.code == -signal.SIGKILL
    assert not list(place.storage.glob("confirm/*/stage.json"))
    resumed = place.run("confirm", LONG_CONFIRMATION)
    assert resumed.actions["confirm"] == "continued"
    assert place.running() == []
    found = json.loads((place.result(resumed, "confirm") / "confirmation.json").read_text())
    same = ("chosen", "statement", "difference", "expected", "scores", "overrides")
    assert {key: found[key] for key in same} == {key: expected[key] for key in same}
    repeated = [run for run in place.runs() if run.data.tags.get("escapement.stage") == "confirm_training"]
    below = [run for run in repeated if run.data.tags["mlflow.parentRunId"] == resumed.stage("confirm")["run_id"]]
    assert sorted(run.info.run_id for run in below) == sorted(one["run_id"] for one in found["trainings"])
    assert {run.info.status for run in below} == {"FINISHED"}
    client = place.client()
    for run in below:
        points = client.get_metric_history(run.info.run_id, "train_loss")
        assert [point.step for point in points] == list(range(1, 5))


def _check_resumed_search(place, resumed):
    assert resumed.actions == {"prepare": "reused", "embed": "reused", "lr_range_test": "reused", "search": "continued"}
    assert place.running() == []
    trials = [
        run for run in place.runs() if run.data.tags.get("mlflow.parentRunId") == resumed.stage("search")["run_id"]
    ]
    assert sorted(run.data.tags["escapement.trial"] for run in trials) == ["0", "1", "2"]
    assert {run.info.status for run in trials} == {"FINISHED"}
    table = pd.read_parquet(place.result(resumed, "search") / "trials.parquet")
    assert table["trial"].tolist() == [0, 1, 2]
    assert set(table["status"]) <= {"completed", "stopped"}
    assert (table.loc[table["status"] == "completed", "epochs"] == 4).all()


def test_a_search_that_was_killed_goes_on_with_its_trials(copy_of_finished, waiting, ending):
    """Also from checkpoints elsewhere, of which nothing is left in the end."""
    place = copy_of_finished("search", "train", "deliver", "evaluate", "promote")
    elsewhere = place.folder / "trials"
    settings = LONG_SEARCH | {"compute.trial_storage": elsewhere}
    command = place.pipeline("search", settings)

    def first_rung(_):
        return list(elsewhere.glob("*/tune-*/*/checkpoint_*/state.pt"))

    killed = _interrupt(place, command, waiting, ending, signal.SIGKILL, sign=first_rung)
    assert killed.code == -signal.SIGKILL
    assert killed.outlived == ()
    assert not list(place.storage.glob("search/*/stage.json"))
    (old,) = [run.info.run_id for run in _roots(place) if run.info.status == "RUNNING"]
    resumed = place.run("search", settings)
    _check_resumed_search(place, resumed)
    assert list(elsewhere.iterdir()) == []
    old_root = place.client().get_run(old)
    assert old_root.info.status == "KILLED"
    assert old_root.data.tags["escapement.superseded_by"] == resumed.summary["parent_run_id"]


def test_a_search_that_was_interrupted_is_not_taken_for_a_finished_one(copy_of_finished, waiting, ending):
    place = copy_of_finished("search", "train", "deliver", "evaluate", "promote")
    command = place.pipeline("search", LONG_SEARCH)
    stopped = _interrupt(place, command, waiting, ending, signal.SIGINT, sign=_first_rung)
    assert stopped.code == 130
    assert stopped.summary["status"] == "interrupted"
    assert "Traceback" not in stopped.stderr
    assert place.running() == []
    assert stopped.outlived == ()
    assert not list(place.storage.glob("search/*/stage.json"))
    plan = place.run("search", LONG_SEARCH, "--dry-run").actions
    assert plan == {"prepare": "reused", "embed": "reused", "lr_range_test": "reused", "search": "continued"}


def test_one_ctrl_c_that_reaches_mlflow_run_and_its_project_leaves_nothing_running(
    copy_of_finished, waiting, ending
) -> None:
    place = copy_of_finished("train", "deliver", "evaluate", "promote")
    small = [part.removeprefix("--set=") for part in place.pipeline("train", LONG_TRAINING) if "--set=" in part]
    # An entry point runs in the project's folder, so the storage is given as an absolute path.
    parameters = [f"-P{entry}" for entry in ["config=smoke", *small, f"storage.root={place.storage}"]]
    repository = place.environment()["PYTHONPATH"]
    process = place.start(
        *(sys.executable, "-m", "mlflow", "run", repository, "--env-manager", "local", "-e", "train", *parameters),
        MLFLOW_TRACKING_URI=place.tracking_uri,
        PYTHONPATH="",
    )
    waiting(lambda: _second_fold(place) or process.poll() is not None)
    assert process.poll() is None, process.communicate()[1][-4000:]
    os.killpg(process.pid, signal.SIGINT)  # the launcher then sends SIGTERM to the project as well
    stopped = ending(process)
    place.end_leftovers()
    assert stopped.code != 0
    assert "error: interrupted; the same command resumes the run" in stopped.stderr
    assert "could not be ended" not in stopped.stderr
    waiting(lambda: place.running() == [], timeout=60, fail=False)
    assert place.running() == [], stopped.stderr[-4000:]
    assert not list(place.storage.glob("train/*/stage.json"))
    # The command line's own experiment is another one than the launcher's; the run is found there all the same.
    resumed = place.run("train", LONG_TRAINING)
    assert resumed.actions["train"] == "continued"
    assert place.running() == []
