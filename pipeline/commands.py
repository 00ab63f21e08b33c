"""What the commands of the command line do, between the parsed options and the runner."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.table import Table

from components.data.sources.listing import IMAGE_SUFFIXES
from components.errors import InputError, ModelError
from pipeline.config import Config
from pipeline.console import Console, duration
from pipeline.loading import for_comparison, load
from pipeline.plan import PlannedStage, make_plan
from pipeline.runner import PipelineRun, Summary, check_storage, check_tracking, shown_config
from pipeline.sections.rates import backbones_in_question
from pipeline.stages import STAGES

#: Stages that build the model, and so need its weights.
NEED_WEIGHTS = {"lr_range_test", "compare_lr", "search", "confirm", "train"}

#: The stage beside the pipeline, whose range test covers other optimizers.
COMPARISON = "compare_lr"


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
    console = Console()
    config = _configuration(config_source, overrides, until)
    check_storage(config)
    check_tracking(config)
    plan = make_plan(config, STAGES, until=until, force=force, console=console)
    preflight(config, plan)
    from components.tracking import Tracker

    tracker = Tracker.connect(config.tracking.uri, experiment=config.tracking.experiment or config.project.name)
    pipeline = PipelineRun(plan, config, tracker, console)
    starting(pipeline)
    summary = pipeline.execute(name=until if until != STAGES[-1].name else config.project.name)
    console.table(summary_table(summary))
    _say_where(console, summary)
    if as_json:
        _print_json(summary.to_json())


def show_plan(
    config_source: str, overrides: Mapping[str, str], *, until: str, force: Sequence[str], as_json: bool
) -> None:
    """Print the resolved configuration, then which stages would run and why."""
    import yaml

    config = _configuration(config_source, overrides, until)
    check_tracking(config)
    plan = make_plan(config, STAGES, until=until, force=force, console=Console())
    if as_json:
        stages = [
            {"name": p.stage.name, "action": p.action, "reason": p.reason, "fingerprint": p.fingerprint} for p in plan
        ]
        _print_json(json.dumps({"config": shown_config(config), "stages": stages}))
        return
    sys.stdout.write(yaml.safe_dump(shown_config(config), sort_keys=False, allow_unicode=True))
    table = Table(title="Plan", title_justify="left")
    for column in ("stage", "would be", "because"):
        table.add_column(column)
    for item in plan:
        table.add_row(item.stage.name, item.action, item.reason)
    Console().table(table)


def preflight(config: Config, plan: Sequence[PlannedStage]) -> None:
    """Raise `InputError` for what would fail later, before anything long starts."""
    running = {item.stage.name for item in plan if item.action != "reused"}
    if running & NEED_WEIGHTS or (config.compute.ray_address is not None and "prepare" in running):
        from pipeline.compute.resources import check_compute

        check_compute(config.compute)
    if "search" in running:
        from pipeline.search.checks import check_search

        check_search(config)
    if running & NEED_WEIGHTS:
        from components.models.catalogue import check_input_size
        from components.models.weights import check_weights
        from pipeline.image_size import image_sizes

        backbones = backbones_in_question(config.lr_range_test, config.model)
        if len(backbones) > 1 and config.model.weights.startswith("file:"):
            raise InputError(
                f"model.weights={config.model.weights}: a file holds the weights of one backbone, and "
                f"{', '.join(backbones)} are searched; use pretrained, package or none, or search one backbone"
            )
        for backbone in backbones:
            for size in image_sizes(config, compared=COMPARISON in running):
                check_input_size(backbone, size)
            check_weights(backbone, config.model.weights)


def _configuration(config_source: str, overrides: Mapping[str, str], until: str) -> Config:
    config = load(config_source, overrides, trains=until not in ("prepare", "lr_range_test"))
    return for_comparison(config) if until == COMPARISON else config


def predict(
    images: Sequence[Path], model: str, *, output: Path | None, tracking_uri: str | None, as_json: bool
) -> None:
    """Inspect image files and print a table (or JSON); folders are searched for images."""
    import pandas as pd

    from components.tracking import load_pyfunc, use_store

    files = _image_files(images)
    if output is not None:
        _check_output(output)
    console = Console()
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
            parts.append(inspector.predict(pd.DataFrame({"image": [str(file) for file in batch]})))
            advance(len(batch))
    result = pd.concat(parts, ignore_index=True)
    result.insert(0, "image", [str(file) for file in files])
    if output is not None:
        result.to_csv(output, index=False)
    if as_json:
        _print_json(json.dumps({"predictions": json.loads(result.to_json(orient="records"))}))
        return
    table = Table()
    for column in ("image", "label", "defect_score", "decision", "error"):
        table.add_column(column, overflow="fold")
    for row in result.itertuples():
        score = "–" if row.defect_score is None else f"{row.defect_score:.4f}"
        table.add_row(row.image, row.label or "–", score, row.decision or "–", row.error or "")
    _stdout_table(table)


def show_status(config_source: str, overrides: Mapping[str, str], *, as_json: bool) -> None:
    """Print the state of each stage, the registered aliases and the runs that are running."""
    config = load(config_source, overrides)
    plan = make_plan(config, STAGES, until=STAGES[-1].name)
    from components.registry import Registry
    from components.tracking import Tracker

    tracker = Tracker.connect(config.tracking.uri, experiment=config.tracking.experiment or config.project.name)
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
    table = Table(title=f"{config.project.name} in {state['storage']}", title_justify="left")
    for column in ("stage", "result", "if run now"):
        table.add_column(column)
    for item in plan:
        result = "stands" if item.action == "reused" else "–"
        table.add_row(item.stage.name, result, item.reason)
    _stdout_table(table)
    aliases = ", ".join(f"{alias}: version {version}" for alias, version in state["aliases"].items())
    sys.stdout.write(f"model {registry.model_name}: {aliases or 'not registered yet'}\n")
    sys.stdout.write(f"running: {', '.join(running) or 'nothing'}\n")


def clean(config_source: str, overrides: Mapping[str, str], *, remove: bool, as_json: bool) -> None:
    """List, or remove, the result folders that the configuration does not use; end dead runs."""
    from components.data.pack.store import sweep_store
    from pipeline.data.packing import IMAGES_FOLDER

    config = load(config_source, overrides)
    used = {item.directory for item in make_plan(config, STAGES, until=STAGES[-1].name)}
    used |= {item.directory for item in make_plan(for_comparison(config), STAGES, until=COMPARISON)}
    storage = Path(config.storage.root).absolute()
    folders = sorted(
        folder
        for stage in STAGES
        for folder in (storage / stage.name).glob("*")
        if folder.is_dir() and folder not in used
    )
    sizes = {str(folder): sum(f.stat().st_size for f in folder.rglob("*") if f.is_file()) for folder in folders}
    reaped, in_use = 0, []
    if remove:
        reaped = _end_dead_runs(config, storage)
        in_use = [str(folder) for folder in folders if not _remove_unlocked(folder)]
    for name in in_use:
        del sizes[name]
    # After the results, which hold on to the shards that they use.
    shards, size = sweep_store(storage / IMAGES_FOLDER, remove=remove)
    packed = {"shards": shards, "bytes": size}
    if as_json:
        answer = {"removed": remove, "folders": sizes, "in_use": in_use, "packed": packed, "runs_ended": reaped}
        _print_json(json.dumps(answer))
        return
    for name, size in sizes.items():
        sys.stdout.write(f"{'removed' if remove else 'would remove'} {name} ({size / 1e6:.1f} MB)\n")
    for name in in_use:
        sys.stdout.write(f"kept {name}: in use by another process\n")
    if shards:
        verb = "removed" if remove else "would remove"
        sys.stdout.write(f"{verb} {shards} shards of packed images that no result uses ({size / 1e6:.1f} MB)\n")
    hint = "" if remove or not folders else "; --yes removes them"
    sys.stdout.write(f"{len(folders)} unused results{hint}\n")


def doctor(config_source: str, overrides: Mapping[str, str], *, as_json: bool) -> None:
    """Run every check and say what each found; exit code 1 where one failed."""
    from pipeline.doctor import run_checks

    checks = run_checks(config_source, overrides)
    if as_json:
        _print_json(json.dumps({"checks": [{"name": c.name, "ok": c.ok, "detail": c.detail} for c in checks]}))
    else:
        table = Table()
        for column in ("check", "", "detail"):
            table.add_column(column, overflow="fold")
        for check in checks:
            table.add_row(check.name, "[green]ok[/]" if check.ok else "[red]fails[/]", check.detail)
        _stdout_table(table)
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
        table.add_row(stage.name, stage.action, time, share, _headline_text(stage.headline))
    return table


def _headline_text(headline: Mapping[str, Any]) -> str:
    shown = []
    for key, value in headline.items():
        if value is None:
            continue
        text = f"{value:.4g}" if isinstance(value, float) else str(value)
        shown.append(f"{key.replace('_', ' ')} {text}")
    return ", ".join(shown)


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


def _image_files(paths: Sequence[Path]) -> list[Path]:
    files: list[Path] = []
    for path in paths:
        if path.is_dir():
            files += sorted(p for p in path.rglob("*") if p.suffix.lower() in IMAGE_SUFFIXES)
        elif path.is_file():
            files.append(path)
        else:
            raise InputError(f"images={path}: no such file or folder")
    if not files:
        known = ", ".join(sorted(IMAGE_SUFFIXES))
        raise InputError(f"images={', '.join(map(str, paths))}: no image file there (known: {known})")
    return files


def _check_output(output: Path) -> None:
    """Raise `InputError` beforehand for a file that could not be written in the end."""
    target = output if output.exists() else output.parent
    if output.is_dir() or not output.parent.is_dir() or not os.access(target, os.W_OK):
        raise InputError(
            f"output={output}: cannot be written; give a file in a folder that exists and that you may write"
        )


def _end_dead_runs(config: Config, storage: Path) -> int:
    """End the runs whose process is gone; the number of them. Refuses while a live one uses the storage."""
    from components.tracking import Tracker

    tracker = Tracker.connect(config.tracking.uri, experiment=config.tracking.experiment or config.project.name)
    reaped = tracker.reap()
    running = tracker.running_roots(storage=storage.resolve())
    if running:
        raise InputError(f"storage.root={config.storage.root}: in use by the run {running[0]}; clean when it has ended")
    return reaped


def _remove_unlocked(folder: Path) -> bool:
    """Remove a result, unless a process is making it. The lock file stays: another may be about to take it."""
    from filelock import FileLock, Timeout

    try:
        with FileLock(str(folder) + ".lock").acquire(timeout=0):
            shutil.rmtree(folder)
    except Timeout:
        return False
    return True


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


def _stdout_table(table: Table) -> None:
    from rich.console import Console as RichConsole

    RichConsole(highlight=False).print(table)


def _print_json(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()
