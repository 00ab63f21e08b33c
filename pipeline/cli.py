"""The command line: run, each stage, predict, status, clean, doctor.

Nothing heavy is imported before a command needs it, so that `--help` answers at once. Results go to standard output,
everything for human eyes to standard error.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from components.errors import InputError

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

ConfigOption = Annotated[str, typer.Option("--config", help="A YAML file, or: default, demo, smoke.")]
SetOption = Annotated[list[str] | None, typer.Option("--set", help="Override, as key=value; repeatable.")]
ForceOption = Annotated[list[str] | None, typer.Option("--force", help="Run this stage anew; repeatable.")]
DryRunOption = Annotated[bool, typer.Option("--dry-run", help="Show the configuration and the plan; run nothing.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object as the last line of standard output.")]


def main() -> None:
    """Entry point of the console script: faults of the user's end as one message and exit code 2."""
    signal.signal(signal.SIGTERM, _terminate)
    try:
        app()
    except InputError as error:
        _complain(str(error))
        sys.exit(EXIT_INPUT)


def _terminate(number: int, frame: object) -> None:
    # As Ctrl-C: runs are ended, not left RUNNING.
    raise KeyboardInterrupt


def _complain(message: str) -> None:
    for line in message.splitlines():
        typer.secho(f"error: {line}", fg="red", err=True)


def _stage_command(name: str, until: str, help_text: str) -> None:
    """Add the command that runs the pipeline up to one stage."""

    @app.command(name, help=help_text, context_settings=DOTTED_OPTIONS)
    def command(
        context: typer.Context,
        config: ConfigOption = "default",
        set_: SetOption = None,
        force: ForceOption = None,
        dry_run: DryRunOption = False,
        json_: JsonOption = False,
    ) -> None:
        from pipeline import commands

        overrides = parse_overrides([*(set_ or []), *_dotted(context.args)])
        with _ready():
            if dry_run:
                commands.show_plan(config, overrides, until=until, force=force or [], as_json=json_)
            else:
                commands.run(config, overrides, until=until, force=force or [], as_json=json_)


_stage_command("run", "promote", "Run the whole pipeline; what is unchanged is reused.")
_stage_command("prepare", "prepare", "Images to a manifest with splits, a pack and a data report.")
_stage_command("lr-range-test", "lr_range_test", "Find the range of learning rates, per optimizer.")
_stage_command("search", "search", "Search recipes with Ray Tune and ASHA.")
_stage_command("train", "train", "Train the best recipe, calibrate, choose the operating point.")
_stage_command("evaluate", "evaluate", "Measure on the test split; write the report.")
_stage_command("promote", "promote", "Register the model, apply the gates, set the alias.")


@app.command()
def predict(
    images: Annotated[list[Path], typer.Argument(help="Image files, or folders of them.")],
    model: Annotated[str, typer.Option("--model", help="models:/name@champion, or a model folder.")],
    output: Annotated[Path | None, typer.Option("--output", help="Write a CSV file as well.")] = None,
    tracking_uri: Annotated[str | None, typer.Option("--tracking-uri", help="Where the registry is.")] = None,
    json_: JsonOption = False,
) -> None:
    """Inspect images with a registered model: label, defect score, accept or reject."""
    from pipeline import commands

    with _ready():
        commands.predict(images, model, output=output, tracking_uri=tracking_uri, as_json=json_)


@app.command(context_settings=DOTTED_OPTIONS)
def status(
    context: typer.Context, config: ConfigOption = "default", set_: SetOption = None, json_: JsonOption = False
) -> None:
    """Show which results stand, which model is champion, and which runs are running."""
    from pipeline import commands

    with _ready():
        commands.show_status(config, parse_overrides([*(set_ or []), *_dotted(context.args)]), as_json=json_)


@app.command(context_settings=DOTTED_OPTIONS)
def clean(
    context: typer.Context,
    config: ConfigOption = "default",
    set_: SetOption = None,
    yes: Annotated[bool, typer.Option("--yes", help="Remove; without it, only list.")] = False,
    json_: JsonOption = False,
) -> None:
    """Remove stored results that this configuration does not use, and end runs whose process is gone."""
    from pipeline import commands

    with _ready():
        overrides = parse_overrides([*(set_ or []), *_dotted(context.args)])
        commands.clean(config, overrides, remove=yes, as_json=json_)


@app.command(context_settings=DOTTED_OPTIONS)
def doctor(
    context: typer.Context, config: ConfigOption = "default", set_: SetOption = None, json_: JsonOption = False
) -> None:
    """Check this machine and this configuration: packages, devices, storage, tracking, weights, data."""
    from pipeline import commands

    with _ready():
        commands.doctor(config, parse_overrides([*(set_ or []), *_dotted(context.args)]), as_json=json_)


def parse_overrides(entries: list[str]) -> dict[str, str]:
    """`["train.epochs=3"]` → `{"train.epochs": "3"}`. Raises `InputError` for an entry without `=`."""
    overrides = {}
    for entry in entries:
        key, separator, value = entry.partition("=")
        if not separator or not key:
            raise InputError(f"--set {entry}: must be key=value, for instance train.epochs=3")
        overrides[key] = value
    return overrides


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


@contextlib.contextmanager
def _ready() -> Iterator[None]:
    """Quiet the libraries for the length of a command: what they say by themselves is noise at a terminal.

    Ctrl-C ends it with a message and exit code 130.
    """
    os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
    os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")
    os.environ.setdefault("RAY_DEDUP_LOGS", "0")
    os.environ.setdefault("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", "1")
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s", stream=sys.stderr)
    for noisy in ("mlflow", "alembic", "ray", "ray.tune", "timm", "huggingface_hub", "httpx", "py4j"):
        logging.getLogger(noisy).setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", category=FutureWarning)
    warnings.filterwarnings("ignore", category=UserWarning, module=r"(mlflow|ray|torch|albumentations)(\.|$)")
    try:
        yield
    except KeyboardInterrupt as error:  # Typer by itself would end without a word
        _complain("interrupted; the same command goes on from here")
        raise typer.Exit(EXIT_INTERRUPTED) from error
