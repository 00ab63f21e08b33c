"""The regret of rules that keep one of two recipes, by hand arithmetic."""

import pytest
from confirmation import RULES, Constants, decisions, fit, judge, reported
from confirmation_cases import Case

CONSTANTS = Constants(gain_share=0.2, selection=0.005, gain_sd=0.03, seed_sd=0.01, correlation=0.5)


def case(*, gain: float, truth: float, differences=None, weight: float = 1.0, sampling: float = 1e-6) -> Case:
    return Case(
        set="s",
        objective="auroc",
        weight=weight,
        gain=gain,
        score=0.8,
        differences=(truth,) * 3 if differences is None else differences,
        sampling=(sampling,) * 3,
        alone=(2e-4,) * 3,
        truths=(truth - 0.01, truth, truth + 0.01),
        truth=truth,
        counts=((500, 500),) * 3,
    )


def test_the_fit_finds_the_share_of_the_gain_that_is_left() -> None:
    found = fit([case(gain=gain, truth=0.25 * gain - 0.01, weight=0.5, sampling=1e-4) for gain in (0.05, 0.1)])
    assert (found.gain_share, found.selection) == (pytest.approx(0.25), pytest.approx(0.01))
    assert found.gain_sd == pytest.approx(0, abs=1e-9)
    assert found.correlation == pytest.approx(1 - 1e-4 / (2 * 2e-4))


def test_a_search_gains_nothing_beyond_its_scores() -> None:
    found = fit([case(gain=gain, truth=0.02, weight=0.5) for gain in (0.05, 0.1)])
    assert found.selection == 0


def test_what_a_rule_loses_is_the_better_recipe_less_the_kept_one() -> None:
    worse, better = case(gain=0.1, truth=-0.04, weight=0.5), case(gain=0.1, truth=0.02, weight=0.5)
    record = judge([worse, better], CONSTANTS, 3)
    assert record["regret"]["winner"] == pytest.approx(0.02)
    assert record["regret"]["defaults"] == pytest.approx(0.01)
    assert record["regret"]["expected"] == pytest.approx(0.0)
    assert record["takes_winner"]["expected"] == pytest.approx(0.5)
    assert record["winner_gains"] == pytest.approx(-0.01)


def test_a_confirmation_that_could_detect_nothing_is_left_out_and_the_search_decides() -> None:
    small = CONSTANTS.__class__(gain_share=0.2, selection=0.005, gain_sd=0.001, seed_sd=0.1, correlation=0.5)
    takes, trained = decisions(case(gain=0.1, truth=-0.04), (0, 1), small)
    assert not trained
    assert takes["auto"]
    assert not decisions(case(gain=0.01, truth=0.04), (0, 1), small)[0]["auto"]


def test_of_the_reported_case_every_rule_but_the_cautious_ones_takes_the_winner() -> None:
    takes = reported(CONSTANTS)
    assert takes.keys() == set(RULES)
    assert takes["expected"]
    assert takes["auto"]
    assert not takes["lower bound"]
