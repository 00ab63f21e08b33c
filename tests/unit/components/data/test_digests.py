"""Digests of files and tables."""

import hashlib

import numpy as np
import pandas as pd
import pytest

from components.data.digests import file_sha256, table_sha256


@pytest.mark.parametrize("size", [0, 1, (1 << 20) - 1, (1 << 20) + 1])
def test_a_file_has_the_digest_of_its_bytes(tmp_path, size):
    data = bytes(range(256)) * (size // 256 + 1)
    (tmp_path / "x").write_bytes(data[:size])
    assert file_sha256(tmp_path / "x") == hashlib.sha256(data[:size]).hexdigest()


def test_missing_values_of_every_kind_count_as_the_same():
    digests = {
        table_sha256(pd.DataFrame({"a": pd.Series(values, dtype=kind)}))
        for values, kind in ((["x", None], object), (["x", np.nan], object), (["x", None], "str"))
    }
    assert len(digests) == 1


def test_the_order_of_columns_does_not_matter_but_names_and_rows_do():
    table = pd.DataFrame({"a": [1, 2], "b": ["x", "y"]})
    digest = table_sha256(table)
    assert table_sha256(table[["b", "a"]]) == digest
    assert table_sha256(table.iloc[::-1]) != digest
    assert table_sha256(table.rename(columns={"a": "c"})) != digest
    assert table_sha256(table.astype({"a": "int32"})) == digest


def test_text_and_numbers_differ():
    assert table_sha256(pd.DataFrame({"a": ["1"]})) != table_sha256(pd.DataFrame({"a": [1]}))
    assert table_sha256(pd.DataFrame({"a": ["null"]})) != table_sha256(pd.DataFrame({"a": [None]}))
