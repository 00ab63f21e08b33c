"""What can be said of a search space before anything starts: whether every key exists, takes its values, and acts."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

from components.errors import InputError
from pipeline.checks.recipe_keys import HIERARCHY_KEYS, NEEDS, OBJECTIVE_KEYS, SCHEDULE_KEYS
from pipeline.config import Config
from pipeline.overriding import override, parsed_value
from pipeline.sections.recipe import Recipe
from pipeline.sections.search import Dimension, SearchConfig

Space = tuple[Dimension, ...]

#: What decides the schedule of a trial, by the horizon.
HORIZONS = {
    "constant": "trials run at a constant rate and are compared on averaged weights",
    "wsd": "trials run at a constant rate, and copies of them are cooled down",
}


def space_faults(config: Config, space: Space) -> list[str]:
    """One line for each fault. space: the dimensions that no override has pinned."""
    faults = [fault for index in range(len(space)) for fault in _dimension_faults(config, space, index)]
    faults = faults or [*_cycle_faults(space), *_pair_faults(config, space)]
    if config.search.num_trials > 1:
        faults += _sampler_faults(config, space)
    return faults


def with_parsed_values(config: Config, dimension: Dimension) -> Dimension:
    """The dimension with its choices and conditions as their keys hold them: `adamw` for the text `AdamW`."""
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
        return [f"{where}: cannot be searched: {decided}; take it out of the space"]
    faults = []
    names = [other.sets for other in space]
    if names.count(dimension.sets) > 1 and names.index(dimension.sets) == index:
        faults.append(f"{where}: searched {names.count(dimension.sets)} times; keep one")
    trial = Recipe(model=config.model, recipe=config.recipe)
    for value in _probes(dimension):
        try:
            override(trial, _with_needed_keys(dimension.sets, value, space))
        except InputError as error:
            faults.append(f"{where}: {error}")
            break
    return [*faults, *_condition_faults(config, space, index), *_no_effect_faults(config, space, index)]


def _decided_elsewhere(search: SearchConfig, key: str) -> str:
    """What decides a key that no trial may set; empty where a trial may."""
    if key in SCHEDULE_KEYS and search.horizon != "fixed":
        return f"{HORIZONS[search.horizon]} (search.horizon=fixed searches schedules)"
    if key in OBJECTIVE_KEYS:
        return "it is what trials are compared by"
    if key == "recipe.precision":
        return "the range test measures, and trials are compared, in one precision"
    if key == "model.weights":
        return "the backbones are compared, and their ranges tested, with one kind of weights"
    return ""


def _with_needed_keys(key: str, value: Any, space: Space) -> dict[str, Any]:  # noqa: ANN401 - whatever the key holds
    """A value of a key, with the values of other searched keys that it needs beside it."""
    needed = NEEDS.get(key)
    searched = {dimension.sets for dimension in space}
    return {key: value} | ({needed[0]: needed[1]} if needed and needed[0] in searched else {})


def _probes(dimension: Dimension) -> tuple[Any, ...]:
    """Values that the searched key has to accept: every choice; of an interval the ends and a value between."""
    if dimension.low is None or dimension.high is None:
        return dimension.choices or ()
    between = dimension.low + 0.381966 * (dimension.high - dimension.low)  # no whole number: it has to be real
    return (dimension.low, dimension.high, between)


def _condition_faults(config: Config, space: Space, index: int) -> Iterator[str]:
    """A condition names a key that there is, and values that it can have."""
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
            yield f"{where}: {key} is searched over an interval, of which no single value is met; give it choices"


def _possible(config: Config, space: Space, key: str) -> tuple[Any, ...] | None:
    """The values that a key can have in a trial; None where it is searched over an interval."""
    recipe = Recipe(model=config.model, recipe=config.recipe)
    other = next((dimension for dimension in space if dimension.sets == key), None)
    if other is not None:
        return other.choices and tuple(_plain(recipe, key, value) for value in other.choices)
    section, _, name = key.partition(".")
    return (recipe.model_dump(mode="json")[section][name],)


def _plain(recipe: Recipe, key: str, value: Any) -> Any:  # noqa: ANN401 - whatever the key can hold
    """The value as the recipe holds it; as it was given where it does not, which is a fault of its own dimension."""
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
    """Two searched keys, values of which no trial can have together."""
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
                    f"search.space.{index}.sets={second.sets}: {pair[1]} does not go with {first[1].sets}={pair[0]}: "
                    f"{error}; add a `when` to one of the two"
                )
                break


def _allows(dimension: Dimension, trial: Recipe, settings: dict[str, Any]) -> bool:
    """Whether the dimension is searched beside these settings, as far as they say."""
    return all(
        parsed_value(trial, key, settings[key]) in [parsed_value(trial, key, value) for value in values]
        for key, values in dimension.conditions().items()
        if key in settings
    )


def _no_effect_faults(config: Config, space: Space, index: int) -> Iterator[str]:
    """A dimension that would change nothing is a waste of trials."""
    key = space[index].sets
    if key not in NEEDS:
        return
    needed, value = NEEDS[key]
    possible = _possible(config, space, needed) or ()
    if value not in possible:
        yield f"search.space.{index}.sets={key}: acts under {needed}={value} alone; set that, or take it out"
    elif len(possible) > 1 and space[index].conditions().get(needed) != (value,):
        yield f"search.space.{index}.sets={key}: acts under {needed}={value} alone; add when: {{{needed}: {value}}}"


def _sampler_faults(config: Config, space: Space) -> list[str]:
    """What the sampler and the scheduler can make of the space."""
    search, names = config.search, [dimension.sets for dimension in space]
    if not space:
        return ["search.space: empty, so there is nothing to search; name a dimension or set search.num_trials=1"]
    if search.sampler == "lipschitz" and (len(space) > 1 or space[0].choices is not None):
        return [
            f"search.sampler=lipschitz: a bandit over one interval, and search.space has {', '.join(names)}; "
            "search recipe.lr alone"
        ]
    if search.sampler == "hierarchical":
        others = [name for name in names if name not in HIERARCHY_KEYS]
        if others or "recipe.lr" not in names:
            return [
                f"search.sampler=hierarchical: goes through {', '.join(HIERARCHY_KEYS)}, of which recipe.lr is needed, "
                f"and search.space has {', '.join(names)}; change the space or the sampler"
            ]
    if search.folds and search.folds != config.data.num_folds:
        return [
            f"search.folds={search.folds}: they are the data's, and data.num_folds={config.data.num_folds}; "
            "give both the same number"
        ]
    return []


def _listed(values: tuple[Any, ...]) -> str:
    return ", ".join(str(value) for value in values)
