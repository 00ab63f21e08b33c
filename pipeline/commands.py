"""What the commands of the command line do, between the parsed options and the runner."""

from __future__ import annotations

import contextlib
import json
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.table import Table

from components.errors import InputError
from pipeline.config import Config, load
from pipeline.console import Console, duration
from pipeline.runner import PipelineRun, PlannedStage, Summary, check_storage, is_interruption, make_plan
from pipeline.stages import STAGES

IMAGE_SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp"}
#: Stages that build the model, and so need its weights.
NEED_WEIGHTS = {"lr_range_test", "search", "train"}


def run(config_source: str, overrides: Mapping[str, str], *, until: str, force: Sequence[str], as_json: bool) -> None:
    """Check everything that can be checked beforehand, then run up to a stage and show the summary."""
    console = Console()
    pipeline: PipelineRun | None = None
    try:
        config = load(config_source, overrides)
        check_storage(config)
        plan = make_plan(config, STAGES, until=until, force=force)
        preflight(config, plan)
        from components.tracking import Tracker

        tracker = Tracker.connect(config.tracking.uri, experiment=config.tracking.experiment or config.project.name)
        pipeline = PipelineRun(plan, config, tracker, console)
        summary = pipeline.execute(name=until if until != STAGES[-1].name else config.project.name)
    except BaseException as error:
        if as_json:
            _print_json(_failure(pipeline, error))
        raise
    console.table(summary_table(summary))
    _say_where(console, summary)
    if as_json:
        _print_json(summary.to_json())


def show_plan(
    config_source: str, overrides: Mapping[str, str], *, until: str, force: Sequence[str], as_json: bool
) -> None:
    """Print the resolved configuration, then which stages would run and why."""
    import yaml

    config = load(config_source, overrides)
    plan = make_plan(config, STAGES, until=until, force=force)
    if as_json:
        stages = [
            {"name": p.stage.name, "action": p.action, "reason": p.reason, "fingerprint": p.fingerprint} for p in plan
        ]
        _print_json(json.dumps({"config": config.model_dump(mode="json"), "stages": stages}))
        return
    sys.stdout.write(yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True))
    table = Table(title="Plan", title_justify="left")
    for column in ("stage", "would be", "because"):
        table.add_column(column)
    for item in plan:
        table.add_row(item.stage.name, item.action, item.reason)
    Console().table(table)


def preflight(config: Config, plan: Sequence[PlannedStage]) -> None:
    """Raise `InputError` for what would fail later, before anything long starts."""
    running = {item.stage.name for item in plan if item.action != "reused"}
    if running & NEED_WEIGHTS:
        from components.models.catalogue import check_input_size
        from components.models.weights import check_weights
        from pipeline.training import resolve_device

        resolve_device(config.compute)
        check_input_size(config.model.backbone, config.data.image_size)
        check_weights(config.model.backbone, config.model.weights)


def predict(
    images: Sequence[Path], model: str, *, output: Path | None, tracking_uri: str | None, as_json: bool
) -> None:
    """Inspect image files and print a table (or JSON); folders are searched for images."""
    import pandas as pd

    from components.tracking import load_pyfunc, use_store

    files = _image_files(images)
    console = Console()
    use_store(tracking_uri)
    inspector = load_pyfunc(model, model_config={"allow_paths": True})
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
    from components.tracking import Registry, Tracker

    tracker = Tracker.connect(config.tracking.uri, experiment=config.tracking.experiment or config.project.name)
    registry = Registry(tracker, config.promote.model_name or config.project.name)
    running = tracker.running_roots()
    state: dict[str, Any] = {
        "storage": str(Path(config.storage.root).absolute()),
        "tracking_uri": tracker.uri,
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
    config = load(config_source, overrides)
    used = {item.directory for item in make_plan(config, STAGES, until=STAGES[-1].name)}
    storage = Path(config.storage.root).absolute()
    folders = sorted(
        folder
        for stage in STAGES
        for folder in (storage / stage.name).glob("*")
        if folder.is_dir() and folder not in used
    )
    sizes = {str(folder): sum(f.stat().st_size for f in folder.rglob("*") if f.is_file()) for folder in folders}
    reaped = 0
    if remove:
        from components.tracking import Tracker

        reaped = Tracker.connect(
            config.tracking.uri, experiment=config.tracking.experiment or config.project.name
        ).reap()
        for folder in folders:
            with _unless_locked(folder):
                shutil.rmtree(folder)
    if as_json:
        _print_json(json.dumps({"removed": remove, "folders": sizes, "runs_ended": reaped}))
        return
    for folder_name, size in sizes.items():
        sys.stdout.write(f"{'removed' if remove else 'would remove'} {folder_name} ({size / 1e6:.1f} MB)\n")
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
    console.say(f"finished in {duration(summary.seconds)}; run {summary.parent_run_id}")
    console.say(f"look at it: mlflow ui --backend-store-uri {summary.tracking_uri}")


def _failure(pipeline: PipelineRun | None, error: BaseException) -> str:
    status = "interrupted" if is_interruption(error) else "failed"
    message = str(error) or type(error).__name__
    if pipeline is not None:
        return pipeline.summary(status, message).to_json()  # type: ignore[arg-type]
    return json.dumps({"status": status, "parent_run_id": None, "stages": [], "headline": {}, "error": message})


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


@contextlib.contextmanager
def _unless_locked(folder: Path) -> Iterator[None]:
    from filelock import FileLock, Timeout

    lock = FileLock(str(folder) + ".lock")
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        raise InputError(f"{folder} is in use by another process; wait for it to end") from error
    try:
        yield
    finally:
        lock.release()
        Path(str(folder) + ".lock").unlink(missing_ok=True)


def _stdout_table(table: Table) -> None:
    from rich.console import Console as RichConsole

    RichConsole(highlight=False).print(table)


def _print_json(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()
