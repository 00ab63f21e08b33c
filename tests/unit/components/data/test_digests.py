"""Digests of files and tables."""

import hashlib

import numpy as np
import pandas as pd
import pytest

from components.data import digests
from components.data.digests import file_sha256, table_sha256


@pytest.mark.parametrize("size", [0, 1, (1 << 20) - 1, (1 << 20) + 1])
def test_a_file_has_the_digest_of_its_bytes(tmp_path, size):
    data = bytes(range(256)) * (size // 256 + 1)
    (tmp_path / "x").write_bytes(data[:size])
    assert file_sha256(tmp_path / "x") == hashlib.sha256(data[:size]).hexdigest()


def test_missing_values_of_every_kind_count_as_the_same():
    digests = {
        table_sha256(pd.DataFrame({"a": pd.Series(values, dtype=kind)}))
        for values in (["x", None], ["x", np.nan], ["x", pd.NA])
        for kind in (object, "str")
    }
    assert len(digests) == 1


def test_the_order_of_columns_does_not_matter_but_names_and_rows_do():
    table = pd.DataFrame({"a": [1, 2], "b": ["x", "y"]})
    digest = table_sha256(table)
    assert table_sha256(table[["b", "a"]]) == digest
    assert table_sha256(table.iloc[::-1]) != digest
    assert table_sha256(table.rename(columns={"a": "c"})) != digest
    assert table_sha256(table.astype({"a": "int32"})) == digest
    assert table_sha256(table.set_index(np.array([7, 7]))) == digest


def test_cells_do_not_run_into_one_another():
    tables = [{"a": ["x", "y"], "b": ["z", ""]}, {"a": ["x", ""], "b": ["y", "z"]}, {"a": ["x, y", "z"], "b": ["", ""]}]
    assert len({table_sha256(pd.DataFrame(table)) for table in tables}) == 3
    assert table_sha256(pd.DataFrame({"a": []})) != table_sha256(pd.DataFrame({"a": [None]}))


def test_text_numbers_and_truth_differ():
    values = ["1", 1, True, "null", None, "true", "nan"]
    assert len({table_sha256(pd.DataFrame({"a": pd.Series([value], dtype=object)})) for value in values}) == 7


def test_numpy_scalars_count_as_plain_ones_and_what_has_no_plain_form_is_an_error():
    mixed = pd.DataFrame({"a": pd.Series([np.int64(3), np.float32(0.5), np.bool_(True)], dtype=object)})
    assert table_sha256(mixed) == table_sha256(pd.DataFrame({"a": pd.Series([3, 0.5, True], dtype=object)}))
    with pytest.raises(AttributeError, match="set"):
        table_sha256(pd.DataFrame({"a": [{1}]}))


def test_the_digest_of_a_long_table_does_not_depend_on_how_it_is_worked_through(monkeypatch):
    table = pd.DataFrame({"a": range(100), "b": [None, "x"] * 50})
    digest = table_sha256(table)
    monkeypatch.setattr(digests, "_ROWS", 7)
    assert table_sha256(table) == digest
