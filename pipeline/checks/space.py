"""Checks before anything starts of what varies: the keys of a search space, and the image sizes of all trainings."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from typing import Any

from pydantic import ValidationError

from components.errors import InputError
from pipeline.config import Config
from pipeline.overriding import override, parsed_value
from pipeline.sections.learning_rate import CompareEntry
from pipeline.sections.recipe import NEEDS, OBJECTIVE_KEYS, SCHEDULE_KEYS, Recipe, RecipeConfig
from pipeline.sections.search import Dimension, SearchConfig

Space = tuple[Dimension, ...]

IMAGE_SIZE = "recipe.image_size"
BACKBONE = "model.backbone"
#: The schedule of trials, by the horizon.
HORIZONS = {
    "constant": "trials run at a constant rate and are compared on averaged weights",
    "wsd": "trials run at a constant rate, and copies of them are cooled down",
}


def space_faults(config: Config, space: Space) -> list[str]:
    """One line for each fault. space: the dimensions that no override has pinned. The sampler checks the rest."""
    faults = [fault for index in range(len(space)) for fault in _dimension_faults(config, space, index)]
    faults = faults or [*_cycle_faults(space), *_pair_faults(config, space)]
    search = config.search
    if search.num_trials > 1 and not space:
        faults.append("search.space: empty, so there is nothing to search; add a dimension or set search.num_trials=1")
    if search.num_trials > 1 and search.folds and search.folds != config.data.num_folds:
        faults.append(
            f"search.folds={search.folds}: the folds are those of the data, and data.num_folds={config.data.num_folds};"
            " give both the same number"
        )
    return faults


def with_parsed_values(config: Config, dimension: Dimension) -> Dimension:
    """The dimension with parsed choices and conditions: `adamw` for the text `AdamW`."""
    recipe = Recipe(model=config.model, recipe=config.recipe)
    if dimension.choices is None and not dimension.when:
        return dimension
    choices = dimension.choices and tuple(_plain(recipe, dimension.sets, choice) for choice in dimension.choices)
    when = {key: [_plain(recipe, key, value) for value in values] for key, values in dimension.conditions().items()}
    single = {key: values[0] for key, values in when.items() if not isinstance(dimension.when[key], list | tuple)}
    return dimension.model_copy(update={"choices": choices, "when": when | single})


def _dimension_faults(config: Config, space: Space, index: int) -> list[str]:
    dimension = space[index]
    where = f"search.space.{index}.sets={dimension.sets}"
    decided = _decided_elsewhere(config.search, dimension.sets)
    if decided:
        return [f"{where}: cannot be searched: {decided}; remove it from the space"]
    faults = []
    if dimension.sets == "recipe.batch_size" and "auto" in (dimension.choices or ()):
        faults.append(f"{where}: auto is decided by the number of images before the search; give numbers")
    names = [other.sets for other in space]
    if names.count(dimension.sets) > 1 and names.index(dimension.sets) == index:
        faults.append(f"{where}: searched {names.count(dimension.sets)} times; keep one")
    trial = Recipe(model=config.model, recipe=config.recipe)
    for value in _probes(dimension):
        try:
            override(trial, _with_needed_keys(dimension.sets, value, space))
        except InputError as error:
            faults += [f"{where}: {line}" for line in str(error).splitlines()]
            break
    return [*faults, *_condition_faults(config, space, index), *_no_effect_faults(config, space, index)]


def _decided_elsewhere(search: SearchConfig, key: str) -> str:
    """The reason why no trial may set a key; empty if it may."""
    if key in SCHEDULE_KEYS and search.horizon != "fixed":
        return f"{HORIZONS[search.horizon]} (search.horizon=fixed searches schedules)"
    if key in OBJECTIVE_KEYS:
        return "trials are compared by it"
    if key == "recipe.precision":
        return "the range test and all trials need the same precision"
    if key == "model.weights":
        return "the range test and all backbones need the same kind of weights"
    return ""


def _with_needed_keys(key: str, value: Any, space: Space) -> dict[str, Any]:  # noqa: ANN401 - whatever the key holds
    """A value of a key, with the value of another searched key without which it has no effect."""
    needed = NEEDS.get(key)
    searched = {dimension.sets for dimension in space}
    return {key: value} | ({needed[0]: needed[1]} if needed and needed[0] in searched else {})


def _probes(dimension: Dimension) -> tuple[Any, ...]:
    """Values that the searched key must accept: every choice; of an interval the ends and a value between."""
    if dimension.low is None or dimension.high is None:
        return dimension.choices or ()
    between = dimension.low + 0.381966 * (dimension.high - dimension.low)  # no whole number: it has to be real
    return (dimension.low, dimension.high, between)


def _condition_faults(config: Config, space: Space, index: int) -> Iterator[str]:
    """A condition needs an existing key, and values that the key can have."""
    dimension = space[index]
    for key, values in dimension.conditions().items():
        where = f"search.space.{index}.when.{key}={_listed(values)}"
        try:
            values = tuple(
                parsed_value(Recipe(model=config.model, recipe=config.recipe), key, value) for value in values
            )
        except InputError as error:
            yield f"{where}: {error}"
            continue
        possible = _possible(config, space, key)
        if possible is not None and not any(value in possible for value in values):
            yield f"{where}: never holds, since {key} is {_listed(possible)}; name one of these, or search {key}"
        other = next((entry for entry in space if entry.sets == key), None)
        if other is not None and other.choices is None:
            yield f"{where}: {key} is searched over an interval, so it never has that value; give it choices"


def _possible(config: Config, space: Space, key: str) -> tuple[Any, ...] | None:
    """The values that a key can have in a trial; None if it is searched over an interval."""
    recipe = Recipe(model=config.model, recipe=config.recipe)
    other = next((dimension for dimension in space if dimension.sets == key), None)
    if other is not None:
        return other.choices and tuple(_plain(recipe, key, value) for value in other.choices)
    section, _, name = key.partition(".")
    return (recipe.model_dump(mode="json")[section][name],)


def _plain(recipe: Recipe, key: str, value: Any) -> Any:  # noqa: ANN401 - whatever the key can hold
    """The parsed value; the given one if it is not valid, which is a fault of its own dimension."""
    try:
        return parsed_value(recipe, key, value)
    except InputError:
        return value


def _cycle_faults(space: Space) -> list[str]:
    """Conditions that depend on each other."""
    left = {dimension.sets: set(dimension.when) for dimension in space}
    while ready := [key for key, needed in left.items() if not needed & left.keys()]:
        left = {key: needed for key, needed in left.items() if key not in ready}
    if not left:
        return []
    return [f"search.space: {', '.join(left)} depend on each other in turn; leave one of their conditions out"]


def _pair_faults(config: Config, space: Space) -> Iterator[str]:
    """Values of two searched keys that exclude each other."""
    trial = Recipe(model=config.model, recipe=config.recipe)
    for first, (index, second) in itertools.combinations(enumerate(space), 2):
        for pair in itertools.product(_probes(first[1]), _probes(second)):
            together = dict(zip((first[1].sets, second.sets), pair, strict=True))
            if not all(_allows(dimension, trial, together) for dimension in (first[1], second)):
                continue
            try:
                override(trial, together)
            except InputError as error:
                yield (
                    f"search.space.{index}.sets={second.sets}: {pair[1]} excludes {first[1].sets}={pair[0]}: "
                    f"{error}; add a `when` to one of the two"
                )
                break


def _allows(dimension: Dimension, trial: Recipe, settings: dict[str, Any]) -> bool:
    """Whether the dimension's conditions hold under these settings; a key without a setting counts as met."""
    return all(
        parsed_value(trial, key, settings[key]) in [parsed_value(trial, key, value) for value in values]
        for key, values in dimension.conditions().items()
        if key in settings
    )


