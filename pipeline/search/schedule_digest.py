"""Whether the recipe's schedule is part of what a search finds: under the horizon `fixed` alone."""

from __future__ import annotations

import json
from typing import Any

from pipeline.checks.recipe_keys import SCHEDULE_KEYS
from pipeline.sections.recipe import RecipeConfig
from pipeline.sections.search import SearchConfig


def schedule_digest(storage: Any, console: Any, *, recipe: RecipeConfig, search: SearchConfig, **others: Any) -> str:  # noqa: ANN401
    """The keys that lay out the rate, where trials follow them; they are no part of the stage's fingerprint else."""
    if search.horizon != "fixed":
        return ""
    values = recipe.model_dump(mode="json")
    names = [key.partition(".")[2] for key in SCHEDULE_KEYS]
    return json.dumps({name: values[name] for name in names}, sort_keys=True)
