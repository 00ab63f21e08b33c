"""A user without a home that can be written, and temporary files whose path is too long for sockets."""

import os
import stat
import tempfile
from pathlib import Path

import pytest

from components import home
from components.errors import InputError


@pytest.fixture(autouse=True)
def temporary_files(monkeypatch, tmp_path) -> Path:
    for name in ("HOME", "MPLCONFIGDIR"):
        monkeypatch.setenv(name, str(tmp_path))  # put back afterwards, whatever is set meanwhile
    monkeypatch.delenv("MPLCONFIGDIR")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    return tmp_path / "temporary"


def test_a_home_that_can_be_written_stays_as_it_is(tmp_path) -> None:
    assert home.settle_home() == ""
    assert os.environ["HOME"] == str(tmp_path)
    assert "MPLCONFIGDIR" not in os.environ


def test_a_home_that_is_not_there_is_replaced_by_a_folder_of_the_users_alone(monkeypatch, temporary_files) -> None:
    monkeypatch.setenv("HOME", "/nonexistent")
    folder = temporary_files / f"escapement-home-{os.getuid()}"
    assert home.settle_home() == f"HOME=/nonexistent cannot be written: libraries keep their files in {folder}"
    assert (os.environ["HOME"], os.environ["MPLCONFIGDIR"]) == (str(folder), str(folder / "matplotlib"))
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_of_a_home_that_can_only_be_read_what_it_holds_still_is(monkeypatch, tmp_path, temporary_files) -> None:
    monkeypatch.setattr(home.os, "access", lambda path, mode: False)
    assert home.settle_home().startswith(f"HOME={tmp_path} cannot be written")
    assert os.environ["HOME"] == str(tmp_path)
    assert os.environ["MPLCONFIGDIR"].startswith(str(temporary_files))


def test_a_user_without_a_name_and_a_home_gets_one(monkeypatch, temporary_files) -> None:
    def nobody() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(home.Path, "home", nobody)
    assert home.settle_home().startswith("HOME=(not set) cannot be written")
    assert os.environ["HOME"] == str(temporary_files / f"escapement-home-{os.getuid()}")


def test_neither_a_home_nor_temporary_files_is_refused_with_what_to_set(monkeypatch, tmp_path) -> None:
    monkeypatch.setenv("HOME", "/nonexistent")
    monkeypatch.setattr(tempfile, "tempdir", "/nonexistent")
    with pytest.raises(InputError, match=r"^HOME=/nonexistent: .*set HOME and TMPDIR to folders that you may write"):
        home.settle_home()


def test_a_folder_of_that_name_that_is_another_users_is_not_used(monkeypatch, temporary_files) -> None:
    (temporary_files / "ray-77").mkdir()
    monkeypatch.setattr(home.os, "getuid", lambda: 77)
    if Path(temporary_files).stat().st_uid != 77:
        with pytest.raises(PermissionError):
            home.own_folder("ray")


@pytest.mark.parametrize(("length", "fits"), [(75, True), (76, False)])
def test_temporary_files_have_to_leave_room_for_the_names_of_sockets(monkeypatch, length: int, fits: bool) -> None:
    folder = "/" + "x" * (length - 1)
    monkeypatch.setattr(tempfile, "tempdir", folder)  # 75 + 32 are the 107 bytes that a socket's path may have
    if fits:
        assert home.check_temporary_files() == folder
    else:
        with pytest.raises(InputError, match=r"^TMPDIR=/xx+: 1 characters too long for the sockets"):
            home.check_temporary_files()
