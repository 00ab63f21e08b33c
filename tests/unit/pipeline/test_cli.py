"""The command line: how overrides are read, and with which words and exit codes a command ends."""

import subprocess
import sys
from pathlib import Path

import pytest

from components.errors import InputError
from pipeline import cli, commands
from pipeline.stages import STAGE_NAMES

ROOT = Path(__file__).parents[3]


@pytest.fixture
def called(monkeypatch):
    """What `commands.run` is called with, in place of running it."""
    calls = []

    def run(config, overrides, *, until, force, as_json):
        calls.append({"config": config, "overrides": overrides, "until": until, "force": force, "as_json": as_json})

    monkeypatch.setattr(commands, "run", run)
    return calls


def escapement(monkeypatch, *arguments: str) -> int:
    """Run the command line in this process; its exit code."""
    monkeypatch.setattr(sys, "argv", ["escapement", *arguments])
    monkeypatch.setattr(cli.signal, "signal", lambda number, handler: None)
    with pytest.raises(SystemExit) as ended:
        cli.main()
    return int(ended.value.code or 0)


# --- overrides


@pytest.mark.parametrize(
    ("entries", "expected"),
    [
        ([], {}),
        (["train.epochs=3"], {"train.epochs": "3"}),
        (["data.source=generated:count=3,size=8"], {"data.source": "generated:count=3,size=8"}),
        (["a=1", "b=", "a=2"], {"a": "2", "b": ""}),
    ],
)
def test_an_override_is_split_at_its_first_equals_sign(entries: list[str], expected: dict) -> None:
    assert cli.parse_overrides(entries) == expected


@pytest.mark.parametrize("entry", ["train.epochs", "=3", ""])
def test_an_override_without_key_or_value_is_refused(entry: str) -> None:
    with pytest.raises(InputError, match="must be key=value"):
        cli.parse_overrides([entry])


def test_dotted_options_and_set_are_the_same(monkeypatch, called) -> None:
    code = escapement(
        monkeypatch, "run", "--train.epochs", "3", "--config", "smoke", "--recipe.lr=1e-3", "--set", "seed=2",
        "--data.source", "folder:/with space", "--tracking.uri", "-1",
    )  # fmt: skip
    assert code == 0
    assert called == [
        {
            "config": "smoke",
            "overrides": {
                "seed": "2",
                "train.epochs": "3",
                "recipe.lr": "1e-3",
                "data.source": "folder:/with space",
                "tracking.uri": "-1",
            },
            "until": "promote",
            "force": [],
            "as_json": False,
        }
    ]


@pytest.mark.parametrize(
    ("arguments", "named"), [(["stray"], "stray"), (["--train.epochs"], "--train.epochs"), (["-x"], "-x")]
)
def test_what_is_no_override_is_refused_by_name(monkeypatch, called, capsys, arguments, named) -> None:
    assert escapement(monkeypatch, "run", *arguments) == cli.EXIT_INPUT
    assert capsys.readouterr().err.startswith(f"error: {named}: ")
    assert called == []


@pytest.mark.parametrize("stage", STAGE_NAMES)
def test_every_stage_has_a_command_that_runs_up_to_it(monkeypatch, called, stage: str) -> None:
    assert escapement(monkeypatch, stage.replace("_", "-"), "--force", "prepare", "--force", "search", "--json") == 0
    assert (called[0]["until"], called[0]["force"], called[0]["as_json"]) == (stage, ["prepare", "search"], True)


# --- how a command ends


def test_a_fault_of_the_user_is_a_message_and_exit_code_2(monkeypatch, capsys) -> None:
    code = escapement(monkeypatch, "run", "--config", "smoke", "--train.epochs", "0", "--train.epoch", "1")
    captured = capsys.readouterr()
    assert code == 2
    assert captured.out == ""
    lines = captured.err.splitlines()
    assert len(lines) == 2
    assert all(line.startswith("error: train.") for line in lines)


def test_an_interruption_says_how_to_go_on_and_exits_with_130(monkeypatch, capsys) -> None:
    def interrupted(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(commands, "run", interrupted)
    assert escapement(monkeypatch, "run") == 130
    assert "error: interrupted; the same command goes on from here" in capsys.readouterr().err


def test_a_fault_of_ours_keeps_its_traceback(monkeypatch) -> None:
    def broken(*args, **kwargs):
        raise RuntimeError("a bug")

    monkeypatch.setattr(commands, "run", broken)
    monkeypatch.setattr(sys, "argv", ["escapement", "run"])
    monkeypatch.setattr(cli.signal, "signal", lambda number, handler: None)
    with pytest.raises(RuntimeError, match="a bug"):
        cli.main()


def test_a_failure_before_the_run_is_json_where_json_is_asked_for(monkeypatch, capsys) -> None:
    import json

    assert escapement(monkeypatch, "run", "--config", "smoke", "--train.epochs", "0", "--json") == 2
    answer = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert answer["status"] == "failed"
    assert answer["error"].startswith("train.epochs=0: ")


def test_a_dry_run_prints_the_configuration_and_the_plan_and_writes_nothing(monkeypatch, capsys, tmp_path) -> None:
    import json

    monkeypatch.chdir(tmp_path)
    (tmp_path / "images" / "good").mkdir(parents=True)
    from PIL import Image

    Image.new("RGB", (8, 8)).save(tmp_path / "images" / "good" / "a.png")
    before = sorted(tmp_path.rglob("*"))
    arguments = ["train", "--config", "smoke", "--data.source", f"folder:{tmp_path / 'images'}", "--dry-run", "--json"]
    escapement(monkeypatch, *arguments)
    answer = json.loads(capsys.readouterr().out)
    assert answer["config"]["data"]["source"].startswith("folder:")
    assert [stage["name"] for stage in answer["stages"]] == ["prepare", "lr_range_test", "search", "train"]
    assert {stage["action"] for stage in answer["stages"]} == {"run"}
    assert sorted(tmp_path.rglob("*")) == before


def test_help_works_as_a_module_from_any_directory(tmp_path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pipeline", "--help"],
        cwd=tmp_path,
        env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin", "TERM": "dumb"},
        capture_output=True,
        text=True,
        check=True,
    )
    for command in ("run", "lr-range-test", "predict", "status", "clean", "doctor"):
        assert command in done.stdout
