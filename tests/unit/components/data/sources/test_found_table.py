"""A table beside the images is found by the names of its columns, and never guessed among several."""

import pandas as pd
import pytest

from components.data.files import Files
from components.data.sources.found_table import FoundTable, find_table
from components.data.sources.tree import read_tree
from components.errors import InputError


def found(folder):
    files = Files(str(folder))
    return find_table(files, read_tree(files), key="FOLDER")


def test_the_columns_are_known_by_their_usual_names(tmp_path):
    (tmp_path / "list.csv").write_text("# castings\nFilename;Class;comment;part_id;usage\n1.png;good;;7;train\n")
    columns = {"path_column": "Filename", "label_column": "Class", "group_column": "part_id", "split_column": "usage"}
    assert found(tmp_path) == FoundTable("csv", "list.csv", columns)


def test_a_parquet_table_is_found(tmp_path):
    pd.DataFrame({"image": ["1.png"], "label": ["good"], "mask": [None]}).to_parquet(tmp_path / "list.parquet")
    columns = {"path_column": "image", "label_column": "label", "mask_column": "mask"}
    assert found(tmp_path) == FoundTable("parquet", "list.parquet", columns)


def test_a_table_of_other_things_is_none(tmp_path):
    (tmp_path / "lots.csv").write_text("lot,label\n1,good\n")
    (tmp_path / "below").mkdir()
    (tmp_path / "below" / "list.csv").write_text("path,label\n")
    assert found(tmp_path) is None


def test_of_several_tables_none_is_taken(tmp_path):
    for name in ("a.csv", "b.csv"):
        (tmp_path / name).write_text("path,label\n1.png,good\n")
    with pytest.raises(InputError, match=r"several tables of images, a\.csv and b\.csv; keep one"):
        found(tmp_path)


def test_a_table_that_cannot_be_read_is_named(tmp_path):
    (tmp_path / "list.csv").write_bytes(b"path,label\n1.png,b\xf6se\n")
    with pytest.raises(InputError, match=r"list\.csv .* cannot be read as csv: line 2 is not UTF-8"):
        found(tmp_path)
    (tmp_path / "list.csv").rename(tmp_path / "list.parquet")
    with pytest.raises(InputError, match=r"list\.parquet .* cannot be read as parquet"):
        found(tmp_path)
