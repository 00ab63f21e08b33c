"""What `clean` removes of a folder of results, and what it leaves."""

import json
from pathlib import Path

import pytest
from filelock import FileLock

from pipeline.cleaning import clean_storage
from pipeline.stage import StageRecord, list_artifacts, read_record

KEY = "0123456789abcdef"
OTHER = "fedcba9876543210"


@pytest.fixture
def result(tmp_path):
    """A finished result with one file; its folder."""

    def make(name=f"train/{KEY}", projects=("a",), inputs=None):
        directory = tmp_path / name
        directory.mkdir(parents=True)
        (directory / "model.bin").write_bytes(b"12345")
        stage, key = name.split("/")
        StageRecord(
            stage=stage, fingerprint=key * 4, version=1, result_id=f"id of {name}", inputs=inputs or {}, sections={},
            headline={}, artifacts=list_artifacts(directory), seconds=1.0, run_id="r", commit="c", versions={},
            projects=list(projects), directory=directory,
        ).write()  # fmt: skip
        return directory

    return make


@pytest.fixture
def begun(tmp_path):
    """Unfinished work; its folder."""

    def make(name=f"train/{KEY}", project="a", inputs=None):
        work = tmp_path / name / "unfinished"
        work.mkdir(parents=True)
        (work / "inputs.json").write_text(json.dumps({"project": project, "inputs": inputs or {}}), encoding="utf-8")
        return work.parent

    return make


@pytest.fixture
def clean(tmp_path):
    """`clean(project)`: names of the folders that went, having been announced; `.kept`: reasons by folder."""

    def go(project="a", used=()):
        listed = clean_storage(tmp_path, project=project, used=set(used), remove=False)
        done = clean_storage(tmp_path, project=project, used=set(used), remove=True)
        assert done.to_dict()["folders"].keys() == listed.to_dict()["folders"].keys()
        assert done.to_dict()["kept"] == listed.to_dict()["kept"]
        return {result.name for result, _ in done.gone}, {result.name: result.kept for result in done.kept}

    return go


def test_a_result_of_the_project_goes_with_its_project_age_and_size_said(result, tmp_path) -> None:
    folder = result()
    listed = clean_storage(tmp_path, project="a", used=(), remove=False)
    size = 5 + (folder / "stage.json").stat().st_size
    assert listed.to_dict()["folders"] == {str(folder): size}
    assert next(listed.lines("would remove")) == f"would remove {folder} (a, 0.0 days old, 0.0 MB)"
    assert folder.exists()
    clean_storage(tmp_path, project="a", used=(), remove=True)
    assert list((tmp_path / "train").iterdir()) == [Path(f"{folder}.lock")]


def test_what_the_configuration_uses_stays(result, clean) -> None:
    folder = result()
    assert clean(used=[folder]) == (set(), {f"train/{KEY}": "used by this configuration"})


def test_results_of_other_projects_and_of_none_stay(result, clean) -> None:
    result(f"train/{KEY}", ["b"])
    result(f"train/{OTHER}", [])
    gone, kept = clean()
    assert gone == set()
    assert kept[f"train/{KEY}"] == "used by b"
    assert kept[f"train/{OTHER}"] == "made by an earlier version, which named no project"


def test_a_shared_result_goes_with_the_last_project_that_cleans(result, clean) -> None:
    folder = result(projects=["a", "b"])
    assert clean("a")[1] == {f"train/{KEY}": "used by b"}
    assert read_record(folder).projects == ["b"]
    assert clean("b")[0] == {f"train/{KEY}"}


def test_what_a_result_that_stays_was_made_from_stays(result, clean) -> None:
    result(f"prepare/{KEY}")
    result(f"prepare/{OTHER}")
    result(f"search/{KEY}", inputs={"prepare": f"id of prepare/{KEY}"})
    result(f"train/{KEY}", ["b"], inputs={"search": f"id of search/{KEY}"})
    gone, kept = clean()
    assert gone == {f"prepare/{OTHER}"}
    assert kept[f"prepare/{KEY}"] == kept[f"search/{KEY}"] == "what a result that stays was made from"


def test_unfinished_work_of_the_project_goes_and_anothers_stays(begun, clean, tmp_path) -> None:
    begun(f"train/{KEY}", "a")
    begun(f"train/{OTHER}", "b")
    assert clean() == ({f"train/{KEY}"}, {f"train/{OTHER}": "used by b"})
    assert (tmp_path / "train" / OTHER / "unfinished/inputs.json").exists()


