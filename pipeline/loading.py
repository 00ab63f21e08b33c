"""The one way to load a configuration.

A configuration file holds differences only. Precedence is default < file < override. Faults are collected and reported
together, each with its dotted path.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from components.data.lookup import local_place
from components.errors import InputError, faults_of
from pipeline.budget.allotment import LEAST_FOLDS, smaller_size
from pipeline.checks.design import design_faults
from pipeline.checks.space import image_size_faults, space_faults, with_parsed_values
from pipeline.checks.views import views_faults
from pipeline.config import Config
from pipeline.overriding import merge, override, validate
from pipeline.sections.data import DataConfig
from pipeline.sections.learning_rate import CompareEntry
from pipeline.sections.recipe import Recipe, RecipeConfig
from pipeline.sections.search import Dimension
from pipeline.yaml_text import read_yaml

CONFIGS = Path(__file__).parent / "configs"


def load(source: str | Path, overrides: Mapping[str, Any] | None = None, *, trains: bool = True) -> Config:
    """Read a configuration, merge the overrides, validate once, and resolve what follows from the rest.

    `source` is the name of a shipped configuration or the path of a YAML file. trains: False where nothing is trained
    at the rates of the range test, which may then test any optimizers. Raises `InputError` with every fault.
    """
    overrides = dict(overrides or {})
    values = merge(_read(source), overrides)
    config = validate(Config, values)
    return _resolve(config, pinned=set(overrides), trains=trains)


def for_comparison(config: Config) -> Config:
    """The configuration of a comparison: its range test covers the optimizers of all entries on its backbone."""
    recipes = entry_recipes(Recipe(model=config.model, recipe=config.recipe), config.compare_lr.entries)
    optimizers = tuple(dict.fromkeys(recipe.recipe.optimizer for recipe in recipes.values()))
    tests = config.lr_range_test.model_copy(update={"optimizers": optimizers, "backbones": (config.model.backbone,)})
    return config.model_copy(update={"lr_range_test": tests})


def entry_recipes(base: Recipe, entries: Sequence[CompareEntry]) -> dict[str, Recipe]:
    """The recipe of each entry of a comparison, by its name; its rate is open. Raises `InputError` with every fault."""
    open_rate = base.model_copy(update={"recipe": base.recipe.model_copy(update={"lr": "auto"})})
    recipes, faults = {}, []
    for index, entry in enumerate(entries):
        if entry.sets.get("recipe.batch_size") == "auto":
            faults.append(
                f"compare_lr.entries.{index} ({entry.name}): recipe.batch_size=auto: is that of the recipe already; "
                "give a number, or leave it out"
            )
            continue
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
    path = Path(local_place(str(source)))
    if str(source) in shipped_configs():
        path = CONFIGS / f"{source}.yaml"
    if not path.is_file():
        known = ", ".join(shipped_configs())
        raise InputError(f"config={source}: no such file; give a YAML file or one of: {known}")
    try:
        values = read_yaml(path.read_bytes(), source=f"config={source}")
    except OSError as error:
        raise InputError(f"config={source}: cannot be read ({error.strerror}); allow it to be read") from error
    if not values:
        return {}
    if not isinstance(values, dict):
        kind = "list" if isinstance(values, list) else "text"
        raise InputError(f"config={source}: is one {kind}; write sections with their keys, as in data: {{source: …}}")
    return values


def _resolve(config: Config, *, pinned: set[str], trains: bool) -> Config:
    """Fill in what follows from other keys, so that the resolved configuration says all of it."""
    searched = (dimension for dimension in config.search.space if dimension.sets not in pinned)
    space = tuple(with_parsed_values(config, dimension) for dimension in searched)
    faults = [*space_faults(config, space), *_goodless_faults(config), *image_size_faults(config, space)]
    faults += [*design_faults(config, space), *views_faults(config, space)]
    tried = space if config.search.num_trials > 1 else ()  # the first trial is the configured recipe
    optimizers = _used(tried, "recipe.optimizer", config.recipe.optimizer)
    backbones = _used(tried, "model.backbone", config.model.backbone)
    tests, embed = config.lr_range_test, config.embed
    embedded = tuple(dict.fromkeys([*backbones, *(tests.backbones or ())]))
    if trains:
        if config.recipe.lr == "auto" or any(item.bounds or "auto" in (item.choices or ()) for item in tried):
            faults += _left_out_faults("lr_range_test.optimizers", tests.optimizers, optimizers)
            faults += _left_out_faults("lr_range_test.backbones", tests.backbones, backbones[1:])
        faults += _left_out_faults("embed.backbones", embed.backbones, embedded)
    recipe = Recipe(model=config.model, recipe=config.recipe)
    faults += faults_of(lambda: entry_recipes(recipe, config.compare_lr.entries))
    if faults:
        raise InputError("\n".join(faults))
    return config.model_copy(
        update={
            "data": _with_folds(config, pinned),
            "recipe": _with_escape_budget(config),
            "search": config.search.model_copy(update={"space": space}),
            "embed": embed.model_copy(
                update={"backbones": embed.backbones or embedded, "image_sizes": _sizes_in_question(config)}
            ),
            "lr_range_test": tests.model_copy(
                update={"optimizers": tests.optimizers or optimizers, "backbones": tests.backbones or backbones}
            ),
            "promote": config.promote.model_copy(
                update={"model_name": config.promote.model_name or config.project.name}
            ),
            "tracking": config.tracking.model_copy(
                update={"experiment": config.tracking.experiment or config.project.name}
            ),
        }
    )


def _with_folds(config: Config, pinned: set[str]) -> DataConfig:
    """With a budget there is seldom a network for each fold, and the fewer folds, the less each network learns from."""
    data = config.data
    if config.budget is None or "data.num_folds" in pinned or data.design == "hold_out":
        return data
    return data.model_copy(update={"num_folds": max(data.num_folds, LEAST_FOLDS)})


def _sizes_in_question(config: Config) -> tuple[int, ...] | None:
    """With a budget also about half of the size, at which trainings take a quarter of the time."""
    full, sizes = config.recipe.image_size or config.data.image_size, config.embed.image_sizes
    smaller = smaller_size(full) if config.budget is not None and sizes is None else None
    if smaller is None:
        return sizes
    from components.models.catalogue import describe_backbone, is_known  # timm, which takes seconds

    backbone = config.model.backbone
    fixed = is_known(backbone) and describe_backbone(backbone).fixed_input_size
    return None if fixed else (full, smaller)


def _used(space: tuple[Dimension, ...], key: str, own: str) -> tuple[str, ...]:
    """The configured value of a key, then those that are searched."""
    searched = [dimension.choices or () for dimension in space if dimension.sets == key]
    return tuple(dict.fromkeys([own, *(name for choices in searched for name in choices)]))


def _with_escape_budget(config: Config) -> RecipeConfig:
    """The recipe with the operating point's budget, where an objective reads one: else no result depends on it."""
    entries = (entry.sets.get("recipe.objective") for entry in config.compare_lr.entries)
    needed = "overkill_at_budget" in (config.recipe.objective, *entries)
    if not needed or config.recipe.escape_budget is not None:
        return config.recipe
    return config.recipe.model_copy(update={"escape_budget": config.operating_point.escape_budget})


def _left_out_faults(key: str, named: tuple[str, ...] | None, used: tuple[str, ...]) -> list[str]:
    """What trainings may use has to be embedded and tested, where a key names what is."""
    left_out = [name for name in used if named and name not in named]
    if not named or not left_out:
        return []
    return [
        f"{key}={', '.join(named)}: leaves out {', '.join(left_out)}, which trainings may use; "
        "add it, or null for all that are used"
    ]


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
