"""What a search with a stopping rule needs for the regret of the one without; when the bandit counts as ahead."""

import numpy as np
import pytest
from search_bandit import interval
from search_bandit import verdicts as bandit_verdicts
from search_stopping import RULES, Outcomes, Study, compare, draw_curves, least_share, measure, slope, verdicts


def test_the_slope_is_the_power_of_a_power_law():
    assert slope([10, 100, 1000], [0.1, 0.01, 0.001]) == pytest.approx(-1)
    assert slope([10, 1000], [0.1, 0.01]) == pytest.approx(-0.5)


@pytest.mark.parametrize(
    ("epochs", "trials", "fraction", "share"),
    [
        # Rungs 3, 9: a trial costs 3 + 6/3 = 5 of 9 epochs; the defaults cost 9 of 9.
        (9, 16, 0.0, 1 / 16 + 15 / 16 * 5 / 9),
        (9, 41, 0.1, 5 / 41 + 36 / 41 * 5 / 9),  # the defaults and four of forty
        (9, 21, 0.1, 1 / 21 + 20 / 21 * 5 / 9),  # the defaults alone: two would be too few to measure on
        # Rungs 9, 27: the same in threes.
        (27, 16, 0.0, 1 / 16 + 15 / 16 * 5 / 9),
    ],
)
def test_what_the_rungs_ask_for_by_arithmetic(epochs, trials, fraction, share):
    assert least_share(epochs, trials, fraction) == pytest.approx(share)


def outcomes(regret, epochs):
    """Of two seeds that are alike."""
    return Outcomes(np.array([1]), np.full((2, 1), regret), np.full(2, epochs), np.full(2, epochs))


#: A quarter of the regret for sixteen times the epochs: a power of -1/2.
FALLING = [outcomes(0.4, 10.0), outcomes(0.1, 160.0)]


@pytest.mark.parametrize(
    ("regret", "ratio"),
    [
        (0.2, 0.3),  # the same regret: all its epochs
        (0.1, 0.3 / 4),  # half the regret: a quarter of its epochs would have done
        (0.3, 0.3 * 1.5**2),
    ],
)
def test_the_epochs_needed_are_told_along_the_line_of_the_sweep(regret, ratio):
    found = compare(outcomes(regret, 30.0), outcomes(0.2, 100.0), FALLING)
    assert found["ratio"] == pytest.approx(ratio)
    assert found["ratio_interval"] == pytest.approx([ratio, ratio])
    assert found["share_of_epochs"] == pytest.approx(0.3)
    assert found["regret_difference"] == pytest.approx(regret - 0.2)


def test_where_the_regret_does_not_fall_nothing_is_said_of_the_epochs_needed():
    flat = [outcomes(0.2, 10.0), outcomes(0.2, 160.0)]
    assert compare(outcomes(0.1, 30.0), outcomes(0.2, 100.0), flat)["ratio"] is None
    assert compare(outcomes(0.1, 30.0), outcomes(0.2, 100.0), [])["ratio"] is None


def test_the_interval_comes_from_the_seeds():
    reference = Outcomes(np.array([1]), np.array([[0.1], [0.3]]), np.full(2, 100.0), np.full(2, 1.0))
    found = Outcomes(np.array([1]), np.array([[0.2], [0.2]]), np.full(2, 30.0), np.full(2, 1.0))
    # Resamples are one seed twice, or both: 0.2 against 0.1, 0.3 or 0.2.
    low, high = compare(found, reference, FALLING)["ratio_interval"]
    assert low == pytest.approx(0.3 * (2 / 3) ** 2)
    assert high == pytest.approx(0.3 * 2**2)


def test_every_rule_is_measured_where_it_belongs(tmp_path):
    from search_landscapes import FineTuning

    study = Study(
        name="tiny",
        problem=lambda seed: FineTuning(epochs=9, seed=seed),
        trials=(6,),
        workers=(1, 8),
        sizes=(6, 12),
    )
    result = measure(study, seeds=2)
    measured = {(row["rule"], row["workers"]) for row in result["compared"]}
    asha = {(rule, workers) for rule in ("asha", "asha, a tenth unstopped") for workers in (1, 8)}
    assert measured == asha | {(rule, 8) for rule in RULES if rule.startswith(("hyperband", "median"))}
    assert {curve["rule"] for curve in result["curves"]} == set(RULES)
    assert all(row["epochs"] <= row["epochs_without"] for row in result["compared"])
    draw_curves([result], tmp_path / "curves.png")
    assert (tmp_path / "curves.png").stat().st_size > 10_000


@pytest.mark.parametrize(("ratio", "met"), [(0.66, [True]), (0.67, [False]), (None, [])])
def test_two_thirds_of_the_epochs_is_the_limit_and_without_an_answer_there_is_no_verdict(ratio, met):
    row = {
        "rule": "asha",
        "trials": 64,
        "workers": 8,
        "ratio": ratio,
        "ratio_interval": [0.2, 0.5],
        "least_share": 0.27,
    }
    found = verdicts([{"study": "s", "compared": [row, {**row, "rule": "median, a tenth unstopped"}]}])
    assert [verdict["met"] for verdict in found.values()] == met


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
