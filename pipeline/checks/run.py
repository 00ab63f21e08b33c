"""All checks before a run, its dry run and in `doctor`.

A check is fast and changes nothing. Some have a second part that starts the service, for `doctor` only. The content of
the data source is checked when the plan is made.

Libraries are imported where a check needs them, so that a run with complete results starts fast.
"""

from __future__ import annotations

import functools
import platform
import shutil
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from components.display import counted
from components.errors import InputError
from pipeline.compute.resources import (
    check_compute,
    cpu_count,
    cpu_threads,
    driver_compute,
    memory_bytes,
    training_session,
)
from pipeline.config import Config
from pipeline.console import Console
from pipeline.loading import load
from pipeline.plan import PlannedStage, make_plan, upstream
from pipeline.provenance import package_versions
from pipeline.sections.embedding import backbones_in_question
from pipeline.sections.recipe import Recipe
from pipeline.stages import STAGE_NAMES, STAGES
from pipeline.storage import claim_storage
from pipeline.timed_plan import has_budget, plan_until

if TYPE_CHECKING:
    from components.tracking import Tracker

#: Free space below which a run gets a warning, and below which it is refused.
LITTLE_BYTES, TOO_LITTLE_BYTES = 2_000_000_000, 100_000_000
#: The stage outside of the main pipeline, whose range test covers other optimizers.
COMPARISON = "compare_lr"

ALL = frozenset(STAGE_NAMES)
#: Stages that build the model, and so need its weights.
TRAINING = frozenset({"embed", "lr_range_test", COMPARISON, "search", "confirm", "train", "deliver"})
#: Arbitrary, in place of the learning rates of a later range test, and of the batch size for the images.
ANY_BOUNDS, ANY_BATCH_SIZE = (1e-5, 1.0), 32

#: The result of a check, then its warnings, a sentence each.
Findings = tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Check:
    """A check that is made if one of its stages is to run.

    find: checks the configuration for the stages that are to run; raises `InputError` for what would stop them. start:
    starts the service; returns what happened.
    """

    name: str
    stages: frozenset[str]
    find: Callable[[Config, Set[str]], Findings]
    start: Callable[[Config], str] | None = None


class Outcome(NamedTuple):
    """The result of a check in `doctor`. detail: what was found, or the fault and its remedy."""

    name: str
    ok: bool
    detail: str


def checked_plan(config: Config, *, until: str, force: Sequence[str], console: Console) -> list[PlannedStage]:
    """Make and check the plan of a run; show warnings. Raises `InputError` with all faults, also of the data source."""
    faults: list[str] = []
    plan: list[PlannedStage] = []
    try:
        storage = check_storage(config)  # which the plan writes to
        plan = make_plan(config, STAGES, until=plan_until(config, until), force=force, console=console)
    except InputError as error:
        faults += str(error).splitlines()
    running = {item.stage.name for item in plan if item.action != "reused"}
    if faults or has_budget(config, until):  # as if all had to run
        running = {stage.name for stage in upstream(STAGES, until)} if until in ALL else set()
    notes: list[str] = [] if faults else [*storage[1:]]
    for check in CHECKS:
        if check.stages is ALL or check.stages & running:
            try:
                notes += check.find(config, running)[1:]
            except InputError as error:
                faults += str(error).splitlines()
    if faults:
        raise InputError("\n".join(dict.fromkeys(faults)))
    for note in notes:
        console.warn(note)
    return plan


def run_checks(config_source: str, overrides: Mapping[str, str]) -> list[Outcome]:
    """All checks for `doctor`, with their second parts, also after a failed one."""
    try:
        config = load(config_source, overrides)
    except InputError as error:
        return [Outcome("configuration", False, str(error))]
    running = {stage.name for stage in upstream(STAGES, STAGES[-1].name)}
    checks: list[tuple[str, Callable[[], Findings]]] = [
        ("packages", _packages),
        ("processor", lambda: (f"{cpu_count()} cores, {memory_bytes() / 1e9:.0f} GB memory",)),
        ("storage", lambda: check_storage(config)),
        ("data", lambda: _data(config)),
        *((check.name, functools.partial(_find_and_start, check, config, running)) for check in CHECKS),
    ]
    return [Outcome("configuration", True, f"{config_source} is valid"), *(_outcome(*check) for check in checks)]


def _outcome(name: str, check: Callable[[], Findings]) -> Outcome:
    try:
        return Outcome(name, True, "; ".join(check()))
    except (InputError, ImportError, OSError) as error:
        return Outcome(name, False, str(error))


def _find_and_start(check: Check, config: Config, running: Set[str]) -> Findings:
    found = check.find(config, running)
    return found if check.start is None else (*found, check.start(config))


def _packages() -> Findings:
    versions = {"python": platform.python_version(), **package_versions()}
    return (", ".join(f"{name} {version}" for name, version in versions.items()),)


