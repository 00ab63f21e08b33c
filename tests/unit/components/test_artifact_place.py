"""A store that was moved or copied with its artifacts: noticed, never written to the old place, mended."""

import contextlib
import shutil
import sqlite3
from pathlib import Path

import pytest

from components.artifact_place import local_folder, misplaced, relocate
from components.errors import InputError
from components.tracking_store import resolve_uri, sqlite_file

RUN, MODEL = "a" * 32, "m-" + "b" * 32


@pytest.fixture
def plant(tmp_path: Path) -> Path:
    """A folder with a store of one experiment, one run and one registered model, and their artifacts."""
    folder = tmp_path / "plant"
    home = folder / "mlruns" / "1"
    for place in (home / RUN / "artifacts", home / "models" / MODEL / "artifacts"):
        place.mkdir(parents=True)
    with contextlib.closing(sqlite3.connect(folder / "mlflow.db")) as store, store:
        store.execute("CREATE TABLE experiments (experiment_id INTEGER PRIMARY KEY, artifact_location TEXT)")
        store.execute("CREATE TABLE runs (run_uuid TEXT, artifact_uri TEXT)")
        store.execute("CREATE TABLE logged_models (model_id TEXT, artifact_location TEXT)")
        store.execute("CREATE TABLE model_versions (name TEXT, source TEXT, storage_location TEXT)")
        store.execute("INSERT INTO experiments VALUES (1, ?), (2, 's3://bucket/2')", [str(home)])
        store.execute("INSERT INTO runs VALUES (?, ?)", [RUN, str(home / RUN / "artifacts")])
        store.execute("INSERT INTO logged_models VALUES (?, ?)", [MODEL, str(home / "models" / MODEL / "artifacts")])
        model = [f"models:/{MODEL}", str(home / "models" / MODEL / "artifacts")]
        store.execute("INSERT INTO model_versions VALUES ('castings', ?, ?)", model)
    return folder


def uri(folder: Path) -> str:
    return f"sqlite:///{folder / 'mlflow.db'}"


def column(folder: Path, table: str, name: str) -> list[str]:
    with contextlib.closing(sqlite3.connect(folder / "mlflow.db")) as store:
        return [value for (value,) in store.execute(f"SELECT {name} FROM {table}")]


def fault(folder: Path) -> str | None:
    location = column(folder, "experiments", "artifact_location")[0]
    return misplaced(uri(folder), location, lambda: column(folder, "runs", "artifact_uri"), writes=True)


@pytest.mark.parametrize("carry", [shutil.move, shutil.copytree])
@pytest.mark.parametrize("where", ["elsewhere", "plant/below", "a b/c", "."])
def test_a_folder_that_was_moved_or_copied_is_noticed_and_mended(plant: Path, carry, where: str) -> None:
    if where == ".":  # one level up
        new = plant.parent
        for name in ("mlruns", "mlflow.db"):
            (shutil.move if carry is shutil.move or name == "mlflow.db" else shutil.copytree)(plant / name, new / name)
    else:
        aside = plant.with_name("aside")
        carry(plant, aside)
        new = plant.parent / where
        new.parent.mkdir(parents=True, exist_ok=True)
        aside.rename(new)
    said = fault(new)
    assert said is not None
    assert "moved or copied" in said
    assert f"escapement relocate --tracking-uri {uri(new)}" in said.replace("'", "")
    assert relocate(uri(new)) == [(plant, new)]
    assert fault(new) is None
    home = new / "mlruns" / "1"
    assert column(new, "experiments", "artifact_location") == [str(home), "s3://bucket/2"]
    assert column(new, "runs", "artifact_uri") == [str(home / RUN / "artifacts")]
    model = str(home / "models" / MODEL / "artifacts")
    assert column(new, "logged_models", "artifact_location") == [model]
    assert column(new, "model_versions", "storage_location") == [model]
    assert column(new, "model_versions", "source") == [f"models:/{MODEL}"]
    assert relocate(uri(new)) == []


def test_a_folder_that_stands_is_right_also_before_its_first_artifact(plant: Path) -> None:
    assert fault(plant) is None
    shutil.rmtree(plant / "mlruns")
    assert fault(plant) is None
    assert relocate(uri(plant)) == []


def test_a_folder_that_is_reached_by_a_link_was_not_moved(plant: Path) -> None:
    link = plant.with_name("link")
    link.symlink_to(plant)
    assert fault(link) is None


def test_a_store_that_was_moved_alone_keeps_its_artifacts_where_they_are(plant: Path, tmp_path: Path) -> None:
    (tmp_path / "stores").mkdir()
    shutil.move(plant / "mlflow.db", tmp_path / "stores" / "mlflow.db")
    assert fault(tmp_path / "stores") is None
    assert relocate(uri(tmp_path / "stores")) == []


