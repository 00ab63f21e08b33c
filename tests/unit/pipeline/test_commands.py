"""What `predict` shows of the images that it is given, with a model that rejects every one it can read."""

import csv
import json

import pandas as pd
import pytest

from components import tracking
from pipeline import commands

NAMES = ["[red] NG [x].png", "[/bold].png", 'naïve, "q"; ü.png', "=1+1.png", "two\nlines.png", "\x1b[2J.png", "bad.png"]


class Inspector:
    def predict(self, table: pd.DataFrame) -> pd.DataFrame:
        bad = table["image"].str.endswith("bad.png")
        return pd.DataFrame(
            {
                "label": ["scratch [x]" if not b else None for b in bad],
                "defect_score": [None if b else 0.5 for b in bad],
                "decision": ["review" if b else "reject" for b in bad],
                "error": ["[damaged]" if b else None for b in bad],
            },
            dtype=object,
        )


@pytest.fixture
def predict(tmp_path, monkeypatch, capsys):
    """`predict(**options)` of the images in the working folder: standard output and standard error."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setattr(tracking, "use_store", lambda uri: None)
    monkeypatch.setattr(tracking, "load_pyfunc", lambda uri, model_config: Inspector())
    for name in (*NAMES, "notes.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x")

    def go(*, output=None, as_json=False):
        commands.predict([tmp_path.relative_to(tmp_path)], "m", output=output, tracking_uri=None, as_json=as_json)
        return capsys.readouterr()

    return go


def test_names_with_brackets_are_shown_as_they_are_and_control_characters_as_escapes(predict) -> None:
    shown = predict().out
    for name in ("[red] NG [x].png", "[/bold].png", "scratch [x]", "[damaged]", r"two\nlines.png", r"\x1b[2J.png"):
        assert name in shown
    assert "\x1b" not in shown


def test_json_is_all_of_standard_output_and_the_rest_is_said_beside(predict) -> None:
    said = predict(as_json=True)
    answer = json.loads(said.out)["predictions"]
    assert {row["image"] for row in answer} == set(NAMES)
    assert [row["error"] for row in answer if row["error"]] == ["[damaged]"]
    assert "left out of .: 1 file without an image extension (.txt 1)" in said.err
    assert "warning: 1 of 7 images cannot be judged; the column error says why" in said.err


def test_a_link_that_leads_nowhere_is_told_as_such(predict, tmp_path) -> None:
    (tmp_path / "link.png").symlink_to(tmp_path / "nowhere.png")
    errors = {row["image"]: row["error"] for row in json.loads(predict(as_json=True).out)["predictions"]}
    assert errors["link.png"] == "no file that can be read: a broken link, a pipe, or gone"
    assert errors["bad.png"] == "[damaged]"


def test_a_csv_file_holds_each_name_and_no_formula(predict, tmp_path) -> None:
    predict(output=tmp_path / "out.csv")
    with (tmp_path / "out.csv").open(encoding="utf-8", newline="") as stream:
        names = [row["image"] for row in csv.DictReader(stream)]
    assert set(names) == {*NAMES, "./=1+1.png"} - {"=1+1.png"}
