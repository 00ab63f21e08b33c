"""What prepare says of a source before any image is decoded."""

import re

import numpy as np
import pytest
from PIL import Image

from components.errors import InputError
from pipeline.console import Console
from pipeline.data.sources import list_images, source_digest
from pipeline.overriding import validate
from pipeline.sections.data import DataConfig


@pytest.fixture
def table(tmp_path):
    """Ten images labelled good, ten Good, ten scratch."""
    rows = ["path,label"]
    for number in range(30):
        Image.fromarray(np.full((4, 4), number, np.uint8)).save(tmp_path / f"{number}.png")
        rows.append(f"{number}.png,{('good', 'Good', 'scratch')[number % 3]}")
    (tmp_path / "list.csv").write_text("\n".join(rows), encoding="utf-8")
    return f"csv:{tmp_path}/list.csv"


def test_labels_that_look_alike_are_refused_before_a_file_is_read(table, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("pipeline.data.sources.hash_files", lambda *_: pytest.fail("a file was read"))
    with pytest.raises(InputError, match=r"'good' 10, 'Good' 10.*data\.label_spelling"):
        source_digest(tmp_path / "storage", Console(), seed=0, data=DataConfig(source=table))


def test_what_was_done_to_the_labels_is_told_on_the_terminal(table, tmp_path, capsys) -> None:
    data = DataConfig(source=table, label_spelling="merge")
    assert source_digest(tmp_path / "storage", Console(), seed=0, data=data)
    assert "warning: Labels that look alike count as one: 'Good' as 'good' (10)." in capsys.readouterr().err


def test_what_was_taken_otherwise_than_it_stands_is_said_on_the_terminal(tmp_path, capsys):
    rows = []
    for number in range(24):
        Image.fromarray(np.full((8, 8), number, np.uint8)).save(tmp_path / f"{number}.png")
        rows.append(f"{number}.png,{'good' if number % 2 else 'crack'}")
    (tmp_path / "list.csv").write_text("\n".join(["Path,label", *rows, ","]))
    data = DataConfig(source=f"csv:{tmp_path / 'list.csv'}")
    source_digest(tmp_path / "storage", Console(), seed=0, data=data)
    said = capsys.readouterr().err
    assert "warning: data.path_column='path': the table's column 'Path' is taken.\n" in said
    assert "warning: Rows of the table that hold nothing but separators are left out: 1.\n" in said


def test_files_that_are_not_there_are_refused_before_any_is_decoded(table, tmp_path) -> None:
    (tmp_path / "3.png").unlink()
    data = DataConfig(source=table, label_spelling="merge")
    with pytest.raises(
        InputError, match=r"1 of 30 files \(3\.3%\) are not there or cannot be read, .* 3\.png; correct"
    ):
        source_digest(tmp_path / "storage", Console(), seed=0, data=data)


def test_groups_in_the_names_of_files_are_read_and_make_another_result(tmp_path) -> None:
    for number in range(24):
        folder = tmp_path / "images" / ("good" if number % 2 else "crack")
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((8, 8), number, np.uint8)).save(folder / f"part{number // 3}_{number}.png")
    plain = DataConfig(source=f"folder:{tmp_path}/images")
    grouped = DataConfig(source=plain.source, group_pattern="(part[0-9])_")
    assert list_images(grouped, tmp_path).table["group"].value_counts().tolist() == [3] * 8
    storage = tmp_path / "storage"
    assert source_digest(storage, Console(), seed=0, data=plain) != source_digest(
        storage, Console(), seed=0, data=grouped
    )


@pytest.mark.parametrize(
    ("pattern", "said"), [("part", "into ( )"), ("(a)(b)", "into ( )"), ("(a", "no regular expression")]
)
def test_a_pattern_of_groups_has_one_group(pattern, said) -> None:
    with pytest.raises(InputError, match=rf"group_pattern={re.escape(pattern)}: .*{re.escape(said)}"):
        validate(DataConfig, {"group_pattern": pattern})
