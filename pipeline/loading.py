"""The one way to load a configuration, and the one way to override it.

A configuration file holds differences only. Precedence is default < file < override; `override` is the single
mechanism behind `--set`, `mlflow run -P` and search trials. Faults are collected and reported together, each with its
dotted path.
"""

from __future__ import annotations

import difflib
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import ValidationError

from components.errors import InputError
from pipeline.config import Config
from pipeline.sections.base import Section
from pipeline.sections.rates import CompareEntry
from pipeline.sections.recipe import Recipe
from pipeline.sections.search import Dimension

CONFIGS = Path(__file__).parent / "configs"

SectionT = TypeVar("SectionT", bound=Section)

#: What lays out the rate over the final training: the range test and the search use rates of their own.
SCHEDULE_KEYS = (
    "recipe.schedule",
    "recipe.final_lr_fraction",
    "recipe.schedule_drops",
    "recipe.schedule_cycles",
    "recipe.cycle_growth",
    "recipe.cycle_low",
    "recipe.rise_fraction",
    "recipe.cooldown_fraction",
    "recipe.plateau_factor",
    "recipe.plateau_patience",
    "recipe.ema_decay",
)
#: Keys that no trial may set, and what decides them.
DECIDED_ELSEWHERE = {
    **dict.fromkeys(SCHEDULE_KEYS, "trials run at a constant rate and are compared on averaged weights"),
    "recipe.objective": "it is what trials are compared by",
    "model.backbone": "the range test holds for one backbone",
    "model.weights": "the range test holds for one backbone",
}


def load(source: str | Path, overrides: Mapping[str, Any] | None = None, *, trains: bool = True) -> Config:
    """Read a configuration, merge the overrides, validate once, and resolve what follows from the rest.

    `source` is the name of a shipped configuration or the path of a YAML file. trains: False where nothing is trained
    at the rates of the range test, which may then test any optimizers. Raises `InputError` with every fault.
    """
    overrides = dict(overrides or {})
    values = _merge(_read(source), overrides)
    config = _validate(Config, values)
    return _resolve(config, pinned=set(overrides), trains=trains)


def override(section: SectionT, overrides: Mapping[str, Any]) -> SectionT:
    """The same section with some dotted keys replaced; strings are read as YAML. Raises `InputError`."""
    return _validate(type(section), _merge(section.model_dump(), overrides))


def for_comparison(config: Config) -> Config:
    """The configuration of a comparison: its range test covers the optimizers of all entries, and no others."""
    recipes = entry_recipes(Recipe(model=config.model, recipe=config.recipe), config.compare_lr.entries)
    optimizers = tuple(dict.fromkeys(recipe.recipe.optimizer for recipe in recipes.values()))
    tests = config.lr_range_test.model_copy(update={"optimizers": optimizers})
    return config.model_copy(update={"lr_range_test": tests})


def entry_recipes(base: Recipe, entries: Sequence[CompareEntry]) -> dict[str, Recipe]:
    """The recipe of each entry of a comparison, by its name; its rate is open. Raises `InputError` with every fault."""
    open_rate = base.model_copy(update={"recipe": base.recipe.model_copy(update={"lr": "auto"})})
    recipes, faults = {}, []
    for index, entry in enumerate(entries):
        try:
            recipes[entry.name] = override(open_rate, entry.sets)
        except InputError as error:
            faults += [f"compare_lr.entries.{index} ({entry.name}): {line}" for line in str(error).splitlines()]
    if faults:
        raise InputError("\n".join(faults))
    return recipes


def shipped_configs() -> list[str]:
    """Names of the configurations that come with the project."""
    return sorted(path.stem for path in CONFIGS.glob("*.yaml"))


def _read(source: str | Path) -> dict[str, Any]:
    path = Path(source)
    if str(source) in shipped_configs():
        path = CONFIGS / f"{source}.yaml"
    if not path.is_file():
        known = ", ".join(shipped_configs())
        raise InputError(f"config={source}: no such file; give a YAML file or one of: {known}")
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, ValueError) as error:  # ValueError: not UTF-8, or a date that there is not
        raise InputError(f"config={source}: not valid YAML: {error}") from error
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise InputError(f"config={source}: must map sections to values, not be a {type(values).__name__}")
    return values


def _merge(values: Mapping[str, Any], overrides: Mapping[str, Any]) -> dict[str, Any]:
    merged = {key: dict(value) if isinstance(value, dict) else value for key, value in values.items()}
    for dotted, value in overrides.items():
        *parents, leaf = dotted.split(".")
        node = merged
        for parent in parents:
            child = node.get(parent)
            node[parent] = dict(child) if isinstance(child, dict) else {}
            node = node[parent]
        node[leaf] = _parse(value)
    return merged


def _parse(value: Any) -> Any:  # noqa: ANN401 - whatever a YAML scalar can be
    if not isinstance(value, str):
        return value
    # Scalars are left to their keys' types: YAML would cut `folder:/lots #2` short and read a class `no` as false.
    if value not in ("null", "~") and not value.startswith(("[", "{")):
        return value
    try:
        return yaml.safe_load(value)
    except (yaml.YAMLError, ValueError):
        return value


def _validate(kind: type[SectionT], values: Mapping[str, Any]) -> SectionT:
    try:
        return kind.model_validate(dict(values))
    except ValidationError as error:
        faults = [_describe(kind, dict(fault)) for fault in error.errors(include_url=False)]
        raise InputError("\n".join(faults)) from error