def _data(config: Config) -> Findings:
    from pipeline.data.sources import read_source

    claim_storage(config, STAGE_NAMES)
    storage = Path(config.storage.root).absolute()
    return (read_source(storage, Console(), seed=config.seed, data=config.data)[0].description,)


def check_storage(config: Config) -> Findings:
    """Raise `InputError` if the storage folder cannot be written, or has no free space."""
    from components.home import check_writable

    root = Path(config.storage.root).absolute()
    try:
        root.mkdir(parents=True, exist_ok=True)
        check_writable(root)
    except OSError as error:
        raise InputError(
            f"storage.root={config.storage.root}: cannot be written ({error.strerror}: {error.filename}); "
            "give a folder that you may write"
        ) from error
    free = shutil.disk_usage(root).free
    if free < TOO_LITTLE_BYTES:
        raise InputError(f"storage.root={root}: only {free / 1e6:.0f} MB free; give a folder with more space")
    notes = [f"storage.root={root}: only {free / 1e9:.1f} GB free"] if free < LITTLE_BYTES else []
    return (f"{root}, {free / 1e9:.0f} GB free", *notes)


def _temporary_files(config: Config, running: Set[str]) -> Findings:
    from components.home import check_temporary_files

    return (check_temporary_files(),)


def _tracking(config: Config, running: Set[str]) -> Findings:
    from components.tracking import Tracker

    name = config.tracking.experiment or config.project.name
    Tracker.check(config.tracking.uri, experiment=name)
    return (f"experiment {name}",)


def connect(config: Config) -> Tracker:
    """The tracking store and the experiment of a configuration. Raises `InputError` if they cannot be used."""
    from components.tracking import Tracker

    return Tracker.connect(config.tracking.uri, experiment=config.tracking.experiment or config.project.name)


def _use_tracking(config: Config) -> str:
    """Use the tracking store, the artifact location of the experiment, and the registry."""
    from components.registry import Registry

    tracker = connect(config)
    place = tracker.write_and_remove()
    aliases = Registry(tracker, config.promote.model_name or config.project.name).aliases()
    return f"{tracker.shown_uri}, artifacts in {place}, {len(aliases)} aliases"


def _compute(config: Config, running: Set[str]) -> Findings:
    said, notes = [], []
    if running & TRAINING or ("prepare" in running and config.compute.ray_address is not None):
        share = check_compute(config.compute)
        said.append(f"{share.concurrent} trainings at a time, with {share.cpus} cores and {share.gpus:g} GPUs each")
    if running - {"prepare"}:  # all others run the model
        from pipeline.compute.device import is_timed, lacks_bfloat16, resolve_device

        # On a cluster the workers train, and each checks its own GPU.
        precision = "auto" if config.compute.ray_address is not None else config.recipe.precision
        device = resolve_device(driver_compute(config.compute), precision)
        timed = is_timed(driver_compute(config.compute), config.recipe.precision, config.budget)
        said.append(f"{device.target}, {device.precision}{', or bfloat16 if it trains faster' if timed else ''}")
        if config.recipe.precision == "auto" and lacks_bfloat16(device.target):
            notes.append("recipe.precision=auto: this GPU has no bfloat16 units, so trainings compute in float32")
    return ("; ".join(reversed(said)) or "no model is run", *notes)


def _ray(config: Config, running: Set[str]) -> Findings:
    if config.compute.ray_address is not None:
        return (f"cluster at {config.compute.ray_address}",)
    if COMPARISON not in running and not _needs_ray(config):
        return ("not needed",)
    from components.home import ray_folder

    folder, note = ray_folder()
    return (f"local, its files in {folder}", *([note] if note else []))


def _needs_ray(config: Config) -> bool:
    return bool(config.compute.ray_address or config.search.num_trials)


def _start_ray(config: Config) -> str:
    if not _needs_ray(config):
        return "not started"
    from components.cluster import map_on_cluster

    with training_session(config.compute):
        (cores,) = map_on_cluster(_worker_cores, [0])
    return f"started, and a task ran on a machine of {cores} cores"


def _worker_cores(task: int) -> int:
    return cpu_count()


def _serving(config: Config, running: Set[str]) -> Findings:
    """Check that the latency can be measured on the threads that it is for, and that a limit can be met."""
    from pipeline.compute.device import resolve_target

    settings, cores = config.serving, cpu_count()
    threads = settings.num_threads or cpu_threads(config.compute)
    on_cpu = resolve_target(driver_compute(config.compute)).type == "cpu"
    if on_cpu and settings.num_threads is not None and settings.num_threads > cores:
        raise InputError(
            f"serving.num_threads={settings.num_threads}: this process may use {cores} cores, so that latency cannot "
            f"be measured here; use at most {cores}, or run on a machine with more"
        )
    limit = "no latency limit"
    if settings.max_latency_ms is not None:
        from pipeline.checks.latency import check_latency

        limit = f"at most {settings.max_latency_ms:g} ms"
        _backbones(config, running)  # which would give no logits otherwise
        check_latency(config, threads=threads)
    return (f"{limit}, measured on {counted(threads, 'CPU thread') if on_cpu else 'the GPU'}",)


