"""Order, skip or run, and commit: turns the stages and a configuration into a plan, and carries the plan out.

A result stands when its `stage.json` does. The plan is made before anything runs, from fingerprints alone, so it can be
shown (`--dry-run`) and is what then happens.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import threading
import time
import uuid
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal

from filelock import FileLock, Timeout

from components.errors import InputError
from components.tracking import TAG_STORAGE, Run, Tracker, without_password
from pipeline.config import Config
from pipeline.console import Console, duration
from pipeline.stage import (
    COMMIT_FILE,
    WORK_FOLDER,
    Stage,
    StageContext,
    StageRecord,
    fingerprint,
    list_artifacts,
    missing_artifact,
    read_record,
    section_values,
)

PACKAGES = ("escapement-vision", "mlflow", "torch", "timm", "ray", "albumentations", "pandas", "numpy")
#: In a stage's scratch: the results that its unfinished work was begun with.
INPUTS_FILE = "inputs.json"
Action = Literal["reused", "run", "continued"]
RunStatus = Literal["finished", "failed", "interrupted"]


@dataclass(frozen=True)
class PlannedStage:
    """What will be done about one stage, and why."""

    stage: Stage
    fingerprint: str
    directory: Path
    sections: dict[str, Any]
    action: Action
    reason: str
    forced: bool = False


@dataclass(frozen=True)
class StageSummary:
    """A finished stage: reused, run, or continued from where it was interrupted."""

    name: str
    action: Action
    fingerprint: str
    run_id: str
    seconds: float
    headline: dict[str, Any]
    reason: str


@dataclass(frozen=True)
class Summary:
    """The machine-readable end of a run: what `--json` prints."""

    status: RunStatus
    parent_run_id: str | None
    experiment_id: str | None
    tracking_uri: str | None
    seconds: float
    stages: tuple[StageSummary, ...]
    headline: dict[str, Any]
    error: str | None = None

    def to_json(self) -> str:
        return json.dumps(asdict(self), allow_nan=False)


def make_plan(
    config: Config, stages: Sequence[Stage], *, until: str, force: Collection[str] = ()
) -> list[PlannedStage]:
    """Decide for each stage up to `until` whether its result stands. Reads the data source; writes nothing."""
    known = {stage.name for stage in stages}
    for name in [until, *force]:
        if name not in known:
            raise InputError(f"stage={name}: unknown; the stages are {', '.join(sorted(known))}")
    storage = Path(config.storage.root).absolute()
    plan: dict[str, PlannedStage] = {}
    for stage in _upstream(stages, until):
        values = section_values(config, stage.sections)
        external = _external_digest(stage, config, storage)
        digest = fingerprint(stage, values, {name: plan[name].fingerprint for name in stage.inputs}, external)
        directory = storage / stage.name / digest[:16]
        forced = stage.name in force
        action, reason = _decide(stage, digest, directory, values, plan, forced=forced)
        plan[stage.name] = PlannedStage(stage, digest, directory, values, action, reason, forced)
    return list(plan.values())


class PipelineRun:
    """Carries a plan out under one root run, and can say at any time how far it got."""

    def __init__(self, plan: Sequence[PlannedStage], config: Config, tracker: Tracker, console: Console) -> None:
        self._plan, self._config, self._tracker, self._console = plan, config, tracker, console
        self._commit = current_commit()
        self._started = time.monotonic()
        self._root: Run | None = None
        self._records: dict[str, StageRecord] = {}
        self._summaries: list[StageSummary] = []

    def execute(self, name: str) -> Summary:
        """Run the stages in order. An exception ends the MLflow runs that it interrupts, and propagates."""
        reaped = self._tracker.reap()
        if reaped:
            self._console.say(f"ended {reaped} runs that a killed process had left running")
        tags = {
            "escapement.commit": self._commit,
            "mlflow.source.git.commit": self._commit,
            TAG_STORAGE: str(Path(self._config.storage.root).resolve()),
        }
        root = self._root = self._tracker.start_root(name, tags)
        try:
            root.log_text(json.dumps(shown_config(self._config), indent=2), "config.json")
            root.log_text(json.dumps(package_versions(), indent=2), "environment.json")
            with self._tracker.heartbeat(root):
                for number, item in enumerate(self._plan, 1):
                    self._console.say(f"[{number}/{len(self._plan)}] {item.stage.name}: {item.reason}", "bold")
                    done, record = self._carry_out(item, root)
                    self._records[item.stage.name] = record
                    self._summaries.append(_summarise(done, record))
                    root.set_tags({f"stage.{item.stage.name}": record.run_id})
                    root.log_metrics(_numbers(record.headline))
            summary = self.summary("finished")
            root.log_text(summary.to_json(), "summary.json")
        except BaseException as error:
            self._end_runs(root, error)
            raise
        root.finish()
        return summary

    def summary(self, status: RunStatus, error: str | None = None) -> Summary:
        """What has been done so far."""
        return Summary(
            status=status,
            parent_run_id=self._root.id if self._root else None,
            experiment_id=self._tracker.experiment_id,
            tracking_uri=self._tracker.shown_uri,
            seconds=round(time.monotonic() - self._started, 2),
            stages=tuple(self._summaries),
            headline={key: value for stage in self._summaries for key, value in stage.headline.items()},
            error=error,
        )

    def _end_runs(self, root: Run, error: BaseException) -> None:
        """End what the error interrupts. Should the store be gone as well, the first error still is the one to see."""
        try:
            with _undisturbed():
                self._tracker.end_tree(root.id, "KILLED" if is_interruption(error) else "FAILED")
        except Exception as failure:  # noqa: BLE001 - kept as a note on the error that propagates
            error.add_note(f"the runs below {root.id} could not be ended ({failure}); the next run ends them")

    def _carry_out(self, item: PlannedStage, root: Run) -> tuple[PlannedStage, StageRecord]:
        """What was done about the stage in the end, and its result."""
        if item.action == "reused":
            record = read_record(item.directory)
            assert record is not None  # the plan found it
            self._settle(record)
            return item, record
        item.directory.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(str(item.directory) + ".lock")
        try:
            with lock.acquire(timeout=0):
                made = self._made_meanwhile(item)
                record = made or self._run_stage(item, root)
        except Timeout as error:
            raise InputError(
                f"storage.root={self._config.storage.root}: another process is making this very result of "
                f"{item.stage.name}; wait for it, or give another storage.root"
            ) from error
        if made:
            return replace(item, action="reused", reason="another process made it meanwhile"), record
        self._console.say(f"  {item.stage.name} done in {duration(record.seconds)}")
        return item, record

    def _made_meanwhile(self, item: PlannedStage) -> StageRecord | None:
        """The result that another process committed since the plan was made, if it is the one that is wanted."""
        record = read_record(item.directory)
        if record is None or item.forced or not item.stage.cached:
            return None
        wanted = (item.fingerprint, self._input_ids(item.stage))
        stands = (record.fingerprint, record.inputs) == wanted and missing_artifact(record) is None
        return record if stands else None

    def _input_ids(self, stage: Stage) -> dict[str, str]:
        return {name: self._records[name].result_id for name in stage.inputs}

    def _settle(self, record: StageRecord) -> None:
        """Do what a process that died right after its commit left undone."""
        run = self._tracker.unfinished(record.run_id)
        work = record.directory / WORK_FOLDER
        if run is None and not work.exists():
            return
        # Where the lock is held, its holder is about to do all this.
        with contextlib.suppress(Timeout), FileLock(str(record.directory) + ".lock").acquire(timeout=0):
            if run is not None:
                _finish(run, record)
            shutil.rmtree(work, ignore_errors=True)

    def _run_stage(self, item: PlannedStage, root: Run) -> StageRecord:
        """Run and commit. A stage that fails leaves no stage.json, so nothing of it is ever taken for a result."""
        stage = item.stage
        if item.action == "run" and item.directory.exists():
            # The commit goes first: half of an old result must not look like a whole one.
            (item.directory / COMMIT_FILE).unlink(missing_ok=True)
            shutil.rmtree(item.directory)
        item.directory.mkdir(parents=True, exist_ok=True)
        inputs = self._input_ids(stage)
        run = self._tracker.start_stage(root, stage.name, item.fingerprint, resume=item.action == "continued")
        context = StageContext(
            directory=item.directory,
            inputs={name: self._records[name] for name in stage.inputs},
            run=run,
            tracker=self._tracker,
            compute=self._config.compute,
            console=self._console,
            commit=self._commit,
        )
        (context.work / INPUTS_FILE).write_text(json.dumps(inputs), encoding="utf-8")
        started = time.monotonic()
        run.log_params(_flat(item.sections))
        headline = stage.run(context, **_sections(self._config, stage))
        seconds = round(time.monotonic() - started, 2)
        record = StageRecord(
            stage=stage.name,
            fingerprint=item.fingerprint,
            version=stage.version,
            result_id=uuid.uuid4().hex,
            inputs=inputs,
            sections=item.sections,
            headline=headline,
            artifacts=list_artifacts(item.directory),
            seconds=seconds,
            run_id=run.id,
            commit=self._commit,
            versions=package_versions(),
            directory=item.directory,
        )
        # Committed before the store is told and the scratch removed: `_settle` can make up for those, not for this.
        record.write()
        _finish(run, record)
        shutil.rmtree(context.work)
        return record


def shown_config(config: Config) -> dict[str, Any]:
    """The resolved configuration as plain values, without the password that a tracking URI may hold."""
    values = config.model_dump(mode="json")
    if config.tracking.uri is not None:
        values["tracking"]["uri"] = without_password(config.tracking.uri)
    return values


def is_interruption(error: BaseException) -> bool:
    """Ctrl-C, or a signal that asked the process to end."""
    return isinstance(error, KeyboardInterrupt | SystemExit)


def check_storage(config: Config) -> None:
    """Raise `InputError` when the storage folder cannot be written."""
    root = Path(config.storage.root).absolute()
    probe = root / f".probe-{os.getpid()}"
    try:
        root.mkdir(parents=True, exist_ok=True)
        probe.write_text("", encoding="utf-8")
        probe.unlink()
    except OSError as error:
        raise InputError(
            f"storage.root={config.storage.root}: cannot be written ({error.strerror}: {error.filename}); "
            "give a folder that you may write"
        ) from error


def current_commit() -> str:
    """The commit of the checkout, `+dirty` where files differ; ESCAPEMENT_COMMIT where `.git` did not travel."""
    given = os.environ.get("ESCAPEMENT_COMMIT")
    if given:
        return given
    checkout = Path(__file__).parent
    try:
        commit = _git(checkout, "rev-parse", "HEAD")
        return commit + ("+dirty" if _git(checkout, "status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def _git(folder: Path, *args: str) -> str:
    done = subprocess.run(["git", "-C", str(folder), *args], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def package_versions() -> dict[str, str]:
    """Versions of the packages that shape a result."""
    versions = {}
    for package in PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            versions[package] = "not installed"
    return versions


def _upstream(stages: Sequence[Stage], until: str) -> list[Stage]:
    by_name = {stage.name: stage for stage in stages}
    needed = {until}
    for stage in reversed(stages):
        if stage.name in needed:
            needed.update(stage.inputs)
    return [by_name[stage.name] for stage in stages if stage.name in needed]


def _sections(config: Config, stage: Stage) -> dict[str, Any]:
    return {name: getattr(config, name) for name in stage.sections}


def _external_digest(stage: Stage, config: Config, storage: Path) -> str:
    if stage.external is None:
        return ""
    try:
        return stage.external(storage, **_sections(config, stage))
    except OSError as error:
        raise InputError(
            f"data.source={config.data.source}, storage.root={config.storage.root}: the images cannot be listed "
            f"({error.strerror}: {error.filename}); give a source that you may read and a folder that you may write"
        ) from error


def _decide(
    stage: Stage,
    digest: str,
    directory: Path,
    values: Mapping[str, Any],
    plan: Mapping[str, PlannedStage],
    *,
    forced: bool,
) -> tuple[Action, str]:
    if not stage.cached:
        return "run", "acts on the registry, so it is done each time"
    if forced:
        return "run", "forced"
    rerun = [name for name in stage.inputs if plan[name].action != "reused"]
    if rerun:
        return "run", f"{rerun[0]} runs"
    record = read_record(directory)
    if record is None:
        if directory.is_dir():
            return _about_unfinished(stage, directory, plan)
        return "run", _what_changed(stage, values, directory.parent)
    if record.fingerprint != digest:
        return "run", "stage.json holds another fingerprint"
    stale = [name for name in stage.inputs if _result_id(plan[name]) != record.inputs.get(name)]
    if stale:
        return "run", f"{stale[0]} was made anew since"
    missing = missing_artifact(record)
    if missing:
        return "run", f"its file {missing} is missing or changed"
    return "reused", "unchanged"


def _about_unfinished(stage: Stage, directory: Path, plan: Mapping[str, PlannedStage]) -> tuple[Action, str]:
    """Work is gone on with where the stage can do so, and where its inputs are those that it was begun with."""
    try:
        inputs = json.loads((directory / WORK_FOLDER / INPUTS_FILE).read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):  # killed before or while it was written
        return "run", "was interrupted"
    if not stage.resumes:
        return "run", "was interrupted"
    stale = [name for name in stage.inputs if _result_id(plan[name]) != inputs.get(name)]
    return ("run", f"{stale[0]} was made anew since") if stale else ("continued", "goes on where it was interrupted")


def _result_id(item: PlannedStage) -> str | None:
    record = read_record(item.directory)
    return record.result_id if record else None


def _what_changed(stage: Stage, values: Mapping[str, Any], folder: Path) -> str:
    """Compare with the newest earlier result of the stage, and name the keys that differ."""
    commits = sorted(folder.glob("*/stage.json"), key=lambda path: path.stat().st_mtime)
    record = read_record(commits[-1].parent) if commits else None
    if record is None:
        return "no result yet"
    if record.version != stage.version:
        return f"the stage itself changed (version {record.version} → {stage.version})"
    before, now = _flat(record.sections), _flat(values)
    keys = sorted(key for key in before.keys() | now.keys() if before.get(key) != now.get(key))
    if not keys:
        return "its inputs changed"
    shown = ", ".join(f"{key} {before.get(key)} → {now.get(key)}" for key in keys[:3])
    return shown + (f" and {len(keys) - 3} more" if len(keys) > 3 else "")


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        flat.update(_flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value})
    return flat


def _summarise(item: PlannedStage, record: StageRecord) -> StageSummary:
    return StageSummary(
        name=item.stage.name,
        action=item.action,
        fingerprint=item.fingerprint,
        run_id=record.run_id,
        seconds=0.0 if item.action == "reused" else record.seconds,
        headline=record.headline,
        reason=item.reason,
    )


def _finish(run: Run, record: StageRecord) -> None:
    run.log_metrics({"stage_seconds": record.seconds, **_numbers(record.headline)})
    run.finish()


@contextlib.contextmanager
def _undisturbed() -> Iterator[None]:
    """Ignore Ctrl-C and requests to end while the block runs; under `mlflow run` one Ctrl-C arrives twice."""
    if threading.current_thread() is not threading.main_thread():
        yield  # signals arrive in the main thread only
        return
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.signal(number, signal.SIG_IGN) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)


def _numbers(headline: Mapping[str, Any]) -> dict[str, float]:
    return {
        key: float(value)
        for key, value in headline.items()
        if isinstance(value, int | float) and not isinstance(value, bool)
    }
