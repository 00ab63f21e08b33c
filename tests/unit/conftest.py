"""One MLflow store for the whole session: making its tables takes seconds, an experiment takes milliseconds."""

import os
import uuid
from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def no_store_of_another_test(monkeypatch) -> None:
    """MLflow keeps the address of the last store in the environment of the process, for every test after it."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "")  # put back afterwards, whatever is set meanwhile
    monkeypatch.delenv("MLFLOW_TRACKING_URI")


@pytest.fixture(scope="session")
def store_uri(tmp_path_factory) -> str:
    """A SQLite store; its artifacts lie beside it, and never in the working directory of the tests."""
    from components.tracking import Tracker

    folder = tmp_path_factory.mktemp("store")
    uri, before = f"sqlite:///{folder / 'mlflow.db'}", Path.cwd()
    adopted = os.environ.pop("MLFLOW_RUN_ID", None)
    os.chdir(folder)  # where MLflow puts artifacts follows from the working directory of the first contact
    try:
        Tracker.connect(uri, experiment="first")
    finally:
        os.chdir(before)
        if adopted is not None:
            os.environ["MLFLOW_RUN_ID"] = adopted
    return uri


@pytest.fixture
def tracker(store_uri, monkeypatch, tmp_path):
    """A connection with an experiment of the test's own, which later tests do not see."""
    from components.tracking import Tracker

    monkeypatch.delenv("MLFLOW_RUN_ID", raising=False)
    monkeypatch.chdir(tmp_path)
    opened = Tracker.connect(store_uri, experiment=f"test-{uuid.uuid4().hex}")
    yield opened
    if opened.client.get_experiment(opened.experiment_id).lifecycle_stage == "active":
        opened.client.delete_experiment(opened.experiment_id)