def _describe(kind: type[Section], fault: dict[str, Any]) -> str:
    location = [str(part) for part in fault["loc"] if not _is_union_branch(str(part))]
    path, value = ".".join(location), fault["input"]
    if fault["type"] == "extra_forbidden":
        known = _known_keys(kind, location[:-1])
        close = difflib.get_close_matches(location[-1], known, n=1)
        hint = f"did you mean {close[0]}?" if close else f"known here: {', '.join(known)}"
        return f"{path}: unknown key; {hint}"
    shown = "" if isinstance(value, dict | Section) else f"={value}"
    return f"{path}{shown}: {_lower_first(fault['msg'].removeprefix('Value error, '))}"


def _is_union_branch(part: str) -> bool:
    """Pydantic adds the tried type of a union (`float`, `literal['auto']`) to a fault's location."""
    return part in {"float", "int", "str", "bool"} or "[" in part


def _lower_first(message: str) -> str:
    return message[:1].lower() + message[1:]


def _known_keys(kind: type[Section], parents: list[str]) -> list[str]:
    """The keys below a dotted path; empty where the path leaves the typed sections."""
    for parent in parents:
        if parent.isdigit():
            continue
        annotation = kind.model_fields[parent].annotation
        candidates = [annotation, *typing.get_args(annotation)]
        kind = next((c for c in candidates if isinstance(c, type) and issubclass(c, Section)), Section)
    return list(kind.model_fields)


def _resolve(config: Config, *, pinned: set[str], trains: bool) -> Config:
    """Fill in what follows from other keys, so that the resolved configuration says all of it."""
    space = tuple(dimension for dimension in config.search.space if dimension.sets not in pinned)
    faults = [*_space_faults(config, space), *_goodless_faults(config)]
    searched = [dimension.choices or () for dimension in space if dimension.sets == "recipe.optimizer"]
    used = tuple(dict.fromkeys([config.recipe.optimizer, *(name for choices in searched for name in choices)]))
    optimizers = config.lr_range_test.optimizers or used
    if trains:
        faults += _range_test_faults(config, space, [name for name in used if name not in optimizers])
    faults += _comparison_faults(config)
    if faults:
        raise InputError("\n".join(faults))
    return config.model_copy(
        update={
            "search": config.search.model_copy(update={"space": space}),
            "lr_range_test": config.lr_range_test.model_copy(update={"optimizers": optimizers}),
            "promote": config.promote.model_copy(
                update={"model_name": config.promote.model_name or config.project.name}
            ),
            "tracking": config.tracking.model_copy(
                update={"experiment": config.tracking.experiment or config.project.name}
            ),
        }
    )


def _space_faults(config: Config, space: tuple[Dimension, ...]) -> list[str]:
    """Every searched key exists, is searched once, accepts its values, and is not decided by something else."""
    faults = []
    trial = Recipe(model=config.model, recipe=config.recipe)
    names = [dimension.sets for dimension in space]
    for index, dimension in enumerate(space):
        where = f"search.space.{index}.sets={dimension.sets}"
        if dimension.sets in DECIDED_ELSEWHERE:
            why = DECIDED_ELSEWHERE[dimension.sets]
            faults.append(f"{where}: cannot be searched: {why}; take it out of the space")
            continue
        if names.count(dimension.sets) > 1 and names.index(dimension.sets) == index:
            faults.append(f"{where}: searched {names.count(dimension.sets)} times; keep one")
        for value in _probes(dimension):
            try:
                override(trial, {dimension.sets: value})
            except InputError as error:
                faults.append(f"{where}: {error}")
                break
    if config.search.num_trials > 1 and not space:
        faults.append("search.space: empty, so there is nothing to search; name a dimension or set search.num_trials=1")
    return faults


def _probes(dimension: Dimension) -> tuple[Any, ...]:
    """Values that the searched key has to accept: every choice; of an interval the ends and a value between."""
    if dimension.low is None or dimension.high is None:
        return dimension.choices or ()
    between = dimension.low + 0.381966 * (dimension.high - dimension.low)  # no whole number: it has to be real
    return (dimension.low, dimension.high, between)


def _range_test_faults(config: Config, space: tuple[Dimension, ...], untested: list[str]) -> list[str]:
    """Where the range test gives a rate, it has to test every optimizer that may ask for one."""
    asked = config.recipe.lr == "auto" or any(
        dimension.bounds is not None or "auto" in (dimension.choices or ()) for dimension in space
    )
    if not asked or not untested:
        return []
    tested = ", ".join(config.lr_range_test.optimizers or ())
    return [
        f"lr_range_test.optimizers={tested}: leaves out {', '.join(untested)}, whose rate the range test is to give; "
        "add it, or null to test all that are used"
    ]


def _comparison_faults(config: Config) -> list[str]:
    try:
        entry_recipes(Recipe(model=config.model, recipe=config.recipe), config.compare_lr.entries)
    except InputError as error:
        return str(error).splitlines()
    return []


def _goodless_faults(config: Config) -> list[str]:
    """A problem of defect types only has no defect score, so nothing may ask for one."""
    if config.data.good_labels:
        return []
    faults = []
    if config.recipe.objective != "balanced_accuracy":
        faults.append(
            f"recipe.objective={config.recipe.objective}: needs a good class, and data.good_labels is empty; "
            "use balanced_accuracy"
        )
    if config.promote.gates.min_balanced_accuracy is None:
        faults.append(
            "promote.gates.min_balanced_accuracy=None: the only gate that applies where data.good_labels is empty; "
            "give a bound"
        )
    return faults
