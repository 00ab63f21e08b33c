"""Toy stages that write one small file, and a tracker that keeps its runs in memory."""

import contextlib
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from pipeline.config import Config
from pipeline.console import Console
from pipeline.loading import load
from pipeline.plan import make_plan
from pipeline.runner import PipelineRun
from pipeline.stage import Stage


@dataclass
class FakeRun:
    id: str
    name: str
    status: str = "RUNNING"
    params: dict = field(default_factory=dict)
    metrics: dict = field(default_factory=dict)
    tags: dict = field(default_factory=dict)
    texts: dict = field(default_factory=dict)
    note: str = ""

    def set_note(self, markdown) -> None:
        self.note = markdown

    def log_params(self, params) -> None:
        self.params |= params

    def log_metrics(self, metrics, *, step=0) -> None:
        self.metrics |= metrics

    def set_tags(self, tags) -> None:
        self.tags |= tags

    def log_text(self, text, name) -> None:
        self.texts[name] = text

    def finish(self, status="FINISHED") -> None:
        self.status = status


@dataclass
class FakeTracker:
    runs: list = field(default_factory=list)
    ended: list = field(default_factory=list)
    uri: str = "memory:"
    shown_uri: str = "memory:"
    experiment_id: str = "7"

    def local_artifacts(self) -> Path | None:
        return None

    def reap(self) -> int:
        return 0

    def start_root(self, name, tags) -> FakeRun:
        return self._add(name, tags)

    def start_stage(self, root, stage, fingerprint, *, resume) -> FakeRun:
        return self._add(stage, {"fingerprint": fingerprint, "resume": resume})

    def unfinished(self, run_id) -> FakeRun | None:
        return next((run for run in self.runs if run.id == run_id and run.status != "FINISHED"), None)

    @contextlib.contextmanager
    def heartbeat(self, run):
        yield

    def end_tree(self, run_id, status) -> int:
        self.ended.append((run_id, status))
        return 1

    def _add(self, name, tags) -> FakeRun:
        run = FakeRun(f"run-{len(self.runs)}", name, tags=dict(tags))
        self.runs.append(run)
        return run


class Toys:
    """Three stages, `first` → `second` → `third` (which reads both), and how often each of them ran."""

    def __init__(self) -> None:
        self.ran: list[str] = []
        self.seen: dict[str, dict] = {}
        self.during: dict = {}
        self.source = "pixels"
        self.stages = (
            self.stage("first", (), ("seed", "data"), external=lambda storage, console, **sections: self.source),
            self.stage("second", ("first",), ("recipe",), resumes=True),
            self.stage("third", ("first", "second"), ("seed", "train")),
        )

    def stage(self, name, inputs, sections, **options) -> Stage:
        options = {"version": 1} | options
        return Stage(name=name, inputs=inputs, sections=sections, run=self._runner(name), **options)

    def _runner(self, name):
        def run(context, **sections):
            self.ran.append(name)
            self.seen[name] = sections
            action = self.during.pop(name, None)
            if action is not None:
                action(context)
            upstream = "".join(context.input(up, "out.txt").read_text() for up in context.inputs)
            (context.directory / "out.txt").write_text(f"{upstream}{name};")
            (context.work / "scratch").write_text("x")
            return {f"{name}_number": 1.5, f"{name}_good": True, f"{name}_bad": False, f"{name}_none": None}

        return run


@pytest.fixture
def toys() -> Toys:
    return Toys()


@pytest.fixture
def fake_tracker() -> FakeTracker:
    return FakeTracker()


@pytest.fixture
def config(tmp_path) -> Config:
    return load("smoke", {"storage.root": str(tmp_path / "storage")})


@pytest.fixture
def plan(toys, config):
    """`plan(overrides, until=…, force=…, stages=…)`: the plan as {stage name: planned stage}."""

    def make(overrides=None, *, until="third", force=(), stages=None):
        changed = load("smoke", {"storage.root": config.storage.root, **(overrides or {})})
        planned = make_plan(changed, stages or toys.stages, until=until, force=force)
        return {item.stage.name: item for item in planned}

    return make


@pytest.fixture
def execute(toys, config, fake_tracker, console):
    """Plan and run; the summary."""

    def go(overrides=None, *, until="third", force=(), stages=None, tracker=None, name="toys"):
        changed = load("smoke", {"storage.root": config.storage.root, **(overrides or {})})
        planned = make_plan(changed, stages or toys.stages, until=until, force=force)
        return PipelineRun(planned, changed, tracker or fake_tracker, console).execute(name)

    return go


@pytest.fixture
def console() -> Console:
    return Console(quiet=True)


@pytest.fixture
def storage(config) -> Path:
    return Path(config.storage.root)
