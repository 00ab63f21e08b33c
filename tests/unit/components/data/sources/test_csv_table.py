"""Tables of text as spreadsheets, databases and people write them, and what the eye sees in them."""

import gzip
import io
import warnings
import zipfile

import pytest

from components.data.sources.csv_table import read_csv
from components.errors import InputError

WANTED = [("data.path_column", "path"), ("data.label_column", "label")]
PLAIN = "path,label\na.png,good\nb.png,groß\n"
CELLS = {"path": ["a.png", "b.png"], "label": ["good", "groß"]}


def read(text, encoding="utf-8"):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return read_csv(text if isinstance(text, bytes) else text.encode(encoding), WANTED)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"])
@pytest.mark.parametrize("separator", [",", ";", "\t", "|", " , "])
def test_each_unicode_encoding_and_separator_is_recognised(encoding, separator):
    cells = read(PLAIN.replace(",", separator), encoding)
    assert {name: [cell.strip() for cell in column] for name, column in cells.columns.items()} == CELLS


@pytest.mark.parametrize(
    ("label", "encoding"), [("groß", "cp1252"), ("groß", "mac_roman"), ("不良", "gbk"), ("不良", "shift_jis")]
)
def test_an_encoding_that_cannot_be_known_is_refused_with_the_line_and_the_remedy(label, encoding):
    with pytest.raises(ValueError, match=r"line 3 is not UTF-8; save the table as 'CSV UTF-8'"):
        read(PLAIN.replace("groß", label), encoding)


@pytest.mark.parametrize("end", ["\r\n", "\r", "\r\r\n", "\n\n"])
def test_each_line_end_is_one(end):
    cells = read(PLAIN.replace("\n", end))
    assert (cells.columns, cells.notes) == (CELLS, ())


@pytest.mark.parametrize("first", ["sep=;", '"sep=;"', "SEP=;", "sep=;;;"])
def test_excels_line_that_names_the_separator_is_followed(first):
    cells = read(f"{first}\r\npath;label;a,b,c,d\r\na.png;good;1,5\r\nb.png;groß;\r\n", "utf-8-sig")
    assert (cells.columns, cells.rows, cells.notes) == (CELLS, [3, 4], ())


@pytest.mark.parametrize(
    "above", ["# exported, by line 3\n# 2024\n\n", "Report of line 3\n,\n\n", '"# exported, 2024"\n#\n\n']
)
def test_remarks_above_the_header_are_left_out_and_said(above):
    cells = read(above + PLAIN)
    assert (cells.columns, cells.rows) == (CELLS, [5, 6])
    assert cells.notes[0].startswith("The table's header is line 4; the remarks above it are left out: '")


def test_a_header_that_was_sorted_into_the_rows_is_not_taken_for_one():
    with pytest.raises(InputError, match=r"no such column; the table has: a\.png, good"):
        read("a.png,good\npath,label\nb.png,bad\n")


def test_rows_of_empty_cells_are_left_out_and_said_and_the_others_keep_their_lines():
    cells = read("path,label\n\na.png,good\n,\n ,  \nb.png,groß\n\n")
    assert (cells.columns, cells.rows) == (CELLS, [3, 6])
    assert cells.notes == ("Rows of the table that hold nothing but separators are left out: 2.",)


def test_the_header_of_each_part_of_a_table_put_together_is_left_out_and_said():
    cells = read("path,label\na.png,good\npath,label\n,\nb.png,groß\n")
    assert (cells.columns, cells.rows) == (CELLS, [2, 5])
    assert cells.notes == (
        "The table's header stands again in line 3, and is left out (1 of 4 rows).",
        "Rows of the table that hold nothing but separators are left out: 1.",
    )


@pytest.mark.parametrize(("header", "row"), [("", ","), ("", ",,,"), (",", ","), (",", ""), (",,", ",")])
def test_empty_cells_behind_all_rows_shift_nothing(header, row):
    lines = PLAIN.splitlines()
    assert read("\n".join([lines[0] + header, *(line + row for line in lines[1:])])).columns == CELLS


