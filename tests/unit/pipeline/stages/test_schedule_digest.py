"""Where the recipe's schedule shapes what a search finds, another schedule makes it another search."""

import pytest

from pipeline.sections.recipe import RecipeConfig
from pipeline.sections.search import SearchConfig
from pipeline.stages import schedule_digest


def digest(horizon: str, **recipe) -> str:
    search = SearchConfig(horizon=horizon, max_epochs=4)
    return schedule_digest(None, None, recipe=RecipeConfig(**recipe), search=search, model=None, seed=0)


@pytest.mark.parametrize("horizon", ["constant", "wsd"])
def test_where_the_horizon_lays_out_the_rate_the_schedule_does_not_count(horizon: str) -> None:
    assert digest(horizon) == digest(horizon, schedule="step", ema_decay=0.99) == ""


@pytest.mark.parametrize("changed", [{"schedule": "step"}, {"final_lr_fraction": 0.5}, {"ema_decay": 0.99}])
def test_under_the_fixed_horizon_every_key_of_it_counts(changed: dict) -> None:
    assert digest("fixed") != digest("fixed", **changed)
    assert digest("fixed", **changed) == digest("fixed", **changed)


def test_other_keys_of_the_recipe_are_left_to_the_fingerprint() -> None:
    assert digest("fixed") == digest("fixed", weight_decay=0.5)
