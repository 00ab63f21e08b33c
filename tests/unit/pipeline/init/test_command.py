"""`escapement init` as it is called: what it writes, shows and refuses."""

import json
import os
from pathlib import Path

import pytest

from components.errors import InputError
from pipeline import cli
from pipeline.init import command
from pipeline.loading import load


@pytest.fixture
def init(monkeypatch, capsys, tmp_path):
    """Run it in this process, in the test's folder: exit code, and what it said."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(cli, "interrupt_once_per_request", lambda: None)

    def go(*arguments):
        monkeypatch.setattr("sys.argv", ["escapement", "init", *arguments])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        return int(ended.value.code or 0), capsys.readouterr()

    return go


def test_it_writes_a_file_named_after_the_folder_and_shows_what_it_found(castings, init):
    code, said = init("castings")
    assert code == 0
    assert load("castings.yaml").data.source == f"folder:{castings}"
    for text in ("a folder per class, 32 images", "good 20, scratch 12", "40 × 30 px", "wrote castings.yaml"):
        assert text in said.out
    assert "  escapement run --config castings.yaml --dry-run\n" in said.out
    assert said.err == ""


def test_the_folder_is_the_one_where_one_stands_unless_it_is_named(castings, init, monkeypatch):
    monkeypatch.chdir(castings)
    assert init()[0] == 0
    assert (castings / "castings.yaml").is_file()
    assert init("--output", "again.yaml")[0] == 0  # its own file beside the images is none of them
    assert load("again.yaml").data == load("castings.yaml").data


def test_json_is_one_object(castings, init):
    _, said = init("castings", "--output", "my.yaml", "--good", "scratch", "--json")
    answer = json.loads(said.out)
    assert answer["config"] == "my.yaml"
    assert answer["classes"] == {"good": 20, "scratch": 12}
    assert answer["good_labels"] == answer["settings"]["data.good_labels"] == ["scratch"]
    assert answer["next"][0] == "escapement run --config my.yaml --dry-run"


def test_a_file_that_is_there_is_never_overwritten(castings, init):
    Path("castings.yaml").write_text("mine", encoding="utf-8")
    code, said = init("castings")
    assert code == cli.EXIT_INPUT
    assert "error: output=castings.yaml: is there already and is not overwritten; give another name" in said.err
    assert Path("castings.yaml").read_text(encoding="utf-8") == "mine"


@pytest.mark.parametrize("output", ["none/x.yaml", "castings/good/000.png/x.yaml"])
def test_a_place_that_cannot_be_written_is_refused_before_anything_is_read(castings, init, monkeypatch, output):
    monkeypatch.setattr(command, "look_at", lambda *_, **__: pytest.fail("images were read"))
    code, said = init("castings", "--output", output)
    assert code == cli.EXIT_INPUT
    assert f"error: output={output}: cannot be written; give a file in a folder that exists" in said.err


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="needs a folder that cannot be written")
def test_a_folder_that_cannot_be_written_is_refused(castings, init):
    castings.chmod(0o500)
    try:
        assert "cannot be written" in init("castings", "--output", "castings/x.yaml")[1].err
    finally:
        castings.chmod(0o700)


def test_a_folder_without_images_leaves_no_file(tmp_path, init):
    (tmp_path / "empty").mkdir()
    code, said = init("empty", "--json")
    assert code == cli.EXIT_INPUT
    assert "holds no images" in json.loads(said.out)["error"]
    assert list(tmp_path.iterdir()) == [tmp_path / "empty"]


def test_a_file_that_cannot_be_finished_is_not_left(tmp_path, monkeypatch):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(InputError, match=r"cannot be written \(No space left on device\)"):
        command.write_new(tmp_path / "x.yaml", "text")
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_came_meanwhile_is_kept(tmp_path):
    (tmp_path / "x.yaml").write_text("theirs", encoding="utf-8")
    with pytest.raises(InputError, match="is there already"):
        command.write_new(tmp_path / "x.yaml", "mine")
    assert (tmp_path / "x.yaml").read_text(encoding="utf-8") == "theirs"
