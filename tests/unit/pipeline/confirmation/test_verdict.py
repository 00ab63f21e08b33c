"""Which recipe is kept: by hand arithmetic on differences, and on what a search leaves behind."""

import math

import pytest

from components.evaluation.expected_difference import Normal
from pipeline.confirmation.prior import SEED_FREEDOM, SEED_SD
from pipeline.confirmation.verdict import (
    DEFAULTS,
    WINNER,
    Measured,
    Verdict,
    by_search,
    candidates,
    diverged,
    judge,
    nothing_to_confirm,
)
from pipeline.sections.recipe import ModelConfig, Recipe, RecipeConfig

RECIPE = Recipe(model=ModelConfig(), recipe=RecipeConfig(batch_size=32))
PRIOR = Normal(0.0, 0.03)


def judged(*differences: float, sampling: float | None, prior: Normal = PRIOR, independent: bool = False) -> Verdict:
    measured = Measured(differences=differences, sampling=sampling, independent=independent)
    return judge(measured, prior, confidence=0.9, objective="auroc", over="over some seeds")


def test_a_difference_is_shrunk_by_its_uncertainty_and_the_statement_gives_the_numbers() -> None:
    seeds = (2 * 1e-4 + SEED_FREEDOM * SEED_SD**2) / (2 + SEED_FREEDOM) / 3
    verdict = judged(0.02, 0.03, 0.04, sampling=9e-4 - seeds)  # as uncertain as the prior, so half of it is left
    assert verdict.difference == pytest.approx(0.03)
    assert verdict.se_seeds == pytest.approx(math.sqrt(seeds))
    assert verdict.expected == pytest.approx(0.015)
    assert verdict.low == pytest.approx(0.015 - 1.28155 * 0.03 / math.sqrt(2), abs=1e-6)
    assert (verdict.chosen, verdict.certain) == (WINNER, False)
    assert verdict.statement == (
        "The winner is kept: the winner's expected auroc is 0.0150 above that of the defaults, and it is better with a "
        "probability of 76 %, which is not certain at 90 % confidence. Measured over some seeds: +0.0300 with a "
        "standard error of 0.0300, shrunk towards the difference that was expected before (+0.0000 ± 0.0300)."
    )


def test_the_better_one_is_kept_whether_that_is_certain_or_not() -> None:
    assert judged(0.001, -0.0005, sampling=0.01).chosen == WINNER
    assert judged(-0.001, 0.0005, sampling=0.01).chosen == DEFAULTS
    sure = judged(-0.30, -0.30, sampling=1e-6)
    assert (sure.chosen, sure.certain) == (DEFAULTS, True)
    assert sure.high < 0
    assert sure.probability < 0.1


def test_where_the_measurement_is_poor_what_was_expected_before_decides() -> None:
    assert judged(-0.02, sampling=1.0, prior=Normal(0.01, 0.01)).chosen == WINNER
    assert judged(-0.02, sampling=1e-8, prior=Normal(0.01, 0.1)).chosen == DEFAULTS


def test_two_seeds_far_apart_that_are_both_far_ahead_take_the_winner() -> None:
    """0.79 and 0.71 against 0.55 and 0.66, on 143 validation images: a difference of 0.145."""
    assert judged(0.79 - 0.55, 0.71 - 0.66, sampling=0.05**2).chosen == WINNER


def test_the_choice_of_images_is_not_counted_twice_where_every_replicate_has_its_own() -> None:
    differences, sampling = (0.00, 0.06), 0.0018 / 2  # all of their variance is that of the images
    alone = Measured(differences=differences, sampling=sampling, independent=True)
    shared = Measured(differences=differences, sampling=sampling, independent=False)
    assert alone.seed_variance() == pytest.approx(SEED_FREEDOM * SEED_SD**2 / (1 + SEED_FREEDOM) / 2)
    assert shared.seed_variance() == pytest.approx((0.0018 + SEED_FREEDOM * SEED_SD**2) / (1 + SEED_FREEDOM) / 2)


def test_a_single_replicate_has_the_spread_of_seeds_that_was_seen_elsewhere() -> None:
    assert Measured(differences=[0.1], sampling=1e-4, independent=True).seed_variance() == pytest.approx(SEED_SD**2)


@pytest.mark.parametrize(("differences", "sampling"), [((math.nan, 0.1), 1e-4), ((0.1, 0.1), None)])
def test_what_has_no_value_leaves_the_choice_to_the_search(differences, sampling) -> None:
    verdict = judged(*differences, sampling=sampling, prior=Normal(0.02, 0.03))
    assert (verdict.chosen, verdict.difference, verdict.expected) == (WINNER, None, 0.02)
    assert "auroc has no value or no uncertainty, so that the search's scores decide" in verdict.statement


def test_without_a_confirmation_the_search_decides_and_the_reason_is_said() -> None:
    options = {"confidence": 0.9, "objective": "auroc", "reason": "Not confirmed."}
    winner = by_search(Normal(0.01, 0.03), 0.05, **options)
    assert winner.chosen == WINNER
    assert winner.statement.endswith(
        "It gained 0.0500 in the search. Without a confirmation a winner is kept only above a gain of 0.20: at full "
        "length little of it is left. Not confirmed."
    )
    assert by_search(Normal(-0.001, 0.03), 0.01, **options).chosen == DEFAULTS
    assert by_search(Normal(0.0, 0.03), None, **options).chosen == WINNER  # the defaults have failed there


def test_a_winner_that_diverges_once_is_not_taken() -> None:
    verdict = diverged(["fold 3"], [], others=[0.5])
    assert verdict.chosen == DEFAULTS
    assert "the winner diverged at full length with fold 3." in verdict.statement
    both = diverged(["seed 3", "seed 4"], ["seed 5"], others=[])
    assert both.chosen == DEFAULTS
    assert "with seed 3, seed 4. So did the defaults, with seed 5." in both.statement


def test_defaults_that_diverge_where_the_winner_does_not_lose() -> None:
    verdict = diverged([], ["seed 0", "seed 2"], others=[0.2, -0.1])
    assert verdict.chosen == WINNER
    assert "the defaults diverged at full length with seed 0, seed 2, the winner with none, and in" in verdict.statement
    assert diverged([], ["seed 0"], others=[]).chosen == WINNER
    behind = diverged([], ["seed 0"], others=[-0.2, 0.1])
    assert behind.chosen == DEFAULTS
    assert "in the other trainings it is behind" in behind.statement


# --- from the search to two recipes


def best(**changes) -> dict:
    return {
        "trial": 4,
        "overrides": {"recipe.lr": 0.01, "recipe.weight_decay": 0.1},
        "defaults": {"recipe.lr": 0.003},
        **changes,
    }


def test_the_winner_meets_the_defaults_at_the_rate_of_each() -> None:
    found = candidates(best(), RECIPE)
    assert found == {
        WINNER: {"recipe.lr": 0.01, "recipe.weight_decay": 0.1},
        DEFAULTS: {"recipe.lr": 0.003},
    }


@pytest.mark.parametrize(
    "changes",
    [{"trial": 0}, {"trial": None}, {"overrides": {"recipe.lr": 0.003, "recipe.batch_size": 32}}],
    ids=["the defaults won", "no search", "the same settings"],
)
def test_a_winner_that_is_the_defaults_meets_nobody(changes) -> None:
    assert candidates(best(**changes), RECIPE) == {DEFAULTS: {"recipe.lr": 0.003}}
    assert nothing_to_confirm().chosen == DEFAULTS
