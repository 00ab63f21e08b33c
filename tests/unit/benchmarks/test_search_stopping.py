"""When a search with a stopping rule has arrived at the regret of the one without."""

import math

import numpy as np
import pytest
from search_bandit import interval
from search_bandit import verdicts as bandit_verdicts
from search_stopping import RULES, Outcomes, Study, arrival, compare, draw_curves, least_share, measure, verdicts


@pytest.mark.parametrize(
    ("regret", "epochs"),
    [
        ([0.5, 0.3, 0.1, 0.1], 30),
        ([0.2, 0.2, 0.2, 0.2], 10),  # there from the start
        ([0.5, 0.1, 0.3, 0.2], 40),  # it leaves again, so the first arrival does not count
        ([0.5, 0.1, 0.1, 0.3], math.inf),
    ],
)
def test_it_has_arrived_where_it_stays_at_or_below_the_target(regret, epochs):
    assert arrival(np.array([10, 20, 30, 40]), np.array(regret), 0.2) == epochs


@pytest.mark.parametrize(
    ("epochs", "trials", "fraction", "share"),
    [
        # Rungs 1, 3, 9: a trial costs 1 + 2/3 + 6/9 = 7/3 of 9 epochs; the defaults cost 9 of 9.
        (9, 16, 0.0, 1 / 16 + 15 / 16 * 7 / 27),
        (9, 21, 0.1, 3 / 21 + 18 / 21 * 7 / 27),  # the defaults and two of twenty
        # Rungs 3, 9, 27: the same in threes.
        (27, 16, 0.0, 1 / 16 + 15 / 16 * 7 / 27),
    ],
)
def test_what_the_rungs_ask_for_by_arithmetic(epochs, trials, fraction, share):
    assert least_share(epochs, trials, fraction) == pytest.approx(share)


def outcomes(regret, epochs):
    looks = np.array([10, 20, 30])
    return Outcomes(looks, np.array(regret), np.array(epochs, dtype=float), np.array(epochs, dtype=float))


def test_the_ratio_is_of_the_epochs_at_the_arrival_and_those_of_the_whole_search_without():
    without = outcomes([[0.5, 0.3, 0.2], [0.5, 0.3, 0.2]], [30, 30])
    ruled = outcomes([[0.5, 0.1, 0.1], [0.5, 0.3, 0.3]], [16, 20])
    found = compare(ruled, without)
    # At the second look the mean is 0.2, which is what the search without ends with; 16 and 20 epochs are trained.
    assert found["ratio"] == pytest.approx(18 / 30)
    assert found["share_of_epochs"] == pytest.approx(18 / 30)
    assert found["regret_difference"] == pytest.approx(0.0)


def test_a_rule_that_ends_above_does_not_arrive_and_says_so_without_infinity():
    without = outcomes([[0.5, 0.3, 0.1]] * 2, [30, 30])
    found = compare(outcomes([[0.5, 0.2, 0.2]] * 2, [20, 20]), without)
    assert found["ratio"] is None
    assert found["ratio_interval"] == [None, None]
    assert found["resamples_within_target"] == 0


def test_every_rule_is_measured_where_it_belongs(tmp_path):
    from search_landscapes import FineTuning

    study = Study(name="tiny", problem=lambda seed: FineTuning(epochs=9, seed=seed), trials=(6,), workers=(1, 8))
    result = measure(study, seeds=2)
    measured = {(row["rule"], row["workers"]) for row in result["compared"]}
    asha = {(rule, workers) for rule in ("asha", "asha, a tenth unstopped") for workers in (1, 8)}
    assert measured == asha | {(rule, 8) for rule in RULES if rule.startswith(("hyperband", "median"))}
    assert {curve["rule"] for curve in result["curves"]} == set(RULES)
    assert all(row["epochs"] <= row["epochs_without"] for row in result["compared"])
    assert len(verdicts([result])) == 4
    draw_curves([result], tmp_path / "curves.png")
    assert (tmp_path / "curves.png").stat().st_size > 10_000


def test_the_interval_of_a_mean_is_students():
    # Mean 2, standard deviation 1, n 3: half of the interval is t(0.975, 2) / sqrt(3) = 4.3027 / 1.7321.
    found = interval(np.array([1.0, 2.0, 3.0]))
    assert found["mean"] == 2
    assert found["high"] - found["mean"] == pytest.approx(2.4841, abs=1e-4)
    assert interval(np.array([1.0])) == {"mean": 1.0, "low": None, "high": None}


@pytest.mark.parametrize(
    ("trials", "low", "high", "met"),
    [
        (8, -0.3, -0.1, True),
        (8, -0.3, 0.1, False),  # perhaps ahead is not ahead
        (20, -0.1, 0.3, True),
        (20, 0.1, 0.3, False),
        (8, None, None, False),
    ],
)
def test_ahead_with_its_whole_interval_and_not_behind_with_a_part_of_it(trials, low, high, met):
    difference = {"mean": 0.0, "low": low, "high": high}
    result = {"problem": "p", "trials": trials, "ours_minus": {"random": difference, "tpe": difference}}
    assert [verdict["met"] for verdict in bandit_verdicts([result]).values()] == [met, met]
