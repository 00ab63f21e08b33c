"""`escapement doctor`: every check that a run depends on, each with what it found or what to do.

They are those of `pipeline.checks.run`, and where these only look, here the thing itself is started as a run starts it.
"""

from __future__ import annotations

import functools
import platform
from collections.abc import Callable, Iterator, Mapping, Set
from dataclasses import dataclass
from pathlib import Path

from components.errors import InputError
from pipeline.checks import run as checks
from pipeline.checks.run import CHECKS, check_storage
from pipeline.compute.machine import cpu_count, memory_bytes
from pipeline.config import Config
from pipeline.console import Console
from pipeline.data.sources import list_images
from pipeline.loading import load
from pipeline.plan import make_plan, upstream
from pipeline.provenance import package_versions
from pipeline.stages import STAGES


@dataclass(frozen=True)
class Check:
    name: str
    ok: bool
    detail: str


def run_checks(config_source: str, overrides: Mapping[str, str]) -> list[Check]:
    """All checks; one that fails does not keep the others from being made."""
    try:
        config = load(config_source, overrides)
    except InputError as error:
        return [Check("configuration", False, str(error))]
    return [Check("configuration", True, f"{config_source} is valid"), *_checks(config)]


def _checks(config: Config) -> Iterator[Check]:
    running = {stage.name for stage in upstream(STAGES, STAGES[-1].name)}
    yield _made("packages", _packages)
    yield _made("processor", _processor)
    yield _made("storage", lambda: _told(check_storage(config)))
    yield _made("data", functools.partial(_data, config))
    for check in CHECKS:
        yield _made(check.name, functools.partial(_found_and_started, check, config, running))


def _made(name: str, check: Callable[[], str]) -> Check:
    try:
        return Check(name, True, check())
    except (InputError, ImportError, OSError) as error:
        return Check(name, False, str(error))


def _found_and_started(check: checks.Check, config: Config, running: Set[str]) -> str:
    found = _told(check.find(config, running))
    return found if check.start is None else f"{found}; {check.start(config)}"


def _told(finding: checks.Finding) -> str:
    return "; ".join([finding.detail, *finding.notes])


def _packages() -> str:
    versions = {"python": platform.python_version(), **package_versions()}
    return ", ".join(f"{name} {version}" for name, version in versions.items())


def _processor() -> str:
    return f"{cpu_count()} cores, {memory_bytes() / 1e9:.0f} GB memory"


def _data(config: Config) -> str:
    """The source is read as a run reads it, whose plan then finds the digests of its files."""
    make_plan(config, STAGES, until=STAGES[0].name, console=Console())
    return list_images(config.data, Path(config.storage.root).absolute()).description
