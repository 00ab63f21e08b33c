"""A stage is a record; its fingerprint says which result it would make, and `stage.json` that the result stands."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components.errors import redact
from components.whole_files import whole_file
from pipeline.config import Config
from pipeline.sections.base import Section
from pipeline.sections.time import seconds_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from components.tracking import Run, Tracker
    from pipeline.config import ComputeConfig
    from pipeline.console import Console

COMMIT_FILE = "stage.json"
#: How its name and those of its drafts begin.
COMMIT_NAMES = (COMMIT_FILE, f".{COMMIT_FILE}.")
#: Below a stage's directory: what it needs to resume after an interruption; not part of its result.
WORK_FOLDER = "unfinished"


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One step of the pipeline."""

    name: str
    inputs: tuple[str, ...]
    """Upstream stages whose directories it reads."""
    sections: tuple[str, ...]
    """Sections of the configuration that it receives, as keyword arguments, and is hashed on."""
    version: int
    """Bumped when the meaning of its output changes."""
    run: Callable[..., dict[str, Any]]
    """`run(context, **sections)` writes files into `context.directory` and returns the headline figures."""
    unhashed: tuple[str, ...] = ()
    """Dotted keys of its sections that do not shape its result, or whose effect `external` already covers."""
    external: Callable[..., str] | None = None
    """Digest of what lies outside the configuration: `external(storage, console, **sections)`."""
    resumes: bool = False
    """Whether an interrupted run is continued; otherwise its directory is cleared."""
    cached: bool = True
    """False for a stage that acts on something outside, which is done again each time."""
    help: str = ""
    """What its command does, for `--help`."""


@dataclass(frozen=True, kw_only=True)
class StageRecord:
    """What `stage.json` holds. It is written last: a directory without it is unfinished work."""

    stage: str
    fingerprint: str
    version: int
    result_id: str
    inputs: dict[str, str]
    """Result ids of the upstream stages: a forced upstream run voids what was made from the earlier result."""
    sections: dict[str, Any]
    headline: dict[str, Any]
    artifacts: dict[str, int]
    """Relative path → size in bytes; the result counts only while all are there."""
    seconds: float
    run_id: str
    commit: str
    versions: dict[str, str]
    projects: list[str] = field(default_factory=list)
    """Names of the projects that use it; none for a result of an earlier version."""
    directory: Path = field(compare=False)

    def write(self) -> None:
        """Commit the stage."""
        values = asdict(self)
        del values["directory"]
        with whole_file(self.directory / COMMIT_FILE) as draft:
            draft.write_text(json.dumps(values, indent=2), encoding="utf-8")


@dataclass(frozen=True, kw_only=True)
class StageContext:
    """What a stage is given beside its sections.

    ends_at: when a run with a budget has to end, by `time.time`; in the stages after `budget` when its trainings have
    to. afterwards: what is to be done once the result stands, such as removing what it went on from elsewhere.
    """

    directory: Path
    inputs: Mapping[str, StageRecord]
    run: Run
    tracker: Tracker
    compute: ComputeConfig
    console: Console
    commit: str
    ends_at: float | None = None
    afterwards: list[Callable[[], None]] = field(default_factory=list)

    def seconds_left(self, budget: str) -> float:
        """Of a run; a stage by itself has the whole budget."""
        return seconds_of(budget) if self.ends_at is None else self.ends_at - time.time()

    @property
    def storage(self) -> Path:
        """The folder of all results."""
        return self.directory.parent.parent

    @property
    def work(self) -> Path:
        """Scratch from which an interrupted stage resumes."""
        folder = self.directory / WORK_FOLDER
        folder.mkdir(exist_ok=True)
        return folder

    def input(self, stage: str, name: str) -> Path:
        """Path of a file that an upstream stage wrote."""
        return self.inputs[stage].directory / name

    def log_figure(self, figure: Figure, name: str) -> None:
        """Log a figure to the stage's run as PNG; the first that lacks letters says so."""
        from components.report.html import figure_png  # matplotlib takes a second, and a plan draws nothing
        from components.report.letters import missing_note

        self.run.log_image(figure_png(figure), name)
        if note := missing_note():
            self.console.warn_once("letters", note)


def section_values(config: Config, sections: tuple[str, ...]) -> dict[str, Any]:
    """The named sections as plain JSON values, without the passwords that addresses in them may hold."""
    chosen = {name: getattr(config, name) for name in sections}
    return {
        name: _redacted(value.model_dump(mode="json")) if isinstance(value, Section) else value
        for name, value in chosen.items()
    }


def _redacted(value: Any) -> Any:  # noqa: ANN401 - any JSON value
    if isinstance(value, dict):
        return {key: _redacted(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [_redacted(entry) for entry in value]
    return redact(value) if isinstance(value, str) else value


def fingerprint(stage: Stage, sections: Mapping[str, Any], upstream: Mapping[str, str], external: str = "") -> str:
    """Sha256 of the stage's name and version, its sections, its upstream fingerprints and its external digest."""
    sections = {
        name: {key: entry for key, entry in value.items() if f"{name}.{key}" not in stage.unhashed}
        if isinstance(value, dict)
        else value
        for name, value in sections.items()
    }
    identity = {
        "name": stage.name,
        "version": stage.version,
        "sections": sections,
        "upstream": dict(upstream),
        "external": external,
    }
    text = json.dumps(identity, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def list_artifacts(directory: Path) -> dict[str, int]:
    """Relative path → size of every file of a result (scratch and the commit file left out)."""
    files = (path for path in directory.rglob("*") if path.is_file())
    named = {path.relative_to(directory).as_posix(): path.stat().st_size for path in files}
    return {
        name: size for name, size in sorted(named.items()) if not name.startswith((f"{WORK_FOLDER}/", *COMMIT_NAMES))
    }


def read_record(directory: Path) -> StageRecord | None:
    """The committed record of a directory, or None where there is none.

    A file that cannot be read is not a commit: it was not written by `StageRecord.write`.
    """
    path = directory / COMMIT_FILE
    if not path.is_file():
        return None
    try:
        return StageRecord(**json.loads(path.read_text(encoding="utf-8")), directory=directory)
    except (ValueError, TypeError):
        return None


def missing_artifact(record: StageRecord) -> str | None:
    """The first file of a result that is gone or has another size."""
    for name, size in record.artifacts.items():
        path = record.directory / name
        if not path.is_file() or path.stat().st_size != size:
            return name
    return None
