"""The operating point: counted by hand on small sets, and its guarantee checked by simulation."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import special, stats

from components.errors import InputError
from components.evaluation.intervals import upper_bound
from components.evaluation.operating_point import Evidence, OperatingPoint, choose_operating_point
from components.evaluation.thresholds import allowed_misses
from components.evaluation.transfer import SeenScores

HELD_OUT = Evidence("held_out", folds=0, choices=1)
OUT_OF_FOLD = Evidence("out_of_fold", folds=3, choices=1)
TRANSFERRED = Evidence("transferred", folds=3, choices=1)


def test_58_defectives_allow_nothing_59_and_92_no_miss_93_one() -> None:
    allowed = [allowed_misses(count, 0.05, confidence=0.95) for count in (58, 59, 92, 93)]
    assert allowed == [None, 0, 0, 1]


def test_the_threshold_rejects_every_defective_when_no_miss_is_allowed() -> None:
    defects, goods = np.linspace(0.4, 0.9, 60), np.array([0.1, 0.2, 0.6])
    point = _choose(defects, goods)
    assert point.certified
    assert point.threshold_log_odds == pytest.approx((0.2 + 0.4) / 2)
    assert (point.escapes, point.overkills) == (0, 1)
    assert point.escape_upper_bound == pytest.approx(1 - 0.05 ** (1 / 60))


def test_an_allowed_miss_is_spent_only_where_it_saves_overkill() -> None:
    defects = np.append(np.linspace(0.5, 0.9, 92), 0.05)
    spent = _choose(defects, np.array([0.01, 0.3]))
    assert (spent.escapes, spent.overkills) == (1, 0)
    assert spent.threshold_log_odds == pytest.approx((0.3 + 0.5) / 2)
    kept = _choose(defects, np.array([0.01, 0.95]))
    assert (kept.escapes, kept.overkills) == (0, 1)


def test_too_few_defectives_give_an_estimate_and_say_how_many_more_would_certify() -> None:
    point = _choose(np.linspace(0.3, 0.9, 40), np.array([0.1, 0.5]))
    assert not point.certified
    assert point.escapes / 40 <= 0.05
    assert "Not certified" in point.statement
    assert "at least 19 more" in point.statement


def test_the_certified_statement_gives_budget_confidence_counts_and_cost() -> None:
    statement = _choose(np.linspace(0.4, 0.9, 60), np.array([0.1, 0.2, 0.6])).statement
    for part in ("95 % confidence", "at most 5 %", "0 of 60 defective images", "1 of 3 good images"):
        assert part in statement


def test_the_statement_counts_one_as_one() -> None:
    one = _choose(np.array([0.9]), np.array([0.1])).statement
    assert one.startswith("Not certified: 1 defective image cannot prove an escape rate of at most 5 %")
    assert "at least 58 more are needed" in one
    assert "0 of 1 defective image escaped" in one
    assert one.endswith("It rejects 0 of 1 good image (0 %).")
    assert "at least 1 more is needed" in _choose(np.linspace(0.3, 0.9, 58), np.array([0.1])).statement
    parts = _choose(np.ones(3), np.zeros(2), np.array([0, 0, 0, 1, 1])).statement
    assert parts.startswith("Not certified: 1 group with defective images cannot")


def test_images_of_one_part_are_certified_as_parts() -> None:
    defects, goods = np.linspace(0.4, 0.9, 120), np.array([0.1, 0.2])
    groups = np.array([f"part {index // 3}" for index in range(122)])
    point = _choose(defects, goods, groups)
    assert (point.unit, point.defects) == ("group", 40)
    assert not point.certified
    assert "at least 19 more" in point.statement


def test_parts_of_one_image_each_count_as_images() -> None:
    point = _choose(np.linspace(0.4, 0.9, 60), np.array([0.1]), np.arange(61))
    assert (point.unit, point.certified) == ("image", True)


def test_tied_scores_fall_on_the_same_side() -> None:
    point = _choose(np.full(60, 0.5), np.array([0.5, 0.4]))
    assert point.threshold_log_odds == pytest.approx(0.45)
    assert (point.escapes, point.overkills) == (0, 1)


def test_scores_of_zero_reject_everything_rather_than_lose_a_defective() -> None:
    point = _choose(np.append(np.full(59, 0.9), 0.0), np.array([0.0, 0.1]))
    assert point.threshold_log_odds == pytest.approx(-np.log(2))  # at half the odds of the lowest
    assert (point.escapes, point.overkills) == (0, 2)


def test_the_balanced_threshold_separates_what_can_be_separated() -> None:
    point = _choose(np.array([0.7, 0.8, 0.9]), np.array([0.1, 0.2, 0.3, 0.75]))
    assert point.balanced_threshold_log_odds == pytest.approx(0.5)


@pytest.mark.parametrize(("is_defect", "missing"), [([True, True], "good"), ([False, False], "defective")])
def test_one_class_is_refused_with_the_key_to_change(is_defect: list[bool], missing: str) -> None:
    with pytest.raises(
        InputError, match=rf"no {missing} image in the calibration split \(of 2\).*data\.splits\.calibration"
    ):
        choose_operating_point(
            np.array([0.1, 0.9]),
            np.array(is_defect),
            escape_budget=0.05,
            confidence=0.95,
            groups=np.arange(2),
            evidence=HELD_OUT,
            folds=None,
            seen=None,
        )


def test_certain_scores_are_thresholded_by_their_order() -> None:
    # Goods at the quantiles of a normal distribution about −20 with a spread of 4; two of 60 defectives at −17, and no
    # miss allowed. Rejected are the goods above −17: (i + 0.5) / 400 > Φ(0.75) = 0.7734, so i from 309 to 399.
    goods = -20 + 4 * stats.norm.ppf((np.arange(400) + 0.5) / 400)
    point = _choose(np.append(np.full(58, 6.0), [-17.0, -17.0]), goods)
    assert point.certified
    assert (point.escapes, point.overkills) == (0, 91)
    assert goods[308] < point.threshold_log_odds < -17
    assert point.threshold == pytest.approx(special.expit(point.threshold_log_odds))


def test_scores_that_round_to_one_are_told_apart() -> None:
    point = _choose(np.linspace(41, 60, 60), np.array([38.0, 39.0, 45.0]))
    assert (point.threshold, point.overkills) == (1.0, 1)
    assert point.threshold_log_odds == pytest.approx(40)


def test_scores_that_are_not_finite_are_refused() -> None:
    with pytest.raises(ValueError, match="1 of 2 scores are not finite"):
        _choose(np.array([np.nan]), np.array([0.2]))


def test_a_point_survives_its_json_record() -> None:
    point = _choose(np.linspace(0.4, 0.9, 60), np.array([0.1, 0.2, 0.6]))
    record = json.loads(json.dumps(point.to_dict(), allow_nan=False))
    assert record.pop("evidence") == {"kind": "held_out", "folds": 0, "choices": 1, "not_certifying": []}
    assert OperatingPoint(**record, evidence=HELD_OUT) == point


def test_a_certified_threshold_breaks_the_budget_no_more_often_than_stated() -> None:
    generator = np.random.default_rng(0)
    broken = 0
    for _ in range(1000):
        scores = generator.random(300)  # defectives uniform: the true escape rate is the threshold itself
        point = choose_operating_point(
            scores,
            np.arange(300) < 150,
            escape_budget=0.05,
            confidence=0.9,
            groups=np.arange(300),
            evidence=HELD_OUT,
            folds=None,
            seen=None,
        )
        broken += point.threshold_log_odds > 0.05
    assert upper_bound(broken, 1000, confidence=0.5) < 0.12


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**30), st.integers(1, 200), st.floats(0.02, 0.3), st.sampled_from([0.8, 0.95]))
def test_a_certified_bound_is_within_the_budget_and_a_choice_never_allows_more(
    seed: int, defects: int, budget: float, confidence: float
) -> None:
    generator = np.random.default_rng(seed)
    scores = np.append(generator.normal(1, 1, defects), generator.normal(0, 1, 50))
    points = [
        choose_operating_point(
            scores, np.arange(scores.size) < defects, escape_budget=budget, confidence=confidence,
            groups=np.arange(scores.size), evidence=Evidence("out_of_fold", folds=3, choices=choices), folds=None,
            seen=None,
        )
        for choices in (1, 2)
    ]  # fmt: skip
    for point in points:
        assert (point.escape_upper_bound <= budget) or not point.certified
        assert point.escapes <= budget * point.defects
    one, two = points
    assert one.certified or not two.certified
    assert two.threshold_log_odds <= one.threshold_log_odds or not two.certified


def test_two_candidates_cost_misses() -> None:
    # At 95 % 93 defectives allow one miss of 5 %; at 97.5 % (half of the risk each) they allow none.
    scores = np.append(np.linspace(0.5, 0.9, 92), [0.05, 0.01, 0.3])
    one, two = (
        choose_operating_point(
            scores, np.arange(95) < 93, escape_budget=0.05, confidence=0.95, groups=np.arange(95),
            evidence=Evidence("out_of_fold", folds=3, choices=choices, not_certifying=(0,)), folds=None, seen=None,
        )
        for choices in (1, 2)
    )  # fmt: skip
    assert (one.escapes, two.escapes) == (1, 0)
    assert two.escape_upper_bound == pytest.approx(1 - 0.025 ** (1 / 93))
    assert "chosen among 2 candidates on these scores, so each has to show the budget at 97.5 %" in two.statement
    assert "candidates" not in one.statement
    assert "Fold 0 does not certify" in one.statement


def test_the_statement_names_the_kind_of_scores() -> None:
    scores = np.append(np.linspace(0.5, 0.9, 60), [0.1, 0.2])
    said = {
        evidence.kind: choose_operating_point(
            scores, np.arange(62) < 60, escape_budget=0.05, confidence=0.95, groups=np.arange(62), evidence=evidence,
            folds=np.arange(62) % 3, seen=SeenScores(scores, scores),
        ).statement
        for evidence in (HELD_OUT, OUT_OF_FOLD, TRANSFERRED)
    }  # fmt: skip
    assert "Certified on the calibration split" in said["held_out"]
    assert "which itself was not measured" not in said["held_out"]
    assert "the one of 3 models that had not seen it" in said["out_of_fold"]
    assert "the delivered one is their mean, which itself was not measured" in said["out_of_fold"]
    assert "trained on all images and not measured" in said["transferred"]
    assert "Check: thresholds chosen without a fold and applied to it let" in said["transferred"]


def test_a_single_network_that_scored_its_fold_is_the_one_that_was_measured() -> None:
    scores = np.append(np.linspace(0.5, 0.9, 60), [0.1, 0.2])
    point = choose_operating_point(
        scores, np.arange(62) < 60, escape_budget=0.05, confidence=0.95, groups=np.arange(62),
        evidence=Evidence("out_of_fold", folds=1, choices=1), folds=None, seen=None,
    )  # fmt: skip
    assert "The delivered network had not seen these images." in point.statement


def test_a_transferred_threshold_is_carried_over_to_the_scale_of_the_delivered_model() -> None:
    scores = np.append(np.linspace(-1, 0.9, 100), np.linspace(-3, -0.8, 50))
    points = [
        choose_operating_point(
            scores, np.arange(150) < 100, escape_budget=0.1, confidence=0.95, groups=np.arange(150), evidence=evidence,
            folds=np.arange(150) % 3, seen=SeenScores(scores, 2 * scores),
        )
        for evidence in (OUT_OF_FOLD, TRANSFERRED)
    ]  # fmt: skip
    ensemble, single = points
    assert ensemble.threshold_log_odds < 0
    assert single.threshold_log_odds == pytest.approx(2 * ensemble.threshold_log_odds)
    assert single.threshold == pytest.approx(special.expit(single.threshold_log_odds))
    assert (single.escapes, single.overkills) == (ensemble.escapes, ensemble.overkills)
    assert single.certified


def test_without_its_own_scores_a_transferred_threshold_is_not_certified() -> None:
    scores = np.append(np.linspace(0.5, 0.9, 60), [0.1, 0.2])
    point = choose_operating_point(
        scores, np.arange(62) < 60, escape_budget=0.05, confidence=0.95, groups=np.arange(62), evidence=TRANSFERRED,
        folds=np.arange(62) % 3, seen=None,
    )  # fmt: skip
    assert not point.certified
    assert "whether it can was not checked" in point.statement


def _choose(defects: np.ndarray, goods: np.ndarray, groups: np.ndarray | None = None) -> OperatingPoint:
    """Scores that stand for log-odds: between 0 and 1 both have the same order."""
    scores = np.concatenate([defects, goods])
    return choose_operating_point(
        scores,
        np.arange(scores.size) < defects.size,
        escape_budget=0.05,
        confidence=0.95,
        groups=np.arange(scores.size) if groups is None else groups,
        evidence=HELD_OUT,
        folds=None,
        seen=None,
    )
