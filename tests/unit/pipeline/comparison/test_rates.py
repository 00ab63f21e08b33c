"""Which rates a method tries and which it takes: the best at the end, ties by the loss, divergence last."""

from types import SimpleNamespace

import pytest

from pipeline.comparison.rates import choose_rate, full_trainings, methods_of, rate_trials
from pipeline.comparison.trainings import MethodResult, MethodTraining
from pipeline.loading import load
from pipeline.sections.learning_rate import CompareConfig
from pipeline.sections.recipe import Recipe

FACTORS = (0.5, 1.0, 3.0)
ENTRIES = [
    {"name": "sgd", "sets": {"recipe.optimizer": "sgd", "recipe.schedule": "step"}},
    {"name": "adam", "sets": {"recipe.optimizer": "adam"}},
]
BOUNDS = {
    "sgd": SimpleNamespace(suggested=0.1, abstained=False),
    "adam": SimpleNamespace(suggested=0.001, abstained=True),
}


def settings(**values) -> CompareConfig:
    return CompareConfig(**{"entries": ENTRIES, "epochs": 10, "num_seeds": 2, "rate_factors": FACTORS, **values})


def methods(entries=ENTRIES):
    config = load("smoke", {"recipe.lr": "0.7"})
    base = Recipe(model=config.model, recipe=config.recipe)
    return methods_of(base, settings(entries=entries), BOUNDS)


def trial(factor, score, loss=0.5, *, diverged=False) -> MethodResult:
    last = {"epoch": 1, "step": 1, "seconds": 1.0, "val_score": score, "val_loss": loss}
    recipe = methods()[0].at(factor)
    training = MethodTraining(phase="rate", entry="sgd", factor=factor, seed=0, epochs=1, recipe=recipe)
    return MethodResult(training=training, diverged=diverged, history=[] if diverged else [last], rates=[])


def test_every_method_starts_from_the_suggestion_for_its_own_optimizer() -> None:
    sgd, adam = methods()
    assert (sgd.recipe.recipe.lr, adam.recipe.recipe.lr) == (0.1, 0.001)  # and not from recipe.lr=0.7
    assert (sgd.recipe.recipe.schedule, adam.recipe.recipe.schedule_name) == ("step", "cosine")
    assert (sgd.abstained, adam.abstained) == (False, True)
    assert sgd.at(3.0).recipe.lr == pytest.approx(0.3)
    assert sgd.at(3.0).recipe.schedule == "step"


def test_a_method_of_another_batch_size_has_its_suggestion_scaled() -> None:
    big = [{**entry, "sets": {**entry["sets"], "recipe.batch_size": 64}} for entry in ENTRIES]  # of 16
    sgd, adam = methods(big)
    assert sgd.suggested == pytest.approx(0.4)
    assert adam.suggested == pytest.approx(0.002)


def test_every_method_tries_every_factor_from_one_seed_at_a_part_of_the_length() -> None:
    trials = rate_trials(methods(), settings(rate_epochs=0.25), seed=7)
    assert [(one.entry, one.factor) for one in trials] == [(name, f) for name in ("sgd", "adam") for f in FACTORS]
    assert {(one.seed, one.epochs, one.phase) for one in trials} == {(7, 2, "rate")}
    assert trials[2].recipe.recipe.lr == pytest.approx(0.3)
    assert {one.epochs for one in rate_trials(methods(), settings(rate_epochs=0.01), seed=7)} == {1}


def test_with_a_single_factor_there_is_nothing_to_try() -> None:
    assert rate_trials(methods(), settings(rate_factors=(2.0,)), seed=0) == []
    choice = choose_rate([], (2.0,))
    assert (choice.factor, choice.edge) == (2.0, "")


def test_full_trainings_use_seeds_that_chose_nothing() -> None:
    choices = {"sgd": choose_rate([trial(3.0, 0.9)], FACTORS), "adam": choose_rate([trial(1.0, 0.9)], FACTORS)}
    full = full_trainings(methods(), choices, settings(), seed=7)
    assert [(one.seed, one.entry) for one in full] == [(8, "sgd"), (8, "adam"), (9, "sgd"), (9, "adam")]
    assert {one.epochs for one in full} == {10}
    assert full[0].recipe.recipe.lr == pytest.approx(0.3)


def test_the_best_objective_wins_and_an_end_of_the_factors_is_named() -> None:
    assert choose_rate([trial(0.5, 0.7), trial(1.0, 0.8), trial(3.0, 0.75)], FACTORS).edge == ""
    high = choose_rate([trial(0.5, 0.7), trial(1.0, 0.8), trial(3.0, 0.9)], FACTORS)
    assert (high.factor, high.edge, high.words) == (3.0, "highest", "3× (highest tried)")
    assert high.scores == {0.5: 0.7, 1.0: 0.8, 3.0: 0.9}
    assert choose_rate([trial(0.5, 0.9), trial(1.0, 0.8), trial(3.0, 0.7)], FACTORS).edge == "lowest"


def test_of_equal_objectives_the_lower_validation_loss_wins() -> None:
    assert choose_rate([trial(0.5, 0.8, 0.6), trial(1.0, 0.8, 0.4), trial(3.0, 0.8, 0.5)], FACTORS).factor == 1.0


def test_a_rate_that_diverged_or_has_no_score_is_the_worst() -> None:
    choice = choose_rate([trial(0.5, 0.1), trial(1.0, None), trial(3.0, 0.9, diverged=True)], FACTORS)
    assert choice.factor == 0.5
    assert choice.scores == {0.5: 0.1, 1.0: None, 3.0: None}


def test_a_method_that_diverged_everywhere_has_no_rate_and_is_trained_no_further() -> None:
    lost = choose_rate([trial(factor, 0.5, diverged=True) for factor in FACTORS], FACTORS)
    assert (lost.factor, lost.words) == (None, "none: all diverged")
    choices = {"sgd": lost, "adam": choose_rate([trial(1.0, 0.9)], FACTORS)}
    assert {one.entry for one in full_trainings(methods(), choices, settings(), seed=0)} == {"adam"}
