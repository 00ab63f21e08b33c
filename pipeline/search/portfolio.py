"""A short list of recipes that are tried before anything is drawn or modelled, each for a reason."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from components.optim.optimizers import batch_factor
from components.search.space import BACKBONE, BATCH_SIZE, LR, OPTIMIZER, Rates, Space, is_active
from components.search.trial import Suggestion

#: The phase of a trial of the portfolio begins with it; its recipe's name follows.
PHASE = "portfolio: "


@dataclass(frozen=True, kw_only=True)
class PortfolioRecipe:
    """What a recipe changes in the configured one. sets: key → value; scales: key → factor; the first key is what it is
    about. Another optimizer has the rate that the range test suggests for it.
    """

    name: str
    reason: str
    sets: Mapping[str, Any] = field(default_factory=dict)
    scales: Mapping[str, float] = field(default_factory=dict)


PORTFOLIO = (
    PortfolioRecipe(
        name="a third of the rate",
        reason="Small sets prefer it: with six images of each part AUROC was .844 at 1e-3, and .794 at the suggested "
        "4.1e-3.",
        scales={LR: 1 / 3},
    ),
    PortfolioRecipe(
        name="layer decay",
        reason="With few images the early layers of a pretrained network are best kept.",
        sets={"recipe.layer_decay": 0.75},
    ),
    PortfolioRecipe(
        name="weak augmentation",
        reason="In a short training augmentation may slow learning by more than it saves from overfitting.",
        scales={"recipe.augment_strength": 0.4},
    ),
    PortfolioRecipe(
        name="three times the rate",
        reason="The range test's curve is one short ramp, whose centre scatters to both sides.",
        scales={LR: 3.0},
    ),
    PortfolioRecipe(
        name="more weight decay",
        reason="Trainings of many epochs on few images overfit; with AdamW 0.05 is as usual as 0.01.",
        scales={"recipe.weight_decay": 5.0},
    ),
    PortfolioRecipe(
        name="sgd",
        reason="It often ends at a better minimum than AdamW, if its rate is right; its decay is in the gradient, and "
        "therefore smaller.",
        sets={OPTIMIZER: "sgd", "recipe.weight_decay": 1e-4},
    ),
    PortfolioRecipe(
        name="adamw",
        reason="It depends on its rate less than SGD does.",
        sets={OPTIMIZER: "adamw", "recipe.weight_decay": 0.01},
    ),
)


def portfolio_trials(space: Space, suggested: Rates, *, batch_size: int, epochs: int) -> tuple[Suggestion, ...]:
    """The trials of the portfolio within a space, which decides what may be changed, and how far.

    A recipe is left out where a key that it changes is not searched, a value is outside of the space, that of its first
    key is the configured one, or its optimizer was not tested. suggested: rates of the range test, at `batch_size`.
    """
    found = ((recipe, _overrides(recipe, space, suggested, batch_size)) for recipe in PORTFOLIO)
    return tuple(
        Suggestion(
            point=space.point(overrides) or {}, overrides=dict(overrides), epochs=epochs, phase=f"{PHASE}{recipe.name}"
        )
        for recipe, overrides in found
        if overrides is not None
    )


def portfolio_recipe(phase: str) -> PortfolioRecipe | None:
    """The recipe of a trial's phase; None for a trial that is not of the portfolio."""
    return next((recipe for recipe in PORTFOLIO if phase == f"{PHASE}{recipe.name}"), None)


def _overrides(recipe: PortfolioRecipe, space: Space, suggested: Rates, batch_size: int) -> Mapping[str, Any] | None:
    """What the recipe changes; None where it does not apply."""
    defaults, searched = space.defaults, {dimension.sets: dimension for dimension in space.dimensions}
    if not {*recipe.sets, *recipe.scales} <= searched.keys():
        return None
    changes = {**recipe.sets, **{key: defaults[key] * factor for key, factor in recipe.scales.items()}}
    first = next(iter(changes))
    if changes[first] == defaults[first]:
        return None
    if OPTIMIZER in changes:
        tested = (defaults[BACKBONE], changes[OPTIMIZER])
        if LR not in searched or tested not in suggested:
            return None
        scale = batch_factor(changes[OPTIMIZER], batch_size=defaults[BATCH_SIZE], measured=batch_size)
        changes[LR] = suggested[tested] * scale
    settings = {**defaults, **changes}
    changes = {key: value for key, value in changes.items() if is_active(searched[key], settings)}
    if any(searched[key].coordinate(value, settings) is None for key, value in changes.items()):
        return None
    # With the other searched keys, as the sampler's own trials have them, where the configured values are in the space.
    point = space.point(changes)
    return changes if point is None else {**space.overrides(point), **changes}
