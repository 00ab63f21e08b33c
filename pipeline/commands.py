"""What the commands of the command line do, between the parsed options and the runner."""

from __future__ import annotations

import functools
import json
import os
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import psutil
from rich.table import Table
from rich.text import Text

from components.display import one_line
from components.errors import InputError, ModelError
from pipeline.checks.run import COMPARISON, checked_plan, connect, run_checks
from pipeline.config import Config, ProjectConfig
from pipeline.console import Console, Terminal, duration
from pipeline.loading import for_comparison, load
from pipeline.plan import make_plan
from pipeline.run_notes import run_name
from pipeline.runner import PipelineRun, Summary, shown_config
from pipeline.sections.time import seconds_of
from pipeline.stages import STAGES
from pipeline.timed_plan import check_budget, has_budget, later, whole_plan
from pipeline.yaml_text import write_yaml


def run(
    config_source: str,
    overrides: Mapping[str, str],
    *,
    until: str,
    force: Sequence[str],
    as_json: bool,
    starting: Callable[[PipelineRun], None],
) -> None:
    """Check everything that can be checked beforehand, then run up to a stage and show the summary.

    `starting` is told the run before it starts, so that the caller can say how far it got when it fails.
    """
    console, begun = Console(), psutil.Process().create_time()
    config = _configuration(config_source, overrides, until)
    plan = checked_plan(config, until=until, force=force, console=console)
    ends_at = begun + seconds_of(config.budget) if config.budget else None
    follow = None
    if ends_at is not None and has_budget(config, until):
        follow = functools.partial(later, config, until=until, force=force, ends_at=ends_at)
    from components.tracking import DEFAULT_EXPERIMENT_ID

    tracker = connect(config)
    if tracker.experiment_id == DEFAULT_EXPERIMENT_ID:  # only `mlflow run` puts a run there
        console.say("this run is in the experiment Default; `mlflow run --experiment-name NAME` puts it in another")
    pipeline = PipelineRun(plan, config, tracker, console, ends_at=ends_at, later=follow)
    starting(pipeline)
    summary = pipeline.execute(run_name(config.project.name, until if until != STAGES[-1].name else None))
    console.table(summary_table(summary))
    _say_where(console, summary)
    if as_json:
        _print_json(summary.to_json())


def show_plan(
    config_source: str, overrides: Mapping[str, str], *, until: str, force: Sequence[str], as_json: bool
) -> None:
    """Print the resolved configuration, then which stages would run and why. Refuses what the run would refuse."""
    config = _configuration(config_source, overrides, until)
    console = Console()
    if not as_json:
        sys.stdout.write(write_yaml(shown_config(config)))
        sys.stdout.flush()
    plan = checked_plan(config, until=until, force=force, console=console)
    if as_json:
        stages = [
            {"name": p.stage.name, "action": p.action, "reason": p.reason, "fingerprint": p.fingerprint} for p in plan
        ]
        _print_json(json.dumps({"config": shown_config(config), "stages": stages}))
        return
    table = Table("stage", "would be", "because", title="Plan", title_justify="left")
    for item in plan:
        table.add_row(item.stage.name, item.action, item.reason)
    console.table(table)


def _configuration(config_source: str, overrides: Mapping[str, str], until: str) -> Config:
    config = load(config_source, overrides, trains=until not in ("prepare", "embed", "first_model", "lr_range_test"))
    check_budget(config, until)
    return for_comparison(config) if until == COMPARISON else config


