"""The command line: how overrides are read, and with which words and exit codes a command ends."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from filelock import FileLock

from components.errors import InputError
from pipeline import cli, commands
from pipeline.loading import load
from pipeline.stages import STAGE_NAMES

ROOT = Path(__file__).parents[3]


@pytest.fixture
def called(monkeypatch):
    """What `commands.run` is called with, in place of running it."""
    calls = []

    def run(config, overrides, *, until, force, as_json, starting):
        calls.append({"config": config, "overrides": overrides, "until": until, "force": force, "as_json": as_json})

    monkeypatch.setattr(commands, "run", run)
    return calls


def escapement(monkeypatch, *arguments: str) -> int:
    """Run the command line in this process; its exit code."""
    monkeypatch.setattr(sys, "argv", ["escapement", *arguments])
    monkeypatch.setattr(cli, "interrupt_once_per_request", lambda: None)
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
        (["a=1", "b=", "a=1"], {"a": "1", "b": ""}),
        ([" a =1"], {"a": "1"}),
    ],
)
def test_an_override_is_split_at_its_first_equals_sign(entries: list[str], expected: dict) -> None:
    assert cli.parse_overrides(entries) == expected


def test_a_key_that_is_given_two_values_is_refused() -> None:
    with pytest.raises(InputError, match=r"train\.epochs: given as 3 and as 5; give it once"):
        cli.parse_overrides(["train.epochs=3", "train.epochs=5"])


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


@pytest.mark.parametrize(
    ("command", "option", "key"),
    [
        ("lr-range-test", "--optimizers", "lr_range_test.optimizers"),
        ("compare-lr", "--entries", "compare_lr.entries"),
    ],
)
def test_a_list_of_names_is_an_override(monkeypatch, called, command, option, key) -> None:
    escapement(monkeypatch, command, option, "sgd, adamw,", "--set", "seed=3")
    escapement(monkeypatch, command)
    assert called[0]["overrides"] == {"seed": "3", key: "[sgd,adamw]"}
    assert called[1]["overrides"] == {}


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
    assert "error: interrupted; the same command resumes the run" in capsys.readouterr().err


def test_a_fault_of_ours_keeps_its_traceback(monkeypatch) -> None:
    def broken(*args, **kwargs):
        raise RuntimeError("a bug")

    monkeypatch.setattr(commands, "run", broken)
    monkeypatch.setattr(sys, "argv", ["escapement", "run"])
    monkeypatch.setattr(cli, "interrupt_once_per_request", lambda: None)
    with pytest.raises(RuntimeError, match="a bug"):
        cli.main()


def test_a_failure_before_the_run_is_json_where_json_is_asked_for(monkeypatch, capsys) -> None:
    assert escapement(monkeypatch, "run", "--config", "smoke", "--train.epochs", "0", "--json") == 2
    answer = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert answer["status"] == "failed"
    assert answer["error"].startswith("train.epochs=0: ")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["run", "--set", "train.epochs"], "must be key=value"),
        (["train", "--dry-run", "--train.epochs", "0"], "train.epochs=0: "),
        (["status", "stray"], "stray: unexpected argument"),
        (["predict", "nowhere.png", "--model", "m"], "images=nowhere.png: no such file"),
        (["clean", "--config", "smoke", "--train.epochs", "0"], "train.epochs=0: "),
        (["clean", "--yes"], "clean: --config is missing; give the configuration whose results are to stay"),
    ],
)
def test_every_failure_is_json_where_json_is_asked_for(monkeypatch, capsys, arguments, said) -> None:
    assert escapement(monkeypatch, *arguments, "--json") == 2
    answer = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert answer["status"] == "failed"
    assert said in answer["error"]


def test_doctors_answer_is_its_own_also_where_a_check_fails(monkeypatch, capsys) -> None:
    def doctor(*args, **kwargs):
        print("{}")
        sys.exit(1)

    monkeypatch.setattr(commands, "doctor", doctor)
    assert escapement(monkeypatch, "doctor", "--json") == 1
    assert capsys.readouterr().out == "{}\n"


@pytest.mark.parametrize("output", ["missing/a.csv", "."])
def test_an_output_that_cannot_be_written_is_refused_before_inspecting(monkeypatch, capsys, tmp_path, output) -> None:
    (tmp_path / "a.png").write_bytes(b"")
    target = tmp_path / output
    arguments = ["predict", str(tmp_path / "a.png"), "--model", "models:/nope@x", "--output", str(target)]
    assert escapement(monkeypatch, *arguments) == 2
    assert capsys.readouterr().err.startswith(f"error: output={target}: cannot be written")


@pytest.mark.parametrize("as_json", [["--json"], []])
def test_a_dry_run_shows_no_password(monkeypatch, capsys, tmp_path, as_json) -> None:
    monkeypatch.setattr(commands, "checked_plan", lambda *args, **kwargs: [])
    escapement(
        monkeypatch, "run", "--config", "smoke", "--tracking.uri", "http://me:secret@host", "--dry-run", *as_json
    )
    shown = capsys.readouterr().out
    assert "secret" not in shown
    assert "@host" in shown


def test_a_dry_run_that_cannot_draw_its_images_says_where(monkeypatch, capsys) -> None:
    assert escapement(monkeypatch, "run", "--config", "smoke", "--storage.root", "/proc/x", "--dry-run") == 2
    assert "storage.root=/proc/x: " in capsys.readouterr().err


@pytest.mark.parametrize(
    ("shown", "expected"),
    [
        ("http://…@host:5000", "http://host:5000"),
        ("https://host", "https://host"),
        ("sqlite:////a b/mlflow.db", "mlflow ui --backend-store-uri 'sqlite:////a b/mlflow.db'"),
        ("postgresql://…@host/db", "postgresql://…@host/db"),
    ],
)
def test_where_to_look_depends_on_the_store(shown: str, expected: str) -> None:
    assert commands.where_to_look(shown) == expected


@pytest.fixture
def unused(monkeypatch, tmp_path, store_uri, tracker):
    """Unfinished work that no configuration uses, and the command that removes it."""
    folder = tmp_path / "storage" / "train" / "0123456789abcdef"
    for work in (folder / "unfinished", folder.with_name("fedcba9876543210") / "unfinished"):
        work.mkdir(parents=True)
        begun = {"project": load("smoke").project.name, "inputs": {}}
        (work / "inputs.json").write_text(json.dumps(begun), encoding="utf-8")
    monkeypatch.setattr(commands, "make_plan", lambda *args, **kwargs: [])
    experiment = tracker.client.get_experiment(tracker.experiment_id).name
    arguments = ["clean", "--config", "smoke", "--storage.root", str(tmp_path / "storage"), "--yes", "--json"]
    return folder, [*arguments, "--tracking.uri", store_uri, "--tracking.experiment", experiment]


def test_cleaning_removes_the_unused_and_keeps_what_is_locked(monkeypatch, capsys, unused) -> None:
    folder, command = unused
    other = folder.with_name("fedcba9876543210")
    with FileLock(f"{folder}.lock"):
        assert escapement(monkeypatch, *command) == 0
    answer = json.loads(capsys.readouterr().out)
    assert (list(answer["folders"]), answer["kept"]) == ([str(other)], {str(folder): "in use by another process"})
    assert (folder.exists(), other.exists()) == (True, False)
    assert escapement(monkeypatch, *command) == 0
    assert not folder.exists()
    assert Path(f"{folder}.lock").exists()


def test_a_storage_that_a_run_uses_is_not_cleaned(monkeypatch, capsys, unused, tracker, tmp_path) -> None:
    folder, command = unused
    root = tracker.start_root("r", {"escapement.storage": str((tmp_path / "storage").resolve())})
    assert escapement(monkeypatch, *command) == 2
    assert f"in use by the run {root.id}" in capsys.readouterr().err
    assert folder.exists()


def test_a_dry_run_prints_the_configuration_and_the_plan_and_keeps_digests_alone(monkeypatch, capsys, tmp_path) -> None:
    monkeypatch.chdir(tmp_path)
    from PIL import Image

    for label in ("good", "scratch"):
        (tmp_path / "images" / label).mkdir(parents=True)
        for number in range(12):
            Image.new("RGB", (8, 8), (number, 0, 0)).save(tmp_path / "images" / label / f"{number}.png")
    before = sorted(tmp_path.rglob("*"))
    arguments = ["train", "--config", "smoke", "--data.source", f"folder:{tmp_path / 'images'}", "--dry-run", "--json"]
    escapement(monkeypatch, *arguments)
    answer = json.loads(capsys.readouterr().out)
    assert answer["config"]["data"]["source"].startswith("folder:")
    assert [stage["name"] for stage in answer["stages"]] == [
        "prepare",
        "embed",
        "lr_range_test",
        "search",
        "confirm",
        "train",
    ]
    assert {stage["action"] for stage in answer["stages"]} == {"run"}
    written = set(tmp_path.rglob("*")) - set(before)
    assert {path.relative_to(tmp_path).parts[:2] for path in written} == {
        ("storage",),
        ("storage", "files"),
        ("storage", "ESCAPEMENT.TAG"),
    }


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


def test_a_store_that_stands_needs_no_relocation(monkeypatch, capsys, store_uri) -> None:
    assert escapement(monkeypatch, "relocate", "--tracking-uri", store_uri) == 0
    assert "nothing to do" in capsys.readouterr().out


@pytest.mark.parametrize("uri", ["http://127.0.0.1:9", "sqlite:////nowhere/mlflow.db"])
def test_what_is_no_sqlite_file_cannot_be_relocated(monkeypatch, capsys, uri: str) -> None:
    assert escapement(monkeypatch, "relocate", "--tracking-uri", uri) == 2
    assert capsys.readouterr().err.startswith(f"error: tracking.uri={uri}: ")
