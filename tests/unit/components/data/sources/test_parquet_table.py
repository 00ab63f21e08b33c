"""The column types that pandas, Spark and data engineers leave behind, and the one text of each."""

import datetime
import decimal
import io
import uuid
import warnings

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from components.data.files import Files
from components.data.sources.parquet_table import read_parquet_file, read_parquet_folder
from components.errors import InputError

WANTED = [("data.path_column", "path"), ("data.label_column", "label")]
PATHS = ["a.png", "b.png"]


def encoded(table):
    stream = io.BytesIO()
    pq.write_table(table, stream)
    return stream.getvalue()


def read(data, wanted=WANTED):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return read_parquet_file(data if isinstance(data, bytes) else encoded(data), wanted)


def labels(column):
    return read(pa.table({"path": PATHS, "label": column})).columns["label"]


DAY, MOMENT = datetime.datetime(2024, 1, 31), datetime.datetime(2024, 1, 31, 8, 30, 5, 120_000)


@pytest.mark.parametrize(
    ("column", "texts"),
    [
        (pa.array([True, False]), ["true", "false"]),
        (pa.array([True, None]), ["true", None]),
        (pa.array([0, None]), ["0", None]),
        (pa.array([0, 200], pa.uint8()), ["0", "200"]),
        (pa.array([1.0, None]), ["1", None]),
        (pa.array([-0.0, float("nan")]), ["0", None]),
        (pa.array([24011500123.0, 0.1]), ["24011500123", "0.1"]),
        (pa.array([0.1, 3.0], pa.float32()), ["0.1", "3"]),
        (pa.array(np.array([1.5, 2], np.float16)), ["1.5", "2"]),
        (pa.array([decimal.Decimal("0.00"), decimal.Decimal("1.50")]), ["0", "1.5"]),
        (pa.array([decimal.Decimal(100), decimal.Decimal(-20)]), ["100", "-20"]),
        (pa.array([b"good", "groß".encode()]), ["good", "groß"]),
        (pa.array([b"ok\0\0", b"good"], pa.binary(4)), ["ok", "good"]),
        (pa.array(["a", "b"], pa.large_string()), ["a", "b"]),
        (pa.array(["a", None], pa.string_view()), ["a", None]),
        (pa.array(["ng", "good"]).dictionary_encode(), ["ng", "good"]),
        (pa.array([1, 0]).dictionary_encode(), ["1", "0"]),
        (pa.array([DAY.date(), None]), ["2024-01-31", None]),
        (pa.array([DAY, MOMENT], pa.timestamp("s")), ["2024-01-31 00:00:00", "2024-01-31 08:30:05"]),
        (pa.array([DAY, MOMENT], pa.timestamp("ns")), ["2024-01-31 00:00:00", "2024-01-31 08:30:05.12"]),
        (pa.array([DAY, MOMENT], pa.timestamp("us", "UTC")), ["2024-01-31 00:00:00Z", "2024-01-31 08:30:05.12Z"]),
        (pa.array([MOMENT.time(), None]), ["08:30:05.12", None]),
        (pa.array([uuid.UUID(int=1).bytes, None], pa.uuid()), ["00000000-0000-0000-0000-000000000001", None]),
        (pa.nulls(2), [None, None]),
        (pa.array(["nan", ""]), ["nan", ""]),
    ],
)  # fmt: skip
def test_each_type_has_the_text_that_the_eye_sees(column, texts):
    assert labels(column) == texts


def test_paths_of_bytes_are_text():
    assert read(pa.table({"path": [b"\xc3\xbc.png"], "label": ["good"]})).columns["path"] == ["ü.png"]


