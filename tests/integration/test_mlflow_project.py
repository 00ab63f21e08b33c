"""`mlflow run`: its run is the root, its parameters are overrides, and its entry points are the stages."""

import sys

import pytest

pytestmark = pytest.mark.integration


def _mlflow_run(place, settings, *options):
    parameters = [f"-P{key}={value}" for key, value in {"config": "smoke", **settings}.items()]
    repository = place.environment()["PYTHONPATH"]
    command = ["run", repository, "--env-manager", "local", "--experiment-name", "launched", *options, *parameters]
    done = place.execute(
        sys.executable, "-m", "mlflow", *command, MLFLOW_TRACKING_URI=place.tracking_uri, PYTHONPATH=""
    )
    assert done.code == 0, done.stderr[-4000:]
    runs = {run.info.run_id: run for run in place.runs()}
    experiment = place.client().get_experiment_by_name("launched").experiment_id
    return [run for run in runs.values() if run.info.experiment_id == experiment]


def _settings(place, small):
    # An entry point runs in the project's folder, so the storage is given as an absolute path.
    return {**small, "storage.root": place.storage}


@pytest.fixture
def small(workplace):
    """The overrides of a small run, as `key: value`."""
    options = [part.removeprefix("--set=") for part in workplace.pipeline("run") if part.startswith("--set=")]
    return dict(option.split("=", 1) for option in options)


def test_the_launchers_run_is_the_root_and_undeclared_parameters_are_overrides(copy_of_finished, small):
    place = copy_of_finished()
    settings = {**_settings(place, small), "train.epochs": 1}
    runs = _mlflow_run(place, settings, "--run-name", "from-the-launcher")
    (root,) = [run for run in runs if "mlflow.parentRunId" not in run.data.tags]
    assert root.info.run_name == "from-the-launcher"
    assert root.data.tags["mlflow.project.entryPoint"] == "main"
    assert root.data.params["train.epochs"] == "1"
    children = {run.info.run_name: run for run in runs if run.data.tags.get("mlflow.parentRunId") == root.info.run_id}
    assert children.keys() == {"confirm", "train", "deliver", "evaluate", "promote"}
    repeated = [run for run in runs if run.data.tags.get("escapement.stage") == "confirm_training"]
    assert {run.data.tags["mlflow.parentRunId"] for run in repeated} <= {children["confirm"].info.run_id}
    members = [run for run in runs if run.data.tags.get("escapement.stage") == "member"]
    assert {run.data.tags["mlflow.parentRunId"] for run in members} == {children["train"].info.run_id}
    assert len(runs) == 1 + len(children) + len(repeated) + len(members)
    assert children["train"].data.params["train.epochs"] == "1"
    assert {run.info.status for run in runs} == {"FINISHED"}
    assert root.data.tags["stage.train"] == children["train"].info.run_id
    earlier = place.client().get_run(root.data.tags["stage.search"])
    assert earlier.info.experiment_id != root.info.experiment_id  # reused, and left where it was made


def test_an_entry_point_stops_at_its_stage(workplace, small):
    runs = _mlflow_run(workplace, _settings(workplace, small), "-e", "prepare")
    (root,) = [run for run in runs if "mlflow.parentRunId" not in run.data.tags]
    assert root.data.tags["mlflow.project.entryPoint"] == "prepare"
    assert root.info.run_name.startswith("smoke prepare 20")  # in place of the name that MLflow made up
    assert root.data.tags["mlflow.note.content"].startswith("### smoke: complete up to prepare")
    assert len(root.inputs.dataset_inputs) == 1
    assert [run.info.run_name for run in runs if run is not root] == ["prepare"]
    assert {run.info.status for run in runs} == {"FINISHED"}
    assert {path.parent.parent.name for path in workplace.storage.glob("*/*/stage.json")} == {"prepare"}
    experiments = {experiment.name for experiment in workplace.client().search_experiments()}
    assert experiments == {"Default", "launched"}