def _search(config: Config, running: Set[str]) -> Findings:
    """Check that the sampler can search the space, and that checkpoints can be written."""
    if config.search.num_trials > 1:
        _check_sampler(config)
    if config.compute.trial_storage is not None:
        _check_trial_storage(config.compute.trial_storage)
    return (f"{config.search.num_trials} trials, {config.search.sampler}, {config.search.scheduler_name}",)


def _check_trial_storage(place: str) -> None:
    from components.search.checkpoints import open_location

    try:
        system, folder = open_location(place)
        system.create_dir(folder, recursive=True)
        with system.open_output_stream(f"{folder}/.escapement") as stream:
            stream.write(b"")
        system.delete_file(f"{folder}/.escapement")
    except (OSError, ValueError) as error:
        raise InputError(
            f"compute.trial_storage={place}: cannot be written ({str(error).splitlines()[0]}); give a folder that "
            "every node sees, or the URI of an object store that you may write, such as s3://bucket/trials"
        ) from error


def _check_sampler(config: Config) -> None:
    from components.search.samplers import build_sampler
    from components.search.space import Space
    from pipeline.search_space import expand, sampler_settings, settings_of

    backbones, optimizers = config.embed.backbones or (), config.lr_range_test.optimizers or ()
    rates = {(backbone, optimizer): ANY_BOUNDS for backbone in backbones for optimizer in optimizers}
    any_numbers = {"lr": ANY_BOUNDS[0], "batch_size": ANY_BATCH_SIZE}
    default = Recipe(model=config.model, recipe=config.recipe.model_copy(update=any_numbers))
    dimensions = tuple(expand(entry, rates, ANY_BATCH_SIZE) for entry in config.search.space)
    space = Space(dimensions, settings_of(default))
    build_sampler(config.search.sampler, sampler_settings(config.search, space, seed=0))


def _backbones(config: Config, running: Set[str]) -> Findings:
    """Check that the backbones exist, accept the image sizes and dropout rates, and give features of several depths."""
    from components.models.backbones import check_rates
    from components.models.skeleton import check_feature_maps, check_input_size
    from pipeline.checks.space import image_sizes

    faults, said = [], []
    for backbone in backbones_in_question(config.embed, config.model):
        sizes = image_sizes(config, backbone, compared=COMPARISON in running)
        if config.recipe.grow_from is not None:
            sizes[f"recipe.grow_from={config.recipe.grow_from}"] = config.recipe.grow_from
        try:
            check_rates(
                backbone,
                drop_rate=_highest(config, "drop_rate"),
                drop_path_rate=_highest(config, "drop_path_rate"),
            )
            for where, size in sizes.items():
                check_input_size(backbone, size, where=where)
            check_feature_maps(backbone)
        except InputError as error:
            faults.append(str(error))
        said.append(f"{backbone} at {', '.join(str(size) for size in sorted(set(sizes.values())))} px")
    if faults:
        raise InputError("\n".join(faults))
    return ("; ".join(said),)


def _highest(config: Config, rate: str) -> float:
    """The highest value of a dropout rate in any training."""
    searched = [dimension for dimension in config.search.space if dimension.sets == f"model.{rate}"]
    configured: float = getattr(config.model, rate)
    return max([configured, *(float(value) for one in searched for value in one.choices or (one.high or 0.0,))])


def _weights(config: Config, running: Set[str]) -> Findings:
    """Check that the weights are available and fit the backbone."""
    from components.models.catalogue import is_known
    from components.models.weights import check_weights

    weights, backbones = config.model.weights, backbones_in_question(config.embed, config.model)
    if len(backbones) > 1 and weights.startswith("file:"):
        raise InputError(
            f"model.weights={weights}: a file holds the weights of one backbone, and "
            f"{', '.join(backbones)} are searched; use pretrained, package or none, or search one backbone"
        )
    found = {name: check_weights(name, weights) for name in backbones if is_known(name)}
    details, notes = [], []
    for name, said in found.items():
        first, _, others = said.partition("; ")
        details.append(f"{name}: {first}")
        notes += [f"model.weights={weights}: {others}"] if others else []
    return ("; ".join(details), *notes)


CHECKS: tuple[Check, ...] = (
    Check(name="temporary files", stages=ALL, find=_temporary_files),
    Check(name="tracking", stages=ALL, find=_tracking, start=_use_tracking),
    Check(name="compute", stages=TRAINING | {"prepare", "evaluate", "promote"}, find=_compute),
    Check(name="ray", stages=frozenset({"search", "confirm", COMPARISON}), find=_ray, start=_start_ray),
    Check(name="search", stages=frozenset({"search"}), find=_search),
    Check(name="backbones", stages=TRAINING, find=_backbones),
    Check(name="weights", stages=TRAINING, find=_weights),
    Check(name="serving", stages=frozenset({"deliver"}), find=_serving),
)
