"""Importances find the key that makes the difference, say on which trials, and stay silent where nothing tells."""

import numpy as np
import optuna
import pandas as pd
import pytest

from components.search.importance import importances
from components.search.space import (
    BACKBONE,
    BATCH_SIZE,
    LR,
    OPTIMIZER,
    Choice,
    Condition,
    Interval,
    RateInterval,
    Space,
)
from components.search.trial import Point

BOUNDS = {("resnet18", "adamw"): (1e-5, 1e-3), ("resnet18", "sgd"): (1e-3, 1e-1)}
DIMENSIONS = (
    Choice(OPTIMIZER, ("adamw", "sgd")),
    RateInterval(LR, BOUNDS, 32),
    Interval("recipe.weight_decay", 1e-5, 1e-1, log=True),
    Interval("recipe.momentum", 0.5, 0.99, log=False, when=(Condition(OPTIMIZER, ("sgd",)),)),
)
DEFAULTS = {
    BACKBONE: "resnet18", OPTIMIZER: "adamw", BATCH_SIZE: 32, LR: 1e-4, "recipe.weight_decay": 1e-3,
    "recipe.momentum": 0.9,
}  # fmt: skip
SPACE = Space(DIMENSIONS, DEFAULTS)


def drawn(count: int, score, seed: int = 0) -> tuple[dict[int, Point], pd.DataFrame]:
    """Trials at random, and their scores after epoch 1 by a function of the cube's coordinates."""
    generator = np.random.default_rng(seed)
    points, results = {}, []
    for number in range(count):
        cube = generator.random(len(DIMENSIONS))
        points[number] = SPACE.from_cube(cube)
        results.append({"trial": number, "epoch": 1, "score": float(score(cube, generator))})
    return points, pd.DataFrame(results)


def by_rate(cube, generator) -> float:
    return 1 - (cube[1] - 0.5) ** 2


def test_the_key_that_sets_the_score_takes_the_whole() -> None:
    found = importances(*drawn(60, by_rate), SPACE, seed=0)
    assert next(iter(found.shares)) == LR
    assert found.shares[LR] > 0.9
    assert found.basis == "60 trials after epoch 1"
    assert found.r_squared is not None
    assert found.r_squared > 0.8


def test_a_rate_is_measured_within_the_bounds_of_its_optimizer() -> None:
    """As a number it would tell sgd from adamw, whose rates are a hundred times lower, and share the difference."""
    found = importances(*drawn(60, lambda cube, _: cube[0] >= 0.5), SPACE, seed=0)
    assert found.shares[OPTIMIZER] > 0.9
    assert found.shares[LR] < 0.05


def test_a_key_counts_where_it_was_searched() -> None:
    def by_momentum(cube, _) -> float:
        return cube[3] if cube[0] >= 0.5 else 0.5

    found = importances(*drawn(80, by_momentum), SPACE, seed=0)
    assert next(iter(found.shares)) == "recipe.momentum"


def test_small_values_of_a_logarithmic_key_count_as_much_as_large_ones() -> None:
    """In 1e-5 … 0.1, values below 1e-3 are half of the space, and 1 % of it if it were linear."""
    found = importances(*drawn(60, lambda cube, _: cube[2] < 0.5), SPACE, seed=0)
    assert found.shares["recipe.weight_decay"] > 0.9


def test_noise_is_recognised() -> None:
    found = importances(*drawn(40, lambda _, generator: generator.normal()), SPACE, seed=0)
    assert found.shares
    assert found.r_squared is not None
    assert found.r_squared <= 0
    assert sum(found.shares.values()) < 0.9


def test_the_same_seed_gives_the_same_shares_and_shares_are_shares() -> None:
    points, scores = drawn(30, by_rate)
    first, again = (importances(points, scores, SPACE, seed=3) for _ in range(2))
    assert first == again
    assert set(first.shares) == {dimension.sets for dimension in DIMENSIONS}
    assert all(0 <= share <= 1 for share in first.shares.values())
    assert sum(first.shares.values()) <= 1 + 1e-9


def test_few_that_got_far_give_way_to_an_epoch_that_all_have_reached() -> None:
    points, scores = drawn(20, by_rate)
    later = scores.loc[scores["trial"] < 6].assign(epoch=9)
    assert importances(points, pd.concat([scores, later]), SPACE, seed=0).basis == "20 trials after epoch 1"


def test_the_latest_epoch_with_enough_trials_is_taken() -> None:
    points, scores = drawn(40, by_rate)
    later = scores.loc[scores["trial"] < 16].assign(epoch=9)  # four for each of the four keys
    assert importances(points, pd.concat([scores, later]), SPACE, seed=0).basis == "16 trials after epoch 9"


@pytest.mark.parametrize("count", [0, 1, 7])
def test_too_few_trials_are_a_reason(count: int) -> None:
    points, scores = drawn(10, by_rate)
    found = importances(points, scores[scores["trial"] < count], SPACE, seed=0)
    assert found.to_dict() == {
        "shares": {}, "basis": "", "r_squared": None,
        "reason": f"trials with a score: {count}; it takes 8 to tell the keys apart",
    }  # fmt: skip


def test_equal_scores_and_an_empty_space_are_reasons() -> None:
    points, scores = drawn(12, lambda cube, generator: 0.5)
    assert importances(points, scores, SPACE, seed=0).reason == "all 12 trials have the same score after epoch 1"
    assert importances(points, scores, Space((), DEFAULTS), seed=0).reason == "nothing was searched"


def test_trials_outside_the_space_or_without_a_score_are_left_out() -> None:
    points, scores = drawn(12, by_rate)
    points[0] = {}
    scores.loc[1, "score"] = float("nan")
    assert importances(points, scores, SPACE, seed=0).basis == "10 trials after epoch 1"


def test_nothing_is_said_on_the_terminal_and_optuna_speaks_as_before(capfd: pytest.CaptureFixture[str]) -> None:
    before = optuna.logging.get_verbosity()
    importances(*drawn(10, by_rate), SPACE, seed=0)
    assert optuna.logging.get_verbosity() == before
    assert capfd.readouterr() == ("", "")