def predict(
    images: Sequence[Path], model: str, *, output: Path | None, tracking_uri: str | None, as_json: bool
) -> None:
    """Inspect image files and print a table (or JSON); of a folder, what prepare would take from it."""
    import pandas as pd

    from components.tracking import load_pyfunc, use_store
    from pipeline.checks.given_images import list_given

    given = list_given(images)
    files = given.paths
    if output is not None:
        check_output(output)
    console = Console()
    for note in given.notes:
        (console.warn if given.holds_images else console.say)(note)
    misplaced = use_store(tracking_uri) if model.startswith("models:") else None
    try:
        inspector = load_pyfunc(model, model_config={"allow_paths": True})
    except ModelError as error:
        raise InputError(f"{error}\n{misplaced}") if misplaced else error from error
    if misplaced is not None:
        console.warn(misplaced)
    parts = []
    with console.bar("inspecting", len(files)) as advance:
        for start in range(0, len(files), 64):
            batch = files[start : start + 64]
            parts.append(inspector.predict(pd.DataFrame({"image": batch})))
            advance(len(batch))
    result = pd.concat(parts, ignore_index=True)
    gone = [not Path(file).is_file() for file in files]  # the model takes such a name for an image's own text
    result.loc[gone, "error"] = "no file that can be read: a broken link, a pipe, or gone"
    result.insert(0, "image", files)
    failed = result["error"].notna().sum()
    if failed:
        console.warn(f"{failed} of {len(files)} images cannot be judged; the column error says why")
    if output is not None:
        # A spreadsheet would run a name that begins like a formula; ./ leaves it the same path.
        names = [f"./{name}" if name.startswith(("=", "+", "-", "@")) else name for name in files]
        result.assign(image=names).to_csv(output, index=False)
    if as_json:
        _print_json(json.dumps({"predictions": json.loads(result.to_json(orient="records"))}))
        return
    table = Table()
    for column in ("image", "label", "defect_score", "decision", "error"):
        table.add_column(column, overflow="fold")
    for row in result.itertuples():
        score = "–" if row.defect_score is None else f"{row.defect_score:.4f}"
        table.add_row(one_line(row.image), row.label or "–", score, row.decision or "–", row.error or "")
    Terminal().print(table)


def show_status(config_source: str, overrides: Mapping[str, str], *, as_json: bool) -> None:
    """Print the state of each stage, the registered aliases and the runs that are running."""
    config = load(config_source, overrides)
    plan = whole_plan(config, until=STAGES[-1].name)
    from components.registry import Registry

    tracker = connect(config)
    registry = Registry(tracker, config.promote.model_name or config.project.name)
    running = tracker.running_roots()
    state: dict[str, Any] = {
        "storage": str(Path(config.storage.root).absolute()),
        "tracking_uri": tracker.shown_uri,
        "stages": [
            {"name": p.stage.name, "done": p.action == "reused", "next": p.reason, "directory": str(p.directory)}
            for p in plan
        ],
        "model": registry.model_name,
        "aliases": registry.aliases(),
        "running": running,
    }
    if as_json:
        _print_json(json.dumps(state))
        return
    title = f"{config.project.name} in {state['storage']}"
    table = Table("stage", "result", "if run now", title=title, title_justify="left")
    for item in plan:
        result = "stands" if item.action == "reused" else "–"
        table.add_row(item.stage.name, result, item.reason)
    Terminal().print(table)
    aliases = ", ".join(f"{alias}: version {version}" for alias, version in state["aliases"].items())
    sys.stdout.write(f"model {registry.model_name}: {aliases or 'not registered yet'}\n")
    sys.stdout.write(f"running: {', '.join(running) or 'nothing'}\n")


def clean(config_source: str | None, overrides: Mapping[str, str], *, remove: bool, as_json: bool) -> None:
    """List, or remove, the results of the project that the configuration does not use; end dead runs."""
    from pipeline.cleaning import clean_storage

    if config_source is None:
        raise InputError(
            "clean: --config is missing; give the configuration whose results are to stay, such as --config my.yaml. "
            "Other results of its project are removed, those of other projects are not"
        )
    config = load(config_source, overrides)
    if config.project.name == ProjectConfig().name:
        raise InputError(
            f"project.name={config.project.name}: the name that all configurations without one have, so that their "
            "results cannot be told apart; give the project a name of its own, and remove older results by hand"
        )
    plan = whole_plan(config, until=STAGES[-1].name)
    plan += make_plan(for_comparison(config), STAGES, until=COMPARISON, settled=plan[:1])  # the images are the same
    used = {item.directory for item in plan}
    storage = Path(config.storage.root).absolute()
    reaped = 0
    if remove:
        tracker = connect(config)
        reaped = tracker.reap()
        running = tracker.running_roots(storage=storage.resolve())
        if running:
            used_by = f"storage.root={config.storage.root}: in use by the run {running[0]}"
            raise InputError(f"{used_by}; clean when it has ended")
    try:
        cleaned = clean_storage(storage, project=config.project.name, used=used, remove=remove)
    except OSError as error:
        raise InputError(
            f"storage.root={config.storage.root}: {error.filename} cannot be read or removed ({error.strerror}); "
            "allow it to be"
        ) from error
    if as_json:
        _print_json(json.dumps({"removed": remove, **cleaned.to_dict(), "runs_ended": reaped}))
        return
    for line in cleaned.lines("removed" if remove else "would remove"):
        sys.stdout.write(f"{one_line(line)}\n")
    verb = "removed" if remove else "unused"
    hint = "" if remove or not (cleaned.gone or cleaned.shards[0]) else "; --yes removes what is listed"
    sys.stdout.write(f"{verb} results of {config.project.name}: {len(cleaned.gone)}{hint}\n")


