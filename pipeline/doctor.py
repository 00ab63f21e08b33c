"""`escapement doctor`: every check that a run depends on, each with what it found or what to do."""

from __future__ import annotations

import platform
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from components.errors import InputError
from pipeline.compute.machine import cpu_count
from pipeline.config import Config
from pipeline.loading import load
from pipeline.provenance import package_versions
from pipeline.runner import check_storage
from pipeline.storage import claim_storage

#: Less free space than this makes a run likely to stop half-way.
MIN_FREE_BYTES = 2_000_000_000


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
    checks: dict[str, Callable[[Config], str]] = {
        "packages": _packages,
        "processor": _processor,
        "device": _device,
        "storage": _storage,
        "tracking": _tracking,
        "weights": _weights,
        "data": _data,
        "ray": _ray,
    }
    return [
        Check("configuration", True, f"{config_source} is valid"),
        *(_check(name, check, config) for name, check in checks.items()),
    ]


def _check(name: str, check: Callable[[Config], str], config: Config) -> Check:
    try:
        return Check(name, True, check(config))
    except (InputError, ImportError, OSError) as error:
        return Check(name, False, str(error))


def _packages(config: Config) -> str:
    versions = {"python": platform.python_version(), **package_versions()}
    return ", ".join(f"{name} {version}" for name, version in versions.items())


def _processor(config: Config) -> str:
    import psutil

    return f"{cpu_count()} cores, {psutil.virtual_memory().total / 1e9:.0f} GB memory"


def _device(config: Config) -> str:
    from pipeline.training import resolve_device

    device = resolve_device(config.compute)
    return f"{device.target}, {'float32' if device.autocast is None else str(device.autocast).removeprefix('torch.')}"


def _storage(config: Config) -> str:
    from pipeline.stages import STAGE_NAMES

    check_storage(config)
    claim_storage(config, STAGE_NAMES)
    root = Path(config.storage.root).absolute()
    free = shutil.disk_usage(root).free
    if free < MIN_FREE_BYTES:
        raise InputError(f"storage.root={root}: only {free / 1e9:.1f} GB free; give a folder with more space")
    return f"{root}, {free / 1e9:.0f} GB free"


def _tracking(config: Config) -> str:
    from components.tracking import Tracker

    tracker = Tracker.connect(config.tracking.uri, experiment=config.tracking.experiment or config.project.name)
    return f"{tracker.shown_uri}, experiment {tracker.experiment_id}"


def _weights(config: Config) -> str:
    from components.models.weights import check_weights

    check_weights(config.model.backbone, config.model.weights)
    return f"{config.model.backbone}: {config.model.weights}"


def _data(config: Config) -> str:
    from pipeline.data.sources import list_images

    listing = list_images(config.data, Path(config.storage.root).absolute())
    return listing.description


def _ray(config: Config) -> str:
    import ray

    from pipeline.compute.resources import check_compute

    check_compute(config.compute)
    where = config.compute.ray_address or "local"
    return f"ray {ray.__version__}, {where}"
