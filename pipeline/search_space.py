"""From the configuration and the range test to a space, and from a trial's overrides to its recipe."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from components.optim.optimizers import optimizer_spec
from components.optim.range_test.bounds import LrBounds, describe_rates
from components.search.samplers.base import SamplerSettings
from components.search.space import (
    BACKBONE,
    LR,
    Choice,
    Condition,
    Interval,
    RateBounds,
    RateInterval,
    Space,
    SuggestedRate,
)
from components.search.space import Dimension as SpaceDimension
from components.search.trial import Suggestion
from pipeline.overriding import override
from pipeline.plan import flatten
from pipeline.search.portfolio import portfolio_trials
from pipeline.sections.recipe import Recipe
from pipeline.sections.search import Dimension, SearchConfig

#: Weight decay shifts where a rate is stable, by little: the range is widened to both sides by this factor.
WIDENED = 1.5
#: (backbone, optimizer) → what the range test found.
Found = Mapping[tuple[str, str], LrBounds]


@dataclass(frozen=True)
class SearchedSpace:
    """The space, the recipe of the defaults (with a rate that is a number), and what has to be said of both.

    portfolio: the trials that follow the defaults.
    """

    space: Space
    default: Recipe
    rates: RateBounds
    notes: tuple[str, ...]
    portfolio: tuple[Suggestion, ...] = ()


def searched_space(configured: Recipe, search: SearchConfig, found: Found) -> SearchedSpace:
    """Put the range test's bounds, per backbone and optimizer, into the configured dimensions."""
    kept = (_kept(dimension, found) for dimension in search.space)
    dimensions = tuple(dimension for dimension in kept if dimension is not None)
    bounded = any(dimension.bounds is not None for dimension in dimensions)
    factor = WIDENED if _searches(dimensions, "recipe.weight_decay") else 1.0
    rates = {key: (one.lower / factor, one.upper * factor) for key, one in found.items()} if bounded else {}
    batch_size = configured.recipe.images_per_step
    # Where the recipe leaves the rate open, trials get the suggestion of their own optimizer, backbone and batch size.
    own = configured.recipe.lr == "auto"
    configured_pair = (configured.model.backbone, configured.recipe.optimizer)
    default = override(configured, {LR: found[configured_pair].suggested}) if own else configured
    asked = any(dimension.sets == LR and "auto" in (dimension.choices or ()) for dimension in dimensions)
    suggested = {key: one.suggested for key, one in found.items()}
    rate = SuggestedRate(suggested, batch_size, asked_only=not own) if own or asked else None
    space = Space(tuple(expand(dimension, rates, batch_size) for dimension in dimensions), settings_of(default), rate)
    given = bounded or asked or (own and not _searches(dimensions, LR))
    notes = tuple(_notes(search, dimensions, given=given, bounded=bounded))
    first = (
        portfolio_trials(space, suggested, batch_size=batch_size, epochs=search.max_epochs)[: search.num_trials - 1]
        if search.sampler == "hybrid" and search.num_trials
        else ()
    )
    return SearchedSpace(space, default, rates, notes, first)


def rate_warnings(searched: SearchedSpace, search: SearchConfig, found: Found) -> list[str]:
    """In words, which of the configured rates lie where the range test has diverged."""
    default = searched.default
    bounds = found.get((default.model.backbone, default.recipe.optimizer))
    if bounds is None or bounds.lr_div is None:
        return []
    given = {f"recipe.lr={default.recipe.lr:g}": default.recipe.lr} | {
        f"search.space.{index}: recipe.lr from {dimension.low:g}": dimension.low
        for index, dimension in enumerate(search.space)
        if dimension.sets == LR and dimension.low is not None
    }
    return [
        f"{where}: {describe_rates(bounds)}; lower it, or set it to auto"
        for where, rate in given.items()
        if not isinstance(rate, str) and rate >= bounds.lr_div
    ]


def at_horizon(default: Recipe, overrides: Mapping[str, Any], search: SearchConfig) -> Recipe:
    """The recipe of a trial under the search's horizon.

    A schedule-free optimizer averages by itself, so that it is given no other average.
    """
    if search.horizon == "fixed":
        return override(default, overrides)
    averages = optimizer_spec(overrides.get("recipe.optimizer", default.recipe.optimizer)).schedule_free
    ema = search.ema_decay if search.horizon == "constant" and not averages else None
    return override(default, {**overrides, "recipe.schedule": "fixed", "recipe.ema_decay": ema})


def settings_of(recipe: Recipe) -> dict[str, Any]:
    """A recipe as flat dotted keys."""
    return flatten(recipe.model_dump(mode="json"))


def sampler_settings(
    search: SearchConfig, space: Space, *, seed: int, portfolio: tuple[Suggestion, ...] = ()
) -> SamplerSettings:
    """What a sampler has to know of the section."""
    return SamplerSettings(
        space=space,
        num_trials=search.num_trials,
        max_epochs=search.max_epochs,
        grace_epochs=search.first_rung,
        folds=search.folds,
        startup_trials=search.startup_trials,
        seed=seed,
        portfolio=portfolio,
    )


def _kept(dimension: Dimension, found: Found) -> Dimension | None:
    """The dimension without the backbones that `embed` has dropped; None where nothing is left to choose."""
    if dimension.sets != BACKBONE or dimension.choices is None:
        return dimension
    left = tuple(name for name in dimension.choices if any(name == net for net, _ in found))
    return dimension.model_copy(update={"choices": left}) if len(left) > 1 else None


def expand(dimension: Dimension, rates: RateBounds, batch_size: int) -> SpaceDimension:
    """A configured dimension as one of a space. rates: of the range test, measured at `batch_size`."""
    when = tuple(Condition(key, values) for key, values in dimension.conditions().items())
    if dimension.choices is not None:
        return Choice(dimension.sets, dimension.choices, when)
    if dimension.bounds is not None:
        return RateInterval(dimension.sets, rates, batch_size, when)
    assert dimension.low is not None  # the configuration asks for both
    assert dimension.high is not None
    return Interval(dimension.sets, dimension.low, dimension.high, dimension.log, when)


def _searches(dimensions: tuple[Dimension, ...], key: str) -> bool:
    return any(dimension.sets == key for dimension in dimensions)


def _notes(search: SearchConfig, dimensions: tuple[Dimension, ...], *, given: bool, bounded: bool) -> list[str]:
    """In words, what is done where trials differ in a setting that the range test kept fixed, and what was left out.

    given: whether the range test gives trials their rates, as bounds (`bounded`) or as a suggestion.
    """
    notes = []
    if len(dimensions) < len(search.space):
        notes.append("The stage embed left one backbone, so that the backbone is not searched.")
    if bounded and _searches(dimensions, "recipe.weight_decay"):
        notes.append(
            f"The range test's bounds hold for the recipe's weight decay; trials vary it, so they are widened by a "
            f"factor of {WIDENED:g} to both sides."
        )
    if given and _searches(dimensions, "recipe.batch_size"):
        notes.append(
            "The range test's rates hold for the recipe's batch size; a trial of another one has its rate scaled, "
            "in proportion for sgd and by the square root for the adaptive optimizers."
        )
    return notes
