"""Whether a winner is taken: by hand arithmetic on differences, and on what a search leaves behind."""

import json
import math

import pytest

from pipeline.confirmation.verdict import (
    DEFAULTS,
    FLATTERING,
    WINNER,
    Candidate,
    Confirmed,
    Verdict,
    candidates,
    diverged,
    judge,
    read_confirmed,
    satterthwaite,
    untested,
    write_confirmation,
)
from pipeline.sections.recipe import ModelConfig, Recipe, RecipeConfig

RECIPE = Recipe(model=ModelConfig(), recipe=RecipeConfig())
# Upper quantiles of Student's t and of the normal distribution, from a printed table.
T90_2, T90_4, T90_18, Z90 = 1.8856, 1.5332, 1.3304, 1.2816
#: So many groups that their variance counts as known.
MANY = 10**9


def judged(*differences: float, variance: float | None, confidence: float = 0.9, units: int = MANY) -> Verdict:
    return judge(differences, variance=variance, units=units, confidence=confidence, objective="auroc")


def test_both_variances_add_up_and_the_bound_has_the_degrees_of_freedom_of_their_sum() -> None:
    """sd 0.01 over three seeds: 1e-4 / 3; with 2e-4 / 3 of the images it makes 1e-4, and 2 · (1 / (1/3))² = 18."""
    verdict = judged(0.02, 0.03, 0.04, variance=2e-4 / 3)
    assert verdict.difference == pytest.approx(0.03)
    assert verdict.se_seeds == pytest.approx(math.sqrt(1e-4 / 3))
    assert verdict.se_sampling == pytest.approx(math.sqrt(2e-4 / 3))
    assert verdict.freedom == pytest.approx(18)
    assert verdict.low == pytest.approx(0.03 - T90_18 * 0.01, abs=1e-6)
    assert verdict.chosen == WINNER
    assert verdict.statement == (
        "The winner is taken: over 3 seeds its auroc on the validation split is 0.0300 above that of the defaults, and "
        f"with 90 % confidence at least 0.0167 above. {FLATTERING}"
    )


def test_without_a_variance_of_the_images_the_seeds_alone_decide() -> None:
    verdict = judged(0.02, 0.03, 0.04, variance=0.0)
    assert verdict.freedom == pytest.approx(2)
    assert verdict.low == pytest.approx(0.03 - T90_2 * 0.01 / math.sqrt(3), abs=1e-6)


def test_seeds_that_agree_leave_the_images_alone_and_the_normal_distribution() -> None:
    verdict = judged(0.02, 0.02, variance=1e-4)
    assert (verdict.se_seeds, verdict.freedom) == (0.0, MANY - 1)
    assert verdict.low == pytest.approx(0.02 - Z90 * 0.01, abs=1e-6)


def test_one_seed_is_judged_by_the_images_alone_and_the_statement_says_so() -> None:
    verdict = judged(0.02, variance=1e-4)
    assert (verdict.se_seeds, verdict.freedom) == (None, MANY - 1)
    assert verdict.low == pytest.approx(0.02 - Z90 * 0.01, abs=1e-6)
    assert verdict.chosen == WINNER
    assert "One seed says nothing of the spread between seeds" in verdict.statement


def test_few_groups_of_images_ask_for_more() -> None:
    verdict = judged(0.02, variance=1e-4, units=5)
    assert verdict.freedom == 4
    assert verdict.low == pytest.approx(0.02 - T90_4 * 0.01, abs=1e-6)


@pytest.mark.parametrize(
    ("differences", "variance"), [((0.012,), 1e-4), ((0.0, 0.0), 0.0), ((-0.01, -0.02), 1e-6), ((0.05, -0.03), 0.0)]
)
def test_the_defaults_are_kept_unless_the_bound_is_above_zero(differences, variance) -> None:
    verdict = judged(*differences, variance=variance)
    assert verdict.low <= 0
    assert verdict.chosen == DEFAULTS
    assert verdict.statement.startswith("The defaults are kept: ")
    assert (FLATTERING in verdict.statement) == (sum(differences) > 0)  # who is behind was not flattered


def test_why_the_defaults_are_kept_is_said_in_numbers() -> None:
    ahead = judged(0.012, 0.012, variance=1e-4).statement
    assert "over 2 seeds the winner's auroc on the validation split is 0.0120 above theirs" in ahead
    assert "but with 90 % confidence no more than -0.0008 can be said" in ahead  # 0.012 − 1.2816 · 0.01
    assert "is 0.0150 below theirs." in judged(-0.01, -0.02, variance=1e-6).statement


def test_more_confidence_asks_for_more() -> None:
    assert judged(0.015, variance=1e-4).chosen == WINNER
    assert judged(0.015, variance=1e-4, confidence=0.95).chosen == DEFAULTS


@pytest.mark.parametrize(("differences", "variance"), [((math.nan, 0.1), 1e-4), ((0.1, 0.1), None)])
def test_what_has_no_value_proves_nothing(differences, variance) -> None:
    verdict = judged(*differences, variance=variance)
    assert verdict.chosen == DEFAULTS
    assert verdict.low is None
    assert "give auroc no value or no uncertainty" in verdict.statement


def test_the_degrees_of_freedom_lie_between_those_of_the_seeds_and_any_number() -> None:
    assert satterthwaite((1.0, 0.0), (4, 100)) == pytest.approx(3)
    assert satterthwaite((0.0, 1.0), (4, 100)) == pytest.approx(99)
    assert satterthwaite((1.0, 1.0), (4, 4)) == pytest.approx(6)  # Welch's of two samples alike
    assert satterthwaite((0.0, 0.0), (4, 100)) == 99


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
        WINNER: Candidate({"recipe.lr": 0.01, "recipe.weight_decay": 0.1}),
        DEFAULTS: Candidate({"recipe.lr": 0.003}),
    }


@pytest.mark.parametrize(
    "changes",
    [{"trial": 0}, {"trial": None}, {"overrides": {"recipe.lr": 0.003, "recipe.batch_size": 32}}],
    ids=["the defaults won", "no search", "the same settings"],
)
def test_a_winner_that_is_the_defaults_meets_nobody(changes) -> None:
    found = candidates(best(**changes), RECIPE)
    assert found == {DEFAULTS: Candidate({"recipe.lr": 0.003})}
    assert untested(found).chosen == DEFAULTS
    assert "nothing to confirm" in untested(found).statement


def test_without_a_repetition_the_winner_is_taken_unconfirmed() -> None:
    verdict = untested(candidates(best(), RECIPE))
    assert verdict.chosen == WINNER
    assert "unconfirmed" in verdict.statement


def test_what_is_written_is_what_a_training_reads(tmp_path) -> None:
    path = tmp_path / "confirmation.json"
    candidate = Candidate({"recipe.lr": 0.02, "recipe.ema_decay": None})
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
    assert read_confirmed(path) == Confirmed(overrides=candidate.overrides, kept_run="r")
