"""Checks before anything starts of the views that a model is to average over: training has to show them."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator

from pydantic import ValidationError

from components.models.views import allowed_views
from pipeline.config import Config
from pipeline.sections.recipe import RecipeConfig
from pipeline.sections.search import Dimension

KINDS, STRENGTH = "recipe.augment", "recipe.augment_strength"


def views_faults(config: Config, space: Iterable[Dimension]) -> list[str]:
    """One line for each augmentation that does not allow `serving.views`. space: what is searched."""
    views = config.serving.views
    if views == "auto":
        return []
    faults = []
    for where, recipe in dict(_augmentations(config, space)).items():
        allowed = allowed_views(recipe.augment, recipe.augment_strength)
        if views not in allowed:
            shown = ", ".join(str(count) for count in allowed)
            faults.append(
                f"serving.views={views}: {where} allows {shown} only; give one of these or auto, or augment by "
                "horizontal_flip, vertical_flip and quarter_turns, where a part may lie in any of these ways"
            )
    return faults


def _augmentations(config: Config, space: Iterable[Dimension]) -> Iterator[tuple[str, RecipeConfig]]:
    """Each augmentation that a training may have, with the keys that ask for it.

    Of a searched strength only whether it is 0 matters, and of an interval the lower end is hardly ever tried.
    """
    found: dict[str, list[object]] = {KINDS: [config.recipe.augment], STRENGTH: [config.recipe.augment_strength]}
    for dimension in space:
        if dimension.sets in found:
            found[dimension.sets] += [*(dimension.choices or (dimension.high,))]
    for kinds, strength in itertools.product(*found.values()):
        try:
            recipe = RecipeConfig.model_validate({"augment": kinds, "augment_strength": strength})
        except ValidationError:  # other checks report such values
            continue
        names = ", ".join(recipe.augment) or "[]"
        yield f"{KINDS}={names}" if recipe.augment_strength else f"{STRENGTH}=0", recipe
