"""The command line: init, run, each stage, predict, status, clean, doctor.

Nothing heavy is imported before a command needs it, so that `--help` answers at once. Results go to standard output,
everything for human eyes to standard error.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from components.display import visible
from components.errors import InputError
from components.home import settle_home
from components.interrupts import interrupt_once_per_request
from pipeline.stages import STAGES

if TYPE_CHECKING:
    from pipeline.runner import PipelineRun

app = typer.Typer(
    name="escapement",
    help="Learning-rate-first AutoML for visual quality inspection.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

EXIT_INPUT, EXIT_INTERRUPTED = 2, 130

# `mlflow run -P train.epochs=3` appends `--train.epochs 3`, so dotted options are overrides like `--set`.
DOTTED_OPTIONS = {"allow_extra_args": True, "ignore_unknown_options": True}

# `--optimizers sgd,adamw` of a stage's command sets lr_range_test.optimizers; the help of the stage names the option.
SHORT_OPTIONS = {"lr_range_test": "optimizers", "compare_lr": "entries"}

ConfigOption = Annotated[str, typer.Option("--config", help="A YAML file, or: default, demo, smoke, cluster.")]
SetOption = Annotated[list[str] | None, typer.Option("--set", help="Override, as key=value; repeatable.")]
ForceOption = Annotated[list[str] | None, typer.Option("--force", help="Run this stage anew; repeatable.")]
BudgetOption = Annotated[str | None, typer.Option("--budget", help="Time for the whole run: 90s, 10min, 2h.")]
DryRunOption = Annotated[bool, typer.Option("--dry-run", help="Show the configuration and the plan; run no stage.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object as the last line of standard output.")]


def main() -> None:
    """Entry point of the console script: faults of the user's end as one message and exit code 2."""
    interrupt_once_per_request()
    try:
        homeless = settle_home()
        if homeless:
            typer.secho(f"warning: {homeless}", fg="yellow", err=True)
        app()
    except InputError as error:
        _complain(str(error))
        sys.exit(EXIT_INPUT)


def _complain(message: str) -> None:
    for line in visible(message).splitlines():
        typer.secho(f"error: {line}", fg="red", err=True)


def _stage_command(name: str, until: str, help_text: str) -> None:
    """Add the command that runs the pipeline up to one stage."""

    @app.command(name, help=help_text, context_settings=DOTTED_OPTIONS)
    def command(
        context: typer.Context,
        config: ConfigOption = "default",
        set_: SetOption = None,
        force: ForceOption = None,
        budget: BudgetOption = None,
        dry_run: DryRunOption = False,
        json_: JsonOption = False,
    ) -> None:
        with _ready(as_json=json_) as attempt:
            from pipeline import commands

            overrides = _overrides(context, [*(set_ or []), *([f"budget={budget}"] if budget is not None else [])])
            if (names := overrides.pop(SHORT_OPTIONS.get(until, ""), None)) is not None:
                chosen = ",".join(name.strip() for name in names.split(",") if name.strip())
                overrides[f"{until}.{SHORT_OPTIONS[until]}"] = f"[{chosen}]"
            if dry_run:
                commands.show_plan(config, overrides, until=until, force=force or [], as_json=json_)
            else:
                starting = attempt.starting
                commands.run(config, overrides, until=until, force=force or [], as_json=json_, starting=starting)


_stage_command("run", "promote", "Run the whole pipeline; what is unchanged is reused.")


for _stage in STAGES:
    _stage_command(_stage.name.replace("_", "-"), _stage.name, _stage.help)


@app.command()
def init(
    folder: Annotated[str, typer.Argument(help="The folder of the images, or an address of one.")] = ".",
    output: Annotated[Path | None, typer.Option("--output", help="The file to write; else FOLDER.yaml here.")] = None,
    good: Annotated[list[str] | None, typer.Option("--good", help="A class of good parts; repeatable.")] = None,
    json_: JsonOption = False,
) -> None:
    """Look at a folder of images, and write a first configuration for it."""
    with _ready(as_json=json_):
        from pipeline.init import command

        command.init(folder, output=output, good=good or [], as_json=json_)


@app.command()
def predict(
    images: Annotated[list[Path], typer.Argument(help="Image files, or folders of them.")],
    model: Annotated[str, typer.Option("--model", help="models:/name@champion, or a model folder.")],
    output: Annotated[Path | None, typer.Option("--output", help="Write a CSV file as well.")] = None,
    tracking_uri: Annotated[str | None, typer.Option("--tracking-uri", help="Where the registry is.")] = None,
    json_: JsonOption = False,
) -> None:
    """Inspect images with a registered model: label, defect score, accept or reject."""
    with _ready(as_json=json_):
        from pipeline import commands

        commands.predict(images, model, output=output, tracking_uri=tracking_uri, as_json=json_)


@app.command()
def relocate(
    tracking_uri: Annotated[str | None, typer.Option("--tracking-uri", help="The SQLite store.")] = None,
    json_: JsonOption = False,
) -> None:
    """Mend a SQLite store whose folder was moved or copied: have it find its artifacts where they lie now."""
    with _ready(as_json=json_):
        from pipeline import commands

        commands.relocate(tracking_uri, as_json=json_)


