"""Whether a winner is taken: by hand arithmetic on differences, and on what a search leaves behind."""

import json
import math

import pytest

from pipeline.confirmation.verdict import (
    DEFAULTS,
    OPTIMISTIC,
    WINNER,
    Verdict,
    candidates,
    diverged,
    judge,
    untested,
    write_confirmation,
)
from pipeline.sections.recipe import ModelConfig, Recipe, RecipeConfig
from pipeline.training.confirmed import Confirmed, read_confirmed

RECIPE = Recipe(model=ModelConfig(), recipe=RecipeConfig())
#: So many groups that their variance counts as known.
MANY = 10**9


def judged(*differences: float, variance: float | None, confidence: float = 0.9, units: int = MANY) -> Verdict:
    return judge(differences, variance=variance, units=units, confidence=confidence, objective="auroc")


def test_a_winner_whose_bound_is_above_zero_is_taken_and_the_statement_gives_the_numbers() -> None:
    verdict = judged(0.02, 0.03, 0.04, variance=2e-4 / 3)  # 0.03 − 1.3304 · 0.01, of Student's t with 18 degrees
    assert verdict.difference == pytest.approx(0.03)
    assert verdict.se_seeds == pytest.approx(math.sqrt(1e-4 / 3))
    assert verdict.chosen == WINNER
    assert verdict.statement == (
        "The winner is taken: over 3 seeds its auroc on the validation split is 0.0300 above that of the defaults, and "
        f"with 90 % confidence at least 0.0167 above. {OPTIMISTIC}"
    )


def test_of_one_seed_the_statement_says_that_the_spread_between_seeds_is_left_out() -> None:
    verdict = judged(0.02, variance=1e-4)
    assert (verdict.se_seeds, verdict.chosen) == (None, WINNER)
    assert "does not include the spread between seeds" in verdict.statement


@pytest.mark.parametrize(
    ("differences", "variance"), [((0.012,), 1e-4), ((0.0, 0.0), 0.0), ((-0.01, -0.02), 1e-6), ((0.05, -0.03), 0.0)]
)
def test_the_defaults_are_kept_unless_the_bound_is_above_zero(differences, variance) -> None:
    verdict = judged(*differences, variance=variance)
    assert verdict.low <= 0
    assert verdict.chosen == DEFAULTS
    assert verdict.statement.startswith("The defaults are kept: ")
    assert (OPTIMISTIC in verdict.statement) == (sum(differences) > 0)  # a loss is not overestimated


def test_why_the_defaults_are_kept_is_said_in_numbers() -> None:
    ahead = judged(0.012, 0.012, variance=1e-4).statement
    assert "over 2 seeds the winner's auroc on the validation split is 0.0120 above theirs" in ahead
    assert "but with 90 % confidence the lower bound of the difference is -0.0008" in ahead  # 0.012 − 1.2816 · 0.01
    assert "is 0.0150 below theirs." in judged(-0.01, -0.02, variance=1e-6).statement


def test_more_confidence_asks_for_more() -> None:
    assert judged(0.015, variance=1e-4).chosen == WINNER
    assert judged(0.015, variance=1e-4, confidence=0.95).chosen == DEFAULTS


@pytest.mark.parametrize(("differences", "variance"), [((math.nan, 0.1), 1e-4), ((0.1, 0.1), None)])
def test_what_has_no_value_proves_nothing(differences, variance) -> None:
    verdict = judged(*differences, variance=variance)
    assert verdict.chosen == DEFAULTS
    assert verdict.low is None
    assert "auroc has no value or no uncertainty" in verdict.statement


def test_a_winner_that_diverges_once_is_not_taken() -> None:
    verdict = diverged([3], [], others=[0.5])
    assert verdict.chosen == DEFAULTS
    assert "the winner diverged at full length with seed 3." in verdict.statement
    both = diverged([3, 4], [5], others=[])
    assert both.chosen == DEFAULTS
    assert "with seeds 3, 4. So did the defaults, with seed 5." in both.statement


def test_defaults_that_diverge_where_the_winner_does_not_lose() -> None:
    verdict = diverged([], [0, 2], others=[0.2, -0.1])
    assert verdict.chosen == WINNER
    assert (
        "the defaults diverged at full length with seeds 0, 2, the winner with none, and over the" in verdict.statement
    )
    assert diverged([], [0, 2], others=[]).chosen == WINNER
    behind = diverged([], [0], others=[-0.2, 0.1])
    assert behind.chosen == DEFAULTS
    assert "over the other seeds it is behind" in behind.statement


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
    found = candidates(best(**changes), RECIPE)
    assert found == {DEFAULTS: {"recipe.lr": 0.003}}
    assert untested(found).chosen == DEFAULTS
    assert "nothing to confirm" in untested(found).statement


def test_without_a_repetition_the_winner_is_taken_unconfirmed() -> None:
    verdict = untested(candidates(best(), RECIPE))
    assert verdict.chosen == WINNER
    assert "unconfirmed" in verdict.statement


def test_what_is_written_is_what_a_training_reads(tmp_path) -> None:
    path = tmp_path / "confirmation.json"
    candidate = {"recipe.lr": 0.02, "recipe.ema_decay": None}
    values = write_confirmation(
        path,
        judged(0.02, variance=1e-4),
        candidate,
        objective="auroc",
        confidence=0.9,
        seeds=[7],
        scores={WINNER: [math.nan], DEFAULTS: [None]},
        trainings=[{"recipe": WINNER, "seed": 7}],
        kept_run="r",
    )
    assert json.loads(path.read_text()) == values
    assert values["scores"] == {WINNER: [None], DEFAULTS: [None]}
    assert (values["chosen"], values["seeds"], values["confidence"]) == (WINNER, [7], 0.9)
    assert read_confirmed(path) == Confirmed(overrides=candidate, kept_run="r")