def test_a_copy_of_the_store_alone_does_not_write_beside_the_original(plant: Path) -> None:
    new = plant.with_name("copy")
    new.mkdir()
    shutil.copy(plant / "mlflow.db", new / "mlflow.db")
    said = fault(new)
    assert said is not None
    assert f"a copy of {plant}/mlflow.db" in said
    assert relocate(uri(new)) == [(plant, new)]
    assert fault(new) is None
    # What was made before is read where it is.
    assert column(new, "runs", "artifact_uri") == [str(plant / "mlruns" / "1" / RUN / "artifacts")]
    assert column(new, "experiments", "artifact_location")[0] == str(new / "mlruns" / "1")


def test_a_store_of_the_same_name_where_the_artifacts_are_is_not_always_the_original(plant: Path) -> None:
    new = plant.with_name("stores")
    new.mkdir()
    shutil.move(plant / "mlflow.db", new / "mlflow.db")
    (plant / "mlflow.db").write_text("something else")
    assert fault(new) is None
    (plant / "mlflow.db").unlink()
    with contextlib.closing(sqlite3.connect(plant / "mlflow.db")) as store, store:
        store.execute("CREATE TABLE runs (run_uuid TEXT, artifact_uri TEXT)")
        store.execute("INSERT INTO runs VALUES ('d', '/d')")
    assert fault(new) is None


def test_artifacts_that_are_gone_are_said_and_given_up_by_the_same_command(plant: Path) -> None:
    new = plant.with_name("elsewhere")
    plant.rename(new)
    shutil.rmtree(new / "mlruns")
    said = fault(new)
    assert said is not None
    assert f"{plant}/mlruns, which is gone; put them into {new}/mlruns" in said
    relocate(uri(new))
    assert fault(new) is None
    assert not plant.exists()


def test_a_run_whose_artifacts_are_only_in_the_old_place_goes_on_to_name_it(plant: Path) -> None:
    new = plant.with_name("copy")
    shutil.copytree(plant, new)
    late = plant / "mlruns" / "1" / ("c" * 32) / "artifacts"
    late.mkdir(parents=True)
    with contextlib.closing(sqlite3.connect(new / "mlflow.db")) as store, store:
        store.execute("INSERT INTO runs VALUES (?, ?)", ["c" * 32, str(late)])
    relocate(uri(new))
    assert column(new, "runs", "artifact_uri")[1] == str(late)


def test_a_place_that_takes_nothing_is_said(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("")
    said = misplaced("http://server", str(tmp_path / "taken" / "1"), list, writes=True)
    assert misplaced("http://server", str(tmp_path / "taken" / "1"), list, writes=False) is None
    assert said is not None
    assert "where you may not write" in said


@pytest.mark.parametrize(
    ("place", "expected"),
    [
        ("/a b/c", Path("/a b/c")),
        ("file:///a%20b/c", Path("/a b/c")),
        ("s3://bucket/a", None),
        ("mlflow-artifacts:/1", None),
        ("", None),
    ],
)
def test_a_place_on_this_machine_is_told_from_another(place: str, expected: Path | None) -> None:
    assert local_folder(place) == expected


def test_an_experiment_that_lies_where_it_should_stays_there(plant: Path, tmp_path: Path) -> None:
    """Beside one that was carried along with the store from a folder above both."""
    own = tmp_path / "own" / "mlruns" / "9"
    own.mkdir(parents=True)
    with contextlib.closing(sqlite3.connect(plant / "mlflow.db")) as store, store:
        store.execute("INSERT INTO experiments VALUES (9, ?)", [str(own)])
    new = plant.rename(plant.with_name("elsewhere"))
    relocate(uri(new))
    assert str(own) in column(new, "experiments", "artifact_location")


def test_a_store_in_a_folder_whose_name_reads_as_an_address_is_found(tmp_path: Path, monkeypatch) -> None:
    for name in ("line#3", "what?", "a%41b"):
        folder = tmp_path / name
        folder.mkdir()
        monkeypatch.chdir(folder)
        monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
        assert sqlite_file(resolve_uri(None)) == folder / "mlflow.db"
        assert local_folder(str(folder)) == folder


def test_a_database_of_something_else_is_not_relocated(tmp_path: Path) -> None:
    with contextlib.closing(sqlite3.connect(tmp_path / "mlflow.db")) as store, store:
        store.execute("CREATE TABLE runs (run_uuid TEXT)")
    with pytest.raises(InputError, match="no store of this release of MLflow"):
        relocate(uri(tmp_path))
