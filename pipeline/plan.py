"""What will be done about each stage, and why: made before anything runs, from fingerprints alone.

A result stands when its `stage.json` does, its files are there, and it was made from the upstream results that stand.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from components.display import listed
from components.errors import InputError
from pipeline.config import Config
from pipeline.console import Console
from pipeline.provenance import Maker
from pipeline.stage import WORK_FOLDER, Stage, fingerprint, missing_artifact, read_record, section_values
from pipeline.storage import claim_storage

#: In a stage's scratch: whose unfinished work it is, and the results that it was begun with.
INPUTS_FILE = "inputs.json"
Action = Literal["reused", "run", "continued"]


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
    made_by: str = ""
    """How what a reused result was made with differs from what would make it now."""


def make_plan(
    config: Config,
    stages: Sequence[Stage],
    *,
    until: str,
    force: Collection[str] = (),
    console: Console | None = None,
    settled: Collection[PlannedStage] = (),
) -> list[PlannedStage]:
    """Decide for each stage up to `until` whether its result stands.

    Reads the data source, marks a `storage.root` that is there, and keeps the digests of the files in it for the next
    time; nothing else is written. console: shows how far that is; None: nothing is shown. settled: of another plan, and
    taken over from it.
    """
    known = {stage.name for stage in stages}
    for name in [until, *force]:
        if name not in known:
            raise InputError(f"stage={name}: unknown; the stages are {', '.join(sorted(known))}")
    claim_storage(config, known)
    storage = Path(config.storage.root).absolute()
    plan = {item.stage.name: item for item in settled}
    maker = Maker.here()
    wanted = upstream(stages, until)
    for stage in (stage for stage in wanted if stage.name not in plan):
        values = section_values(config, stage.sections)
        external = _external_digest(stage, config, storage, console or Console(quiet=True))
        digest = fingerprint(stage, values, {name: plan[name].fingerprint for name in stage.inputs}, external)
        directory = storage / stage.name / digest[:16]
        forced = stage.name in force
        action, reason = _decide(stage, digest, directory, values, plan, forced=forced)
        record = read_record(directory) if action == "reused" else None
        made_by = Maker(record.commit, record.versions).unlike(maker) if record else ""
        reason += f"; made by {made_by}" if made_by else ""
        plan[stage.name] = PlannedStage(stage, digest, directory, values, action, reason, forced, made_by)
    return [plan[stage.name] for stage in wanted]


def upstream(stages: Sequence[Stage], until: str) -> list[Stage]:
    """A stage and all that it depends on, in their order."""
    by_name = {stage.name: stage for stage in stages}
    needed = {until}
    for stage in reversed(stages):
        if stage.name in needed:
            needed.update(stage.inputs)
    return [by_name[stage.name] for stage in stages if stage.name in needed]


def stage_sections(config: Config, stage: Stage) -> dict[str, Any]:
    return {name: getattr(config, name) for name in stage.sections}


def _external_digest(stage: Stage, config: Config, storage: Path, console: Console) -> str:
    if stage.external is None:
        return ""
    try:
        return stage.external(storage, console, **stage_sections(config, stage))
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
    """A stage that resumes continues its unfinished work if its inputs are the same as when it began."""
    try:
        inputs = json.loads((directory / WORK_FOLDER / INPUTS_FILE).read_text(encoding="utf-8"))["inputs"]
    except (FileNotFoundError, ValueError, KeyError):  # killed before or while it was written
        inputs = None
    if inputs is None or not stage.resumes:
        return "run", "was interrupted"
    stale = [name for name in stage.inputs if _result_id(plan[name]) != inputs.get(name)]
    return ("run", f"{stale[0]} was made anew since") if stale else ("continued", "resumes where it was interrupted")


def _result_id(item: PlannedStage) -> str | None:
    record = read_record(item.directory)
    return record.result_id if record else None


def _what_changed(stage: Stage, values: Mapping[str, Any], folder: Path) -> str:
    """Compare with the newest earlier result of the stage, and name the keys that differ."""
    newest = max(folder.glob("*/stage.json"), key=_time_made, default=None)
    record = read_record(newest.parent) if newest else None
    if record is None:
        return "no result yet"
    if record.version != stage.version:
        return f"the stage itself changed (version {record.version} → {stage.version})"
    before, now = flatten(record.sections), flatten(values)
    keys = sorted(key for key in before.keys() | now.keys() if before.get(key) != now.get(key))
    if not keys:
        return "its inputs changed"
    return listed([f"{key} {before.get(key)} → {now.get(key)}" for key in keys], most=3)


def _time_made(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except FileNotFoundError:  # another process makes it anew
        return 0.0


def flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        flat.update(flatten(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value})
    return flat
