"""From logits to decisions: the arithmetic by hand, the threshold, and which row decides."""

import math

import numpy as np
import pytest
from scipy import special

from components.evaluation.decision import DecisionRule, defect_log_odds, good_mask, sigmoid, worst_rows

GOOD_FIRST = np.array([True, False, False])


def rule(is_good=GOOD_FIRST, *, scale=1.0, bias=0.0, threshold=-0.4) -> DecisionRule:
    return DecisionRule(np.asarray(is_good), scale, bias, threshold)


@pytest.mark.parametrize(
    ("defect", "good", "scale", "bias", "expected"),
    [
        ([0.0], [0.0], 1.0, 0.0, 0.0),
        ([math.log(4)], [0.0], 1.0, 0.0, math.log(4)),
        ([0.0], [0.0], 3.0, math.log(3), math.log(3)),  # even odds, so the bias alone: 3 to 1
        ([math.log(4)], [0.0], 2.0, 0.0, math.log(16)),  # odds 4 squared
        ([math.log(1), math.log(2)], [math.log(5)], 1.0, 0.0, math.log(3 / 5)),  # 1 and 2 against 5
        ([800.0], [-800.0], 1.0, 0.0, 1600.0),  # no probability could tell it from 1599
        ([-800.0], [800.0], 1.0, 0.0, -1600.0),
    ],
)
def test_calibrated_log_odds_by_hand(defect, good, scale, bias, expected) -> None:
    is_good = np.arange(len(defect) + len(good)) >= len(defect)
    found = rule(is_good, scale=scale, bias=bias).decide(np.array([defect + good]))
    assert found.log_odds == pytest.approx([expected], abs=1e-12)


def test_log_odds_are_of_the_classes_that_are_not_good() -> None:
    is_good = good_mask(["good", "scratch", "clean"], ["good", "clean"])
    assert is_good.tolist() == [True, False, True]
    logits = np.log([[0.5, 0.2, 0.3], [0.1, 0.85, 0.05]])
    assert defect_log_odds(logits, is_good) == pytest.approx(np.log([0.2 / 0.8, 0.85 / 0.15]))


def test_certain_images_keep_their_order() -> None:
    logits = np.array([[0.0, -900.0], [0.0, -20.0], [0.0, 40.0], [0.0, 41.0], [-1e6, 1e6]], dtype=np.float32)
    assert defect_log_odds(logits, np.array([True, False])).tolist() == [-900.0, -20.0, 40.0, 41.0, 2e6]


def test_images_that_are_all_certain_are_told_apart_by_the_threshold() -> None:
    found = rule(threshold=41.5).decide(np.array([[0.0, 41.0, -1e3], [0.0, 42.0, -1e3]]))
    assert found.verdicts.tolist() == ["accept", "reject"]
    assert sigmoid(found.log_odds).tolist() == [1.0, 1.0]  # 1 − 1e-18 is 1


def test_probabilities_carry_the_calibrated_defect_mass_and_keep_the_ratios_within_a_side() -> None:
    logits = np.array([np.log([0.7, 0.2, 0.1]), [900.0, 1.0, 1.0]])
    found = rule(scale=0.8, bias=0.3).decide(logits)
    assert found.probabilities.sum(axis=1) == pytest.approx([1, 1])
    odds = defect_log_odds(logits, GOOD_FIRST)
    assert found.probabilities[:, 1:].sum(axis=1) == pytest.approx(special.expit(0.8 * odds + 0.3), rel=1e-9)
    assert found.probabilities[0, 1] / found.probabilities[0, 2] == pytest.approx(2.0)
    assert found.probabilities[1, 1] == found.probabilities[1, 2]


def test_the_defect_score_is_the_logistic_function_without_an_overflow() -> None:
    values = np.array([-1e4, -3.0, 0.0, 2.5, 1e4])
    with np.errstate(over="raise"):
        assert sigmoid(values) == pytest.approx(special.expit(values), rel=1e-14)


def test_a_score_at_the_threshold_is_rejected_and_just_below_it_accepted() -> None:
    logits = np.log([[0.5, 0.25, 0.25]])
    (log_odds,) = rule().decide(logits).log_odds
    for threshold, verdict in ((log_odds, "reject"), (np.nextafter(log_odds, 1), "accept")):
        assert rule(threshold=threshold).decide(logits).verdicts.tolist() == [verdict]


def test_the_verdict_follows_the_threshold_and_not_the_likeliest_class() -> None:
    found = rule().decide(np.log([[0.55, 0.25, 0.20]]))
    assert (found.probabilities.argmax(), found.verdicts[0]) == (0, "reject")


def test_without_a_good_class_there_are_the_probabilities_of_the_logits_and_no_verdict() -> None:
    found = rule([False] * 3, scale=2.0, bias=1.0, threshold=None).decide(np.log([[0.2, 0.7, 0.1]]))
    assert found.probabilities == pytest.approx(np.array([[0.2, 0.7, 0.1]]))
    assert np.isnan(found.log_odds).all()
    assert found.verdicts.tolist() == [None]


@pytest.mark.parametrize("is_good", [[True, False, False], [False] * 3])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_an_output_that_is_not_finite_is_reviewed_never_accepted(is_good, value) -> None:
    threshold = 0.0 if any(is_good) else None
    with np.errstate(all="raise"):
        found = rule(is_good, threshold=threshold).decide(np.array([[value, 0.5, 0.5], [3.0, 0.0, 0.0]]))
    assert found.verdicts.tolist() == ["review", "accept" if any(is_good) else None]
    assert np.isnan(found.log_odds[0])
    assert np.isnan(found.probabilities[0]).all()
    assert found.probabilities[1].sum() == pytest.approx(1)


def test_the_rule_of_a_card() -> None:
    card = {
        "classes": ["pit", "good"],
        "good_classes": ["good"],
        "calibration": {"scale": 2.0, "bias": -1.0},
        "operating_point": {"threshold_log_odds": 0.25},
    }
    found = DecisionRule.from_card(card)
    assert (found.is_good.tolist(), found.scale, found.bias, found.threshold) == ([False, True], 2.0, -1.0, 0.25)
    assert DecisionRule.from_card(card | {"good_classes": [], "operating_point": None}).threshold is None


def worst(*rows) -> list[int]:
    """rows: (key, log-odds, verdict)."""
    keys, log_odds, verdicts = zip(*rows, strict=True)
    return worst_rows(np.array(keys), np.array(log_odds), np.array(verdicts, dtype=object)).tolist()


def test_the_tile_with_the_highest_log_odds_decides_for_its_image() -> None:
    rows = [
        ("b", 0.2, "accept"),
        ("a", 0.1, "accept"),
        ("b", 0.4, "accept"),
        ("a", 0.9, "reject"),
        ("a", 0.3, "accept"),
    ]
    assert worst(*rows) == [3, 2]  # of a, of b


def test_a_rejected_image_rejects_its_part_whatever_the_others_are_and_one_that_nobody_has_seen_stops_it() -> None:
    low, high, reject = ("p", -2.0, "accept"), ("p", -1.0, "accept"), ("p", 0.8, "reject")
    unknown = ("p", np.nan, "review")
    assert worst(high, reject) == [1]
    assert worst(unknown, high) == [0]
    assert worst(low, unknown) == [1]
    assert worst(reject, unknown) == [0]
    assert worst(unknown, reject) == [1]
    assert worst(low, ("p", -2.0, "accept")) == [0]


def test_no_rows_decide_nothing() -> None:
    assert worst_rows(np.empty(0), np.empty(0), np.empty(0, dtype=object)).tolist() == []
