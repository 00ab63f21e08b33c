"""What further trials may add, against an integral and a simulation."""

import math

import numpy as np
import pytest

from components.search.improvement import expected_improvement, too_little_to_gain
from components.search.trial import Suggestion, TrialRecord


def test_of_one_trial_it_is_the_formula_of_a_normal_distribution() -> None:
    scores = [0.4, 0.5, 0.6]
    z, sd = 1.0, 0.1
    expected = sd * (math.exp(-z * z / 2) / math.sqrt(2 * math.pi) - z * (1 - 0.5 * (1 + math.erf(z / math.sqrt(2)))))
    assert expected_improvement(scores, trials=1) == pytest.approx(expected, rel=1e-3)


def test_of_several_it_is_what_the_best_of_them_adds_on_average() -> None:
    drawn = np.random.default_rng(0).normal(0.5, 0.1, (200_000, 4)).max(axis=1)
    expected = float(np.maximum(drawn - 0.6, 0).mean())
    assert expected_improvement([0.4, 0.5, 0.6], trials=4) == pytest.approx(expected, rel=0.02)


def test_nothing_is_above_a_perfect_score_and_no_spread_adds_nothing() -> None:
    assert expected_improvement([0.2, 0.6, 0.99], trials=100) == pytest.approx(0.01)
    assert expected_improvement([0.7, 0.7], trials=100) == 0


def trials(*scores: float, epoch: int = 3) -> list[TrialRecord]:
    return [
        TrialRecord(
            number=number,
            suggestion=Suggestion(point={}, overrides={}, epochs=9),
            unstopped=False,
            scores={1: 0.1, epoch: score},
        )
        for number, score in enumerate(scores)
    ]


def enough(records: list[TrialRecord], *, first: int = 4, least: float = 0.015) -> str:
    return too_little_to_gain(records, epoch=3, first=first, num_trials=9, least=least)


def test_a_search_goes_on_as_long_as_the_remaining_trials_may_add_enough() -> None:
    alike, apart = trials(0.8, 0.81, 0.8, 0.79, 0.8), trials(0.8, 0.5, 0.6, 0.9, 0.7)
    assert enough(alike).startswith("the remaining 4 trials are expected to raise the best score after epoch 3 by 0.00")
    assert enough(apart) == ""
    assert enough(alike, least=0.0005) == ""


def test_it_says_nothing_before_the_first_trials_have_come_to_the_epoch_or_with_few_scores() -> None:
    alike = [0.8, 0.81, 0.8, 0.79, 0.8]
    assert enough(trials(*alike), first=6) == ""
    late = [*trials(*alike[:4]), *trials(0.8, epoch=2)]
    assert enough(late, first=5) == ""
    late[4].status = "failed"
    assert enough(late, first=5) == ""  # four scores alone
    assert enough(trials(*alike, *alike)[:9]) == ""  # nothing remains
