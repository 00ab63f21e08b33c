"""Carries a plan out: skip or run each stage in order, commit its result, and keep its MLflow run right."""

from __future__ import annotations

import contextlib
import json
import shutil
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

from filelock import FileLock, Timeout

from components.errors import InputError
from components.interrupts import ignored
from components.tracking import TAG_STORAGE, Run, Tracker
from pipeline.config import Config
from pipeline.console import Console, duration
from pipeline.plan import INPUTS_FILE, Action, PlannedStage, flatten, stage_sections
from pipeline.provenance import current_commit, package_versions
from pipeline.run_notes import link_results, root_note, stage_note
from pipeline.stage import (
    COMMIT_FILE,
    WORK_FOLDER,
    Stage,
    StageContext,
    StageRecord,
    list_artifacts,
    missing_artifact,
    read_record,
    section_values,
)
from pipeline.storage import mark_folder

#: How long another project may take to put itself down in the same record.
SHARING_SECONDS = 5
RunStatus = Literal["finished", "failed", "interrupted"]


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
    made_by: str = ""


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


@dataclass(frozen=True, kw_only=True)
class Later:
    """Stages whose configuration the earlier ones have found. ends_at: see `StageContext`."""

    plan: Sequence[PlannedStage]
    config: Config
    ends_at: float


class PipelineRun:
    """Carries a plan out under one root run, and can say at any time how far it got."""

    def __init__(
        self,
        plan: Sequence[PlannedStage],
        config: Config,
        tracker: Tracker,
        console: Console,
        *,
        ends_at: float | None = None,
        later: Callable[[Sequence[PlannedStage]], Later] | None = None,
    ) -> None:
        """ends_at: see `StageContext`. later: asked after the last stage of the plan for what is to follow."""
        self._plan, self._config, self._tracker, self._console = list(plan), config, tracker, console
        self._ends_at, self._later = ends_at, later
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
            self._note(root, self.summary("finished"))
            root.log_text(json.dumps(shown_config(self._config), indent=2), "config.json")
            root.log_text(json.dumps(package_versions(), indent=2), "environment.json")
            artifacts = self._tracker.local_artifacts()
            if artifacts is not None:
                mark_folder(artifacts)  # its figures are no images of parts, should it lie among those
            with self._tracker.heartbeat(root):
                for number, item in enumerate(self._stages(), 1):
                    self._console.say(f"[{number}/{len(self._plan)}] {item.stage.name}: {item.reason}", "bold")
                    done, record = self._carry_out(item, root)
                    self._records[item.stage.name] = record
                    self._summaries.append(
                        StageSummary(
                            name=done.stage.name,
                            action=done.action,
                            fingerprint=done.fingerprint,
                            run_id=record.run_id,
                            seconds=0.0 if done.action == "reused" else record.seconds,
                            headline=record.headline,
                            reason=done.reason,
                            made_by=done.made_by,
                        )
                    )
                    root.set_tags({f"stage.{item.stage.name}": record.run_id})
                    root.log_metrics(_numbers(record.headline))
                    link_results(root, self._tracker, record)
                    self._note(root, self.summary("finished"))
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

    def _stages(self) -> Iterator[PlannedStage]:
        """Those of the plan, then those that follow from their results."""
        yield from self._plan
        if self._later is not None:
            later = self._later(self._plan)
            self._config, self._ends_at = later.config, later.ends_at
            self._plan += later.plan
            yield from later.plan

    def _note(self, root: Run, summary: Summary) -> None:
        root.set_note(root_note(self._config.project.name, summary, self._records, planned=len(self._plan)))

    def _end_runs(self, root: Run, error: BaseException) -> None:
        """End what the error interrupts. Should the store be gone as well, the first error still is the one to see."""
        interrupted = is_interruption(error)
        message = str(error) or type(error).__name__
        try:
            with ignored():
                self._tracker.end_tree(root.id, "KILLED" if interrupted else "FAILED")
                self._note(root, self.summary("interrupted" if interrupted else "failed", message))
        except Exception as failure:  # noqa: BLE001 - kept as a note on the error that propagates
            error.add_note(f"the runs below {root.id} could not be ended ({failure}); the next run ends them")

    def _carry_out(self, item: PlannedStage, root: Run) -> tuple[PlannedStage, StageRecord]:
        """What was done about the stage in the end, and its result."""
        if item.action == "reused":
            record = read_record(item.directory)
            assert record is not None  # the plan found it
            self._settle(record)
            return item, self._share(record)
        item.directory.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(str(item.directory) + ".lock")
        try:
            with lock.acquire(timeout=0):
                made = self._made_meanwhile(item)
                record = self._shared(made) if made else self._run_stage(item, root)
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

    def _share(self, record: StageRecord) -> StageRecord:
        """Put this project down as one that uses the result, so that no other one's `clean` removes it."""
        if self._config.project.name in record.projects:
            return record
        # Where the lock stays held, its holder is making the result anew.
        with contextlib.suppress(Timeout), FileLock(str(record.directory) + ".lock").acquire(timeout=SHARING_SECONDS):
            found = read_record(record.directory)
            if found is None:
                raise InputError(f"storage.root: {record.directory} was removed meanwhile; start again")
            return self._shared(found)
        return record

    def _shared(self, record: StageRecord) -> StageRecord:
        """The same; the lock is held."""
        projects = sorted({*record.projects, self._config.project.name})
        shared = replace(record, projects=projects)
        shared.write()
        return shared

    def _run_stage(self, item: PlannedStage, root: Run) -> StageRecord:
        """Run and commit. A stage that fails leaves no stage.json, so nothing of it is ever taken for a result."""
        stage = item.stage
        replaced = read_record(item.directory)
        before = replaced.projects if replaced else []
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
            ends_at=self._ends_at,
        )
        begun = {"project": self._config.project.name, "inputs": inputs}
        (context.work / INPUTS_FILE).write_text(json.dumps(begun), encoding="utf-8")
        started = time.monotonic()
        run.log_params(flatten(item.sections))
        try:
            headline = stage.run(context, **stage_sections(self._config, stage))
        except BaseException:
            if not stage.resumes:
                with contextlib.suppress(FileNotFoundError):
                    shutil.rmtree(item.directory)  # nothing half-written stays
            raise
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
            projects=sorted({*before, self._config.project.name}),
            directory=item.directory,
        )
        # Committed before the store is told and the scratch removed: `_settle` can make up for those, not for this.
        record.write()
        _finish(run, record)
        for task in context.afterwards:
            task()
        shutil.rmtree(context.work)
        return record


def shown_config(config: Config) -> dict[str, Any]:
    """The resolved configuration as plain values, without the passwords that addresses may hold."""
    return section_values(config, tuple(type(config).model_fields))


def is_interruption(error: BaseException) -> bool:
    """Ctrl-C, or a signal that asked the process to end."""
    return isinstance(error, KeyboardInterrupt | SystemExit)


def _finish(run: Run, record: StageRecord) -> None:
    run.log_metrics({"stage_seconds": record.seconds, **_numbers(record.headline)})
    run.set_note(stage_note(record))
    run.finish()


def _numbers(headline: Mapping[str, Any]) -> dict[str, float]:
    return {
        key: float(value)
        for key, value in headline.items()
        if isinstance(value, int | float) and not isinstance(value, bool)
    }
