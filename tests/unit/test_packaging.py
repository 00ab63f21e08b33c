"""The files at the top agree with each other: one list of packages, and entry points that are commands."""

import re
import shlex
import tomllib
from pathlib import Path

import pytest
import yaml
from typer.main import get_command

from pipeline.cli import app
from pipeline.loading import shipped_configs
from pipeline.stages import STAGE_NAMES

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
CONDA = yaml.safe_load((ROOT / "conda.yaml").read_text(encoding="utf-8"))
MLPROJECT = yaml.safe_load((ROOT / "MLproject").read_text(encoding="utf-8"))
ENTRY_POINTS = MLPROJECT["entry_points"]
COMMANDS = get_command(app).commands


def test_conda_and_pyproject_ask_for_the_same_packages() -> None:
    pip = next(entry["pip"] for entry in CONDA["dependencies"] if isinstance(entry, dict))
    assert sorted(pip) == sorted([*PROJECT["dependencies"], *PROJECT["optional-dependencies"]["demo"]])


def test_conda_asks_for_a_python_that_pyproject_allows() -> None:
    python = next(str(entry) for entry in CONDA["dependencies"] if str(entry).startswith("python="))
    lowest = re.fullmatch(r">=3\.(\d+)", PROJECT["requires-python"])
    assert lowest is not None
    assert int(python.rpartition(".")[2]) >= int(lowest[1])


def test_the_project_names_its_environment_file() -> None:
    assert (ROOT / MLPROJECT["conda_env"]).is_file()


def test_there_is_an_entry_point_for_the_whole_and_for_each_stage() -> None:
    assert set(ENTRY_POINTS) == {"main", *STAGE_NAMES}


@pytest.mark.parametrize("name", sorted(ENTRY_POINTS))
def test_an_entry_point_runs_a_command_that_there_is(name: str) -> None:
    entry = ENTRY_POINTS[name]
    interpreter, flag, module, command, *options = shlex.split(entry["command"])
    assert (interpreter, flag, module) == ("python", "-m", "pipeline")
    assert command == ("run" if name == "main" else name.replace("_", "-"))
    known = {option for parameter in COMMANDS[command].params for option in parameter.opts}
    assert {option for option in options if option.startswith("--")} <= known
    used = set(re.findall(r"{(\w+)}", entry["command"]))
    assert used == set(entry["parameters"])
    assert entry["parameters"]["config"]["default"] in shipped_configs()


def test_the_console_script_is_the_command_line() -> None:
    assert tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"] == {
        "escapement": "pipeline.cli:main"
    }
