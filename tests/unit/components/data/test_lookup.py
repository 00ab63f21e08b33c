"""Files that lie there under another form of the name that is asked for."""

import unicodedata
import zipfile

import pytest

from components.data.files import open_files
from components.data.lookup import DiskNames, local_place, windows_hint
from components.errors import InputError

NAME = "Gehäuse"
OTHER = unicodedata.normalize("NFD", NAME)


@pytest.mark.parametrize(("asked", "there"), [(NAME, OTHER), (OTHER, NAME), (f"{NAME}/{OTHER}", f"{OTHER}/{NAME}")])
def test_a_file_is_found_under_either_form_of_each_part_of_its_path(tmp_path, asked: str, there: str) -> None:
    (tmp_path / there).mkdir(parents=True)
    assert DiskNames().find(f"{tmp_path}/{asked}") == f"{tmp_path}/{there}"
    assert local_place(f"{tmp_path}/{asked}") == f"{tmp_path}/{there}"
    assert open_files(f"{tmp_path}/{asked}", key="data.source").uri == str((tmp_path / there).resolve())


def test_the_exact_name_goes_before_another_form_of_it(tmp_path) -> None:
    for name in (NAME, OTHER):
        (tmp_path / name).mkdir()
        assert DiskNames().find(f"{tmp_path}/{name}") == f"{tmp_path}/{name}"


def test_two_files_that_may_be_meant_are_both_named(tmp_path) -> None:
    for name in (f"{NAME}ö", f"{OTHER}o\u0308"):
        (tmp_path / name).touch()
    with pytest.raises(InputError, match=r"may be either of .*; rename one"):
        DiskNames().find(f"{tmp_path}/{NAME}o\u0308")


def test_what_is_nowhere_stays_as_it_was_written(tmp_path) -> None:
    assert DiskNames().find(f"{tmp_path}/none/x.png") == f"{tmp_path}/none/x.png"
    assert local_place("nowhere/at\\all") == "nowhere/at\\all"


def test_a_folder_is_listed_once_for_all_its_files(tmp_path, monkeypatch) -> None:
    listed = []
    (tmp_path / OTHER).touch()
    monkeypatch.setattr("components.data.lookup._names_in", lambda folder: listed.append(folder) or [OTHER])
    names = DiskNames()
    found = [names.find(f"{tmp_path}/{name}") for name in (NAME, "a", "b")]
    assert found == [f"{tmp_path}/{name}" for name in (OTHER, "a", "b")]
    assert listed == [str(tmp_path)]


def test_the_backslashes_of_windows_are_understood_where_only_that_is_there(tmp_path, monkeypatch) -> None:
    (tmp_path / "lots/one").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    assert local_place("lots\\one") == str(tmp_path / "lots/one")


@pytest.mark.parametrize("path", ["C:\\data\\img", "d:/img", "\\\\server\\share"])
def test_a_path_of_windows_is_called_one_elsewhere(path: str) -> None:
    assert "path of Windows" in windows_hint(path)
    with pytest.raises(InputError, match="path of Windows"):
        open_files(path, key="data.source", kind="folder:")


@pytest.mark.parametrize("path", ["/data/img", "img", "c:img"])
def test_other_paths_are_not(path: str) -> None:
    assert windows_hint(path) == ""


def test_a_folder_in_an_archive_is_found_under_either_form(tmp_path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr(f"{OTHER}/x.png", b"x")
    assert open_files(f"zip://{NAME}::{tmp_path}/a.zip", key="data.source").read("x.png") == b"x"