def test_work_under_way_stays_and_so_does_what_it_is_made_from(result, begun, clean) -> None:
    result(f"prepare/{KEY}")
    begun(f"train/{KEY}", inputs={"prepare": f"id of prepare/{KEY}"})
    with FileLock(f"{begun(f'search/{KEY}')}.lock"):
        pass  # a lock file that nobody holds
    with FileLock(f"{begun(f'confirm/{KEY}', inputs={'prepare': f'id of prepare/{KEY}'})}.lock"):
        gone, kept = clean()
    assert gone == {f"train/{KEY}", f"search/{KEY}"}
    assert kept[f"confirm/{KEY}"] == "in use by another process"
    assert f"prepare/{KEY}" in kept


@pytest.mark.parametrize("name", ["train/good", f"train/{KEY}", f"images/{KEY}", "good"])
def test_folders_that_no_run_has_made_stay_with_all_that_is_in_them(clean, tmp_path, name) -> None:
    for file in ("0.png", "unfinished/a.png", "deep/1.png"):
        (tmp_path / name / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name / file).write_bytes(b"x")
    before = sorted(tmp_path.rglob("*"))
    clean()
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("text", ["{", "{}", "[]", "null", json.dumps({"project": "a"})])
def test_a_folder_with_a_persons_own_json_stays(clean, tmp_path, text) -> None:
    work = tmp_path / "train" / KEY / "unfinished"
    work.mkdir(parents=True)
    for file in (work.parent / "stage.json", work / "inputs.json"):
        file.write_text(text, encoding="utf-8")
    assert clean() == (set(), {f"train/{KEY}": "no record of a run"})


def test_a_record_that_was_copied_to_another_folder_makes_it_no_result(result, clean, tmp_path) -> None:
    made = result()
    copied = tmp_path / "train" / OTHER
    made.rename(copied)
    assert clean() == (set(), {f"train/{OTHER}": "no record of a run"})


def test_files_that_a_person_has_put_into_a_result_stay(result, clean, tmp_path) -> None:
    folder = result()
    (folder / "mine").mkdir()
    (folder / "mine/0.png").write_bytes(b"x")
    assert clean()[0] == {f"train/{KEY}"}
    assert [path for path in folder.rglob("*") if path.is_file()] == [folder / "mine/0.png"]


def test_links_are_never_followed(result, clean, tmp_path) -> None:
    target = result(f"search/{KEY}")
    (target / "model.bin").rename(tmp_path / "model.bin")
    (target / "model.bin").symlink_to(tmp_path / "model.bin")
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures/model.bin").write_bytes(b"x")
    (target / "linked").symlink_to(tmp_path / "pictures")
    (tmp_path / "train").mkdir()
    (tmp_path / "train" / KEY).symlink_to(target)
    (tmp_path / "confirm").symlink_to(tmp_path / "search")
    gone, kept = clean()
    assert gone == {f"search/{KEY}"}
    assert kept == {f"train/{KEY}": "no record of a run"}
    assert (tmp_path / "model.bin").read_bytes() == b"12345"
    assert (tmp_path / "pictures/model.bin").exists()


def test_shards_stay_while_something_is_being_packed(tmp_path) -> None:
    shard = tmp_path / "images" / KEY / "shard.parquet"
    shard.parent.mkdir(parents=True)
    shard.write_bytes(b"x")
    (shard.parent / ".lock").touch()
    (tmp_path / "prepare").mkdir()
    with FileLock(tmp_path / "prepare" / f"{OTHER}.lock"):
        assert clean_storage(tmp_path, project="a", used=(), remove=True).shards == (0, 0)
    assert clean_storage(tmp_path, project="a", used=(), remove=True).shards == (1, 1)
    assert not shard.exists()


def test_what_is_kept_for_later_runs_is_said(tmp_path) -> None:
    (tmp_path / "generated").mkdir()
    (tmp_path / "generated/a.png").write_bytes(b"x" * 2_000_000)
    cleaned = clean_storage(tmp_path, project="a", used=(), remove=True)
    assert list(cleaned.lines("removed")) == ["kept for later runs: generated 2.0 MB"]
