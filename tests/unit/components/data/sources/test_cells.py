"""Columns found by the names that people mean, and none where two could be meant."""

import pytest

from components.data.sources.cells import find_columns
from components.errors import InputError

WANTED = [("data.path_column", "path"), ("data.label_column", "label")]


@pytest.mark.parametrize(
    "present",
    [["label", "path"], ["x", "path", "label"], ["path", "label", "LABEL"], ["path", "label", "x", "x", ""]],
)
def test_names_as_they_are_written_are_found_without_a_note(present):
    places, notes = find_columns(present, WANTED)
    assert [present[place] for place in places.values()] == ["path", "label"]
    assert notes == []


@pytest.mark.parametrize(
    "name", ["Path", " path", "PATH ", "pa\u200bth", "\ufeffpath", "path\u00a0", "#path", "# Path"]
)
def test_blanks_capitals_and_what_no_eye_sees_make_no_other_name(name):
    places, notes = find_columns(["label", name], WANTED)
    assert places == {"path": 1, "label": 0}
    assert notes == [f"data.path_column='path': the table's column {name!r} is taken."]


@pytest.mark.parametrize(
    "present", [["label", "label"], ["label", "label "], ["Label", "LABEL"], ["lab\u200bel", "label"]]
)
def test_a_name_that_stands_there_twice_is_refused(present):
    with pytest.raises(InputError, match=r"data\.label_column='label': .* and .*: several columns"):
        find_columns(["path", *present], WANTED)


def test_missing_and_repeated_names_are_reported_together():
    with pytest.raises(InputError) as caught:
        find_columns(["x", "x", ""], [("data.path_column", "path"), ("data.group_column", "x")])
    assert "data.path_column='path': no such column; the table has: x, x, (no name)" in str(caught.value)
    assert "data.group_column='x': 'x' and 'x': several columns" in str(caught.value)
