"""The record of a stage: what its fingerprint depends on, and when its result stands."""

import dataclasses
import json
import string
from types import SimpleNamespace

import pytest

from components.report import letters, style
from pipeline.console import Console
from pipeline.loading import load
from pipeline.stage import (
    Stage,
    StageContext,
    StageRecord,
    fingerprint,
    list_artifacts,
    missing_artifact,
    read_record,
    section_values,
)

STAGE = Stage(name="train", inputs=("prepare",), sections=("seed",), version=1, run=lambda context: {})
SECTIONS = {"seed": 0, "train": {"epochs": 3}}
UPSTREAM = {"prepare": "ab", "search": "cd"}


@pytest.fixture
def record(tmp_path) -> StageRecord:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "weights").write_bytes(b"12345")
    (tmp_path / "table.csv").write_text("a,b")
    return StageRecord(
        stage="train",
        fingerprint="ff",
        version=1,
        result_id="r1",
        inputs={"prepare": "r0"},
        sections=SECTIONS,
        headline={"score": 0.5},
        artifacts=list_artifacts(tmp_path),
        seconds=1.0,
        run_id="run",
        commit="abc",
        versions={"torch": "2"},
        directory=tmp_path,
    )


def test_the_fingerprint_is_a_sha256_in_hex() -> None:
    digest = fingerprint(STAGE, SECTIONS, UPSTREAM)
    assert len(digest) == 64
    assert set(digest) <= set(string.hexdigits.lower())


@pytest.mark.parametrize(
    ("stage", "sections", "upstream", "external"),
    [
        (dataclasses.replace(STAGE, name="other"), SECTIONS, UPSTREAM, ""),
        (dataclasses.replace(STAGE, version=2), SECTIONS, UPSTREAM, ""),
        (STAGE, {"seed": 1, "train": {"epochs": 3}}, UPSTREAM, ""),
        (STAGE, {"seed": 0, "train": {"epochs": 4}}, UPSTREAM, ""),
        (STAGE, {"seed": 0}, UPSTREAM, ""),
        (STAGE, SECTIONS, {"prepare": "ab", "search": "ce"}, ""),
        (STAGE, SECTIONS, {"prepare": "cd", "search": "ab"}, ""),
        (STAGE, SECTIONS, {"prepare": "ab"}, ""),
        (STAGE, SECTIONS, UPSTREAM, "bytes"),
    ],
)
def test_each_ingredient_changes_the_fingerprint(stage, sections, upstream, external) -> None:
    assert fingerprint(stage, sections, upstream, external) != fingerprint(STAGE, SECTIONS, UPSTREAM)


def test_a_key_that_is_left_out_does_not_change_the_fingerprint() -> None:
    stage = dataclasses.replace(STAGE, unhashed=("train.epochs",))
    longer = {"seed": 0, "train": {"epochs": 99}}
    assert fingerprint(stage, SECTIONS, UPSTREAM) == fingerprint(stage, longer, UPSTREAM)
    assert fingerprint(STAGE, SECTIONS, UPSTREAM) != fingerprint(STAGE, longer, UPSTREAM)


def test_nothing_else_changes_the_fingerprint() -> None:
    other = dataclasses.replace(STAGE, run=lambda context: {"x": 1}, resumes=True, cached=False)
    turned = dict(reversed(list(SECTIONS.items())))
    assert fingerprint(other, turned, dict(reversed(list(UPSTREAM.items())))) == fingerprint(STAGE, SECTIONS, UPSTREAM)


def test_the_fingerprint_is_the_same_in_every_process_and_version() -> None:
    # printf '{"external":"","name":"train","sections":{"seed":0},"upstream":{},"version":1}' | sha256sum
    expected = "f2447b3a8089b317c177a2ecaf29698acf04f162fe937c50bd1dd4b55ab9fba3"
    assert fingerprint(STAGE, {"seed": 0}, {}) == expected


def test_a_number_that_is_not_finite_has_no_fingerprint() -> None:
    with pytest.raises(ValueError, match="JSON"):
        fingerprint(STAGE, {"seed": float("nan")}, {})


def test_section_values_are_plain_json() -> None:
    values = section_values(load("smoke"), ("seed", "search", "data"))
    assert list(values) == ["seed", "search", "data"]
    assert json.loads(json.dumps(values)) == values


def test_a_record_reads_back_as_it_was_written(record) -> None:
    record.write()
    assert read_record(record.directory) == record
    assert read_record(record.directory).directory == record.directory
    assert not list(record.directory.glob("*.tmp"))


def test_a_directory_without_a_commit_has_no_record(tmp_path) -> None:
    assert read_record(tmp_path) is None
    assert read_record(tmp_path / "missing") is None


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"stage": "train"}', '{"more": 1}'])
def test_a_commit_that_cannot_be_read_is_none(tmp_path, text: str) -> None:
    (tmp_path / "stage.json").write_text(text)
    assert read_record(tmp_path) is None


def test_artifacts_are_all_files_but_the_commit_and_the_scratch(record) -> None:
    (record.directory / "unfinished").mkdir()
    (record.directory / "unfinished" / "last.pt").write_text("x")
    (record.directory / "workshop.txt").write_text("xy")
    record.write()
    assert list_artifacts(record.directory) == {"model/weights": 5, "table.csv": 3, "workshop.txt": 2}


def test_a_result_whose_files_are_there_misses_none(record) -> None:
    assert missing_artifact(record) is None


def test_a_file_that_is_gone_or_cut_short_is_named(record) -> None:
    (record.directory / "model" / "weights").write_bytes(b"1234")
    assert missing_artifact(record) == "model/weights"
    (record.directory / "model" / "weights").unlink()
    assert missing_artifact(record) == "model/weights"


def test_a_context_finds_upstream_files_and_makes_its_scratch(record, tmp_path) -> None:
    directory = tmp_path / "storage" / "evaluate" / "0123"
    directory.mkdir(parents=True)
    context = StageContext(
        directory=directory,
        inputs={"train": record},
        run=None,
        tracker=None,
        compute=None,
        console=None,
        commit="abc",
    )
    assert context.input("train", "table.csv") == record.directory / "table.csv"
    assert context.storage == tmp_path / "storage"
    assert context.work.is_dir()
    assert context.work == directory / "unfinished"


def test_letters_that_no_font_has_are_said_once_however_many_figures_lack_them(tmp_path, monkeypatch, capsys) -> None:
    logged: dict[str, bytes] = {}
    run = SimpleNamespace(log_image=lambda data, name: logged.update({name: data}))
    context = StageContext(
        directory=tmp_path, inputs={}, run=run, tracker=None, compute=None, console=Console(), commit=""
    )  # type: ignore[arg-type]
    monkeypatch.setattr(letters, "_missing", {"良"})
    for name in ("figures/a.png", "figures/b.png"):
        context.log_figure(style.empty_figure("Samples", "none"), name)
    assert list(logged) == ["figures/a.png", "figures/b.png"]
    assert logged["figures/a.png"].startswith(b"\x89PNG")
    assert capsys.readouterr().err.count("no installed font shows 良") == 1
