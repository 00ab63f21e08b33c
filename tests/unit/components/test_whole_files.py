"""A file is there whole or not at all, whoever else writes it."""

from pathlib import Path

import pytest

from components.whole_files import whole_file


def test_two_that_write_the_same_file_do_not_meet(tmp_path: Path) -> None:
    file = tmp_path / "index"
    with whole_file(file) as first, whole_file(file) as second:
        first.write_text("first")
        second.write_text("second")
        assert not file.exists()
    assert file.read_text() == "first"
    assert list(tmp_path.iterdir()) == [file]


def test_a_failure_leaves_the_earlier_file_and_no_draft(tmp_path: Path) -> None:
    file = tmp_path / "index"
    file.write_text("earlier")

    def write_half() -> None:
        with whole_file(file) as draft:
            draft.write_text("half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        write_half()
    assert file.read_text() == "earlier"
    assert list(tmp_path.iterdir()) == [file]