def doctor(config_source: str, overrides: Mapping[str, str], *, as_json: bool) -> None:
    """Run every check and say what each found; exit code 1 where one failed."""
    checks = run_checks(config_source, overrides)
    if as_json:
        _print_json(json.dumps({"checks": [check._asdict() for check in checks]}))
    else:
        table = Table()
        for column in ("check", "", "detail"):
            table.add_column(column, overflow="fold")
        for check in checks:
            state = Text("ok", style="green") if check.ok else Text("fails", style="red")
            table.add_row(check.name, state, check.detail)
        Terminal().print(table)
    if not all(check.ok for check in checks):
        sys.exit(1)


def summary_table(summary: Summary) -> Table:
    """Where the time went, and what came out."""
    table = Table(title_justify="left")
    for column, align in (("stage", "left"), ("", "left"), ("time", "right"), ("share", "right"), ("result", "left")):
        table.add_column(column, justify=align, overflow="fold")  # type: ignore[arg-type]
    total = sum(stage.seconds for stage in summary.stages) or 1.0
    for stage in summary.stages:
        share = f"{stage.seconds / total:.0%}" if stage.action != "reused" else ""
        time = duration(stage.seconds) if stage.action != "reused" else ""
        shown = {key: f"{value:.4g}" if isinstance(value, float) else value for key, value in stage.headline.items()}
        result = ", ".join(f"{key.replace('_', ' ')} {value}" for key, value in shown.items() if value is not None)
        table.add_row(stage.name, stage.action, time, share, result)
    return table


def _say_where(console: Console, summary: Summary) -> None:
    for made_by in dict.fromkeys(stage.made_by for stage in summary.stages if stage.made_by):
        names = [stage.name for stage in summary.stages if stage.made_by == made_by]
        console.say(f"reused, but made by {made_by}: {', '.join(names)}; --force {names[0]} makes it anew")
    console.say(f"finished in {duration(summary.seconds)}; run {summary.parent_run_id}")
    console.say(f"look at it: {where_to_look(summary.tracking_uri or '')}")


def where_to_look(shown_uri: str) -> str:
    """A server's address, the command that shows a SQLite file, or else the store as it may be shown."""
    if shown_uri.startswith(("http://", "https://")):
        return shown_uri.replace("://…@", "://")
    if shown_uri.startswith("sqlite:///"):
        return f"mlflow ui --backend-store-uri {shlex.quote(shown_uri)}"
    return shown_uri


def check_output(output: Path) -> None:
    """Raise `InputError` beforehand for a file that could not be written in the end."""
    target = output if output.exists() else output.parent
    if output.is_dir() or not output.parent.is_dir() or not os.access(target, os.W_OK):
        raise InputError(
            f"output={output}: cannot be written; give a file in a folder that exists and that you may write"
        )


def relocate(tracking_uri: str | None, *, as_json: bool) -> None:
    """Have a SQLite store that was moved or copied name the places where its artifacts lie now."""
    from components.artifact_place import relocate as relocate_store
    from components.tracking_store import resolve_uri

    moves = [(str(old), str(new)) for old, new in relocate_store(resolve_uri(tracking_uri))]
    if as_json:
        _print_json(json.dumps({"moved": moves}))
        return
    for old, new in moves:
        sys.stdout.write(f"what the store had in {old} is now read from, and written to, {new}\n")
    if not moves:
        sys.stdout.write("nothing to do: the artifacts are where the store has them\n")


def _print_json(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()