def _no_effect_faults(config: Config, space: Space, index: int) -> Iterator[str]:
    """A dimension without an effect wastes trials."""
    key = space[index].sets
    if key not in NEEDS:
        return
    needed, value = NEEDS[key]
    possible = _possible(config, space, needed) or ()
    if value not in possible:
        yield f"search.space.{index}.sets={key}: has an effect only with {needed}={value}; set that, or remove it"
    elif len(possible) > 1 and space[index].conditions().get(needed) != (value,):
        yield (
            f"search.space.{index}.sets={key}: has an effect only with {needed}={value}; add when: "
            f"{{{needed}: {value}}}"
        )


def _listed(values: tuple[Any, ...]) -> str:
    return ", ".join(str(value) for value in values)


def image_size_faults(config: Config, space: Iterable[Dimension]) -> list[str]:
    """One line for each size that exceeds that of the packed images. space: what is searched."""
    packed, begin = config.data.image_size, config.recipe.grow_from
    own = {f"{IMAGE_SIZE}={config.recipe.image_size}": config.recipe.image_size} | _embedded(config)
    faults = []
    full = config.recipe.image_size or packed
    if begin is not None and begin >= full:
        faults.append(
            f"recipe.grow_from={begin}: trainings begin at it and grow to {full} px; give a smaller size, or null for "
            "one size"
        )
    return faults + [
        f"{where}: must not exceed data.image_size={packed}, the size of the packed images; "
        f"use {packed} at most, or raise data.image_size"
        for where, size in (own | _searched(space) | _compared(config.compare_lr.entries)).items()
        if size is not None and size > packed
    ]


def image_sizes(config: Config, backbone: str, *, compared: bool) -> dict[str, int]:
    """All sizes that a backbone may be evaluated at, by key. compared: whether those of the comparison count, too."""
    own = config.recipe.image_size
    asked = {f"{IMAGE_SIZE}={own}": own} | _embedded(config) | _searched(config.search.space, backbone)
    if compared:
        asked |= _compared(config.compare_lr.entries)
    packed = config.data.image_size
    return {
        f"data.image_size={packed}" if size is None else where: packed if size is None else size
        for where, size in asked.items()
    }


def _embedded(config: Config) -> dict[str, int | None]:
    return {f"embed.image_sizes: {size}": size for size in config.embed.image_sizes or ()}


def _searched(space: Iterable[Dimension], backbone: str | None = None) -> dict[str, int | None]:
    """The searched sizes by key (whole numbers have no intervals). backbone: only those it can have."""
    return {
        f"search.space.{index}.sets={IMAGE_SIZE}: {size}": size
        for index, dimension in enumerate(space)
        if dimension.sets == IMAGE_SIZE and backbone in (None, *dimension.conditions().get(BACKBONE, (backbone,)))
        for size in _sizes(dimension.choices or ())
    }


def _compared(entries: Iterable[CompareEntry]) -> dict[str, int | None]:
    return {
        f"compare_lr.entries.{index} ({entry.name}): {IMAGE_SIZE}={size}": size
        for index, entry in enumerate(entries)
        if IMAGE_SIZE in entry.sets
        for size in _sizes([entry.sets[IMAGE_SIZE]])
    }


def _sizes(values: Iterable[object]) -> Iterator[int | None]:
    """The valid sizes, parsed; other checks report the invalid ones."""
    for value in values:
        try:
            yield RecipeConfig.model_validate({"image_size": value}).image_size
        except ValidationError:
            continue