@pytest.mark.parametrize(
    ("row", "line"),
    [
        ("left, top.png,good,1", 2),  # a comma in a path that nobody quoted
        ("left, top.png,good,1,", 2),
        ("c.png,good", 2),
        ("# remark", 2),
        ("c.png,good,1,", 2),  # in this row alone, as if a comma in the path had shifted an empty last cell
    ],
)
@pytest.mark.parametrize("first", [True, False])
def test_a_row_with_more_or_fewer_cells_than_the_header_is_refused_with_its_line(row, line, first):
    rows = ["a.png,good,1", "b.png,bad,2"]
    rows.insert(0 if first else 2, row)
    with pytest.raises(
        ValueError, match=rf"the header has 3 cells, and rows that have not: 1 \(line {2 if first else 4} "
    ):
        read("\n".join(["path,label,lot", *rows]))


def test_a_column_without_a_name_at_the_front_does_not_become_an_index():
    with pytest.raises(ValueError, match=r"rows that have not: 2 \(line 2 has 3: '0 \| a\.png \| good'"):
        read("path,label\n0,a.png,good\n1,b.png,bad\n")
    assert read(",path,label\n0,a.png,good\n1,b.png,groß\n").columns == CELLS


@pytest.mark.parametrize(
    "text", ["001", "NA", "null", "nan", "None", "1e3", "=1+1", "0,5", "TRUE", "2024-01-31", '5" disk']
)
def test_a_cell_is_the_text_that_stands_there(text):
    assert read(f"path;label\na.png;{text}\nb.png;\n").columns["label"] == [text, None]


def test_quoted_cells_may_hold_the_separator_and_others_a_line_break():
    cells = read('path,remark,label\n"a, b.png","two\nlines",good\n"c.png","",bad\n')
    assert (cells.columns, cells.rows) == ({"path": ["a, b.png", "c.png"], "label": ["good", "bad"]}, [2, 4])


@pytest.mark.parametrize(
    ("rows", "fault"),
    [
        ('"a.png,good\nb.png,bad\n', "double quote in the row that begins in line 2"),
        ('a.png,good\n"b.png,bad\n"c.png",bad\n', "double quote in the row that begins in line 3"),
        ('"a.png,good\nb.png",bad\n', "begins in line 2 .*column 'path' runs over several lines"),
        ('a.png,"good\nor not"\n', "begins in line 2 .*column 'label' runs over several lines"),
    ],
)
def test_a_quote_that_swallows_rows_is_refused_with_the_line_where_it_begins(rows, fault):
    with pytest.raises(ValueError, match=fault):
        read("path,label\n" + rows)


@pytest.mark.parametrize("header", ["path label", "path:label", "path"])
def test_a_header_of_one_cell_is_refused_with_the_separators_there_are(header):
    with pytest.raises(ValueError, match=r"its header, line 1, is a single cell .*comma, a semicolon, a tab"):
        read(f"{header}\na.png good\n")


def archive():
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as file:
        file.writestr(zipfile.ZipInfo("xl/workbook.xml"), "")  # of a fixed date, as the tests are named by it
    return stream.getvalue()


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (archive(), "an Excel workbook .* save it as 'CSV UTF-8'"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1", "an Excel workbook"),
        (gzip.compress(PLAIN.encode(), mtime=0), "compressed with gzip; unpack it"),
        (b"\r\n<!DOCTYPE html><table>", "a web page"),
        (b'\xef\xbb\xbf[{"path": "a.png"}]', "JSON"),
        (b"PAR1\x15\x04PAR1", "a parquet table; write data.source: parquet"),
        (b"version https://git-lfs.github.com/spec/v1\n", "a Git LFS pointer"),
        (b"path,label\na.png,go\0od\n", "line 2 holds a zero byte"),
        (PLAIN.encode() + b"\0" * 64, "line 4 holds a zero byte"),
        (PLAIN.encode("utf-16")[:-1], "line 3 is not UTF-16"),
        (b"", "it is empty"),
        (b" \n#\n", "it is empty"),
        (b"x" * 300_000, "line 1"),
    ],
)  # fmt: skip
def test_what_is_no_table_of_text_is_named_with_the_remedy(data, kind):
    with pytest.raises(ValueError, match=kind):
        read(data)


def test_a_header_alone_is_a_table_without_rows():
    assert read("path,label\n").rows == []


@pytest.mark.parametrize("first", ["PARENT", "ORCID", "[id]", "{id}", "BZh"])
def test_a_column_may_be_called_as_the_mark_of_a_format_begins(first):
    assert read(f"{first},path,label\n1,a.png,good\n").columns == {"path": ["a.png"], "label": ["good"]}


def test_a_long_cell_of_a_column_that_nobody_asked_for_is_passed_over():
    assert read(f"path,label,picture\na.png,good,{'y' * 200_000}\n").columns["label"] == ["good"]