@app.command(context_settings=DOTTED_OPTIONS)
def status(
    context: typer.Context, config: ConfigOption = "default", set_: SetOption = None, json_: JsonOption = False
) -> None:
    """Show which results stand, which model is champion, and which runs are running."""
    with _ready(as_json=json_):
        from pipeline import commands

        commands.show_status(config, _overrides(context, set_), as_json=json_)


@app.command(context_settings=DOTTED_OPTIONS)
def clean(
    context: typer.Context,
    config: Annotated[str | None, typer.Option("--config", help="Whose results stay: a YAML file, or a name.")] = None,
    set_: SetOption = None,
    yes: Annotated[bool, typer.Option("--yes", help="Remove; without it, only list.")] = False,
    json_: JsonOption = False,
) -> None:
    """Remove stored results of the project that this configuration does not use, and end runs whose process is gone."""
    with _ready(as_json=json_):
        from pipeline import commands

        commands.clean(config, _overrides(context, set_), remove=yes, as_json=json_)


@app.command(context_settings=DOTTED_OPTIONS)
def doctor(
    context: typer.Context, config: ConfigOption = "default", set_: SetOption = None, json_: JsonOption = False
) -> None:
    """Check this machine and this configuration: packages, devices, storage, tracking, weights, data."""
    with _ready(as_json=json_):
        from pipeline import commands

        commands.doctor(config, _overrides(context, set_), as_json=json_)


def parse_overrides(entries: list[str]) -> dict[str, str]:
    """`["train.epochs=3"]` → `{"train.epochs": "3"}`. Raises `InputError`: no `=`, a key with two values."""
    overrides: dict[str, str] = {}
    for entry in entries:
        key, separator, value = entry.partition("=")
        if not separator or not key:
            raise InputError(f"--set {entry}: must be key=value, for instance train.epochs=3")
        key = key.strip()
        if overrides.get(key, value) != value:
            raise InputError(f"{key}: given as {overrides[key]} and as {value}; give it once")
        overrides[key] = value
    return overrides


def _overrides(context: typer.Context, set_: list[str] | None) -> dict[str, str]:
    return parse_overrides([*(set_ or []), *_dotted(context.args)])


def _dotted(arguments: list[str]) -> list[str]:
    """`["--train.epochs", "3"]` → `["train.epochs=3"]`; anything else that is left over is refused."""
    entries, rest = [], list(arguments)
    while rest:
        option = rest.pop(0)
        if not option.startswith("--") or len(option) < 3:
            raise InputError(f"{option}: unexpected argument; overrides are given as --set key=value")
        if "=" in option:
            entries.append(option[2:])
        elif rest:
            entries.append(f"{option[2:]}={rest.pop(0)}")
        else:
            raise InputError(f"{option}: no such option; overrides are given as --set key=value")
    return entries


class _Attempt:
    """How far a command got, for the JSON object of its failure."""

    pipeline: PipelineRun | None = None

    def starting(self, pipeline: PipelineRun) -> None:
        self.pipeline = pipeline

    def failure(self, error: BaseException) -> str:
        status = "interrupted" if isinstance(error, KeyboardInterrupt | SystemExit) else "failed"
        message = str(error) or type(error).__name__
        if self.pipeline is not None:
            return self.pipeline.summary(status, message).to_json()  # type: ignore[arg-type]
        return json.dumps({"status": status, "parent_run_id": None, "stages": [], "headline": {}, "error": message})


@contextlib.contextmanager
def _ready(*, as_json: bool) -> Iterator[_Attempt]:
    """Quiet the libraries for the length of a command: what they say by themselves is noise at a terminal.

    Ctrl-C ends it with a message and exit code 130. Whatever ends it early is a JSON object where JSON is asked for.
    """
    os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
    os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")
    os.environ.setdefault("RAY_DEDUP_LOGS", "0")
    os.environ.setdefault("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", "1")
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s", stream=sys.stderr)
    for noisy in ("mlflow", "alembic", "ray", "ray.tune", "timm", "huggingface_hub", "httpx", "py4j", "urllib3"):
        logging.getLogger(noisy).setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", category=FutureWarning)
    warnings.filterwarnings("ignore", category=UserWarning, module=r"(mlflow|ray|torch|albumentations)(\.|$)")
    attempt = _Attempt()
    try:
        yield attempt
    except BaseException as error:
        # A command that has given its answer may still exit with a code of its own, as doctor does.
        answered = isinstance(error, SystemExit) and attempt.pipeline is None
        if as_json and not answered:
            sys.stdout.write(attempt.failure(error) + "\n")
            sys.stdout.flush()
        if not isinstance(error, KeyboardInterrupt):
            raise
        for line in (*getattr(error, "__notes__", []), "interrupted; the same command resumes the run"):
            _complain(line)  # Typer by itself would end without a word
        raise typer.Exit(EXIT_INTERRUPTED) from error