@pytest.mark.parametrize(
    ("column", "fault"),
    [
        (pa.array([{"bytes": b"x", "path": "a.png"}] * 2), "holds the pictures themselves .*write each to a file"),
        (pa.array([{"x": 1}] * 2), r"of type struct<x: int64>, which has no text"),
        (pa.array([["good"], ["bad"]]), "of type list.*write one text"),
        (pa.array([datetime.timedelta(1)] * 2), "of type duration"),
        (pa.array([b"good", "groß".encode("latin-1")]), r"'label', of type binary, cannot be taken as text"),
        (pa.array([10**17, 0], pa.timestamp("ms")), "holds a time that is none"),
        (pa.array([0, 0], pa.timestamp("ms", "Mars/North")), "cannot be taken as text .*Mars/North"),
    ],
)  # fmt: skip
def test_cells_without_a_text_of_their_own_are_refused(column, fault):
    with pytest.raises(InputError, match=fault):
        labels(column)


@pytest.mark.parametrize("index", [["path"], ["path", "label"]])
def test_a_named_index_of_pandas_is_a_column(index):
    frame = pd.DataFrame({"path": PATHS, "label": ["good", "bad"]}).set_index(index)
    assert read(frame.to_parquet()).columns == {"path": PATHS, "label": ["good", "bad"]}


def test_only_the_columns_that_are_named_are_looked_at():
    table = pa.table({"path": PATHS, "image": [{"bytes": b"x"}] * 2, "label": [0, 1], "z": [b"\xff"] * 2})
    assert read(table).columns["label"] == ["0", "1"]


@pytest.mark.parametrize(
    ("data", "fault"),
    [
        (encoded(pa.table({"path": PATHS, "label": PATHS}))[:-9], "its end is missing; copy it anew"),
        (b"PAR1 and no more PAR1", "copy it anew"),
        (b"path,label\na.png,good\n", "it is text; write data.source: csv"),
        (b"PK\x03\x04", "an Excel workbook"),
        (b"ARROW1\0\0", "an Arrow .* file; save it as parquet"),
        (b"", "it is empty"),
    ],
)
def test_what_is_no_parquet_is_named_with_the_remedy(data, fault):
    with pytest.raises(ValueError, match=fault) as caught:
        read(data)
    assert "\n" not in str(caught.value)


def parts(folder, **tables):
    for name, table in tables.items():
        pq.write_table(table, folder / f"{name}.parquet")
    return Files(str(folder)), [f"{name}.parquet" for name in reversed(tables)]


def test_parts_follow_each_other_by_name_whatever_their_types(tmp_path):
    one, two = pa.table({"path": PATHS[:1], "label": [0]}), pa.table({"label": ["1"], "path": PATHS[1:]})
    folder, names = parts(tmp_path, a=one, b=two, c=one[:0])
    cells = read_parquet_folder(folder, names, WANTED)
    assert (cells.columns, list(cells.rows)) == ({"path": PATHS, "label": ["0", "1"]}, [1, 2])


def test_a_part_that_cannot_be_read_is_named(tmp_path):
    folder, names = parts(tmp_path, a=pa.table({"path": PATHS, "label": PATHS}), b=pa.table({"path": PATHS}))
    with pytest.raises(InputError, match=r"b\.parquet: data\.label_column='label': no such column"):
        read_parquet_folder(folder, names, WANTED)
    (tmp_path / "b.parquet").write_bytes(b"")
    with pytest.raises(ValueError, match=r"b\.parquet: it is empty"):
        read_parquet_folder(folder, names, WANTED)


@pytest.mark.parametrize(
    ("names", "fault"),
    [
        (["_delta_log/0.json", "a.parquet"], "a table of Delta, whose files hold deleted rows"),
        (["metadata/v1.metadata.json", "data/a.parquet"], "a table of Iceberg"),
        (["a.csv", "_a.parquet"], r"no file with one of the endings \.parquet"),
    ],
)
def test_folders_that_are_no_parts_of_one_table_are_refused(tmp_path, names, fault):
    with pytest.raises(ValueError, match=fault):
        read_parquet_folder(Files(str(tmp_path)), names, WANTED)
