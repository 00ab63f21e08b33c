"""Taking a threshold over: carried by hand arithmetic, and each fold judged by the others' threshold."""

import numpy as np
import pytest

from components.evaluation.intervals import upper_bound
from components.evaluation.operating_point import Evidence, choose_operating_point
from components.evaluation.thresholds import allowed_misses
from components.evaluation.transfer import SeenScores, carried_over, transfer_check

OUT_OF_FOLD = Evidence("out_of_fold", folds=3, choices=1)
TRANSFERRED = Evidence("transferred", folds=3, choices=1)


def test_a_threshold_keeps_its_distance_from_the_mean_in_standard_deviations() -> None:
    # Folds: mean 1, deviation 2; delivered: mean 2, deviation 6. From -1 (one deviation below the mean) to 2 - 6.
    seen = SeenScores(np.array([-1.0, 3.0]), np.array([-4.0, 8.0]))
    assert carried_over(-1.0, seen) == pytest.approx(-4.0)


def test_a_threshold_is_never_raised() -> None:
    assert carried_over(-1.0, SeenScores(np.array([-2.0, 2.0]), np.array([-1.0, 1.0]))) == -1.0


def test_scores_that_are_all_the_same_leave_the_threshold() -> None:
    assert carried_over(-1.0, SeenScores(np.zeros(3), np.array([-1.0, 1.0]))) == -1.0


# Three folds of 20 defectives each and one good image; with a budget of 0.3 at 90 %, 40 defectives allow this many.
BUDGET, SURE = 0.3, 0.9


def three_folds(shift: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Defectives at 1 to 20 in each fold, the last fold's `shift` lower; a good image above all in each."""
    defects = np.concatenate([np.arange(1.0, 21), np.arange(1.0, 21), np.arange(1.0, 21) - shift])
    scores = np.append(defects, [100.0, 100.0, 100.0])
    return scores, np.arange(63) < 60, np.append(np.repeat([0, 1, 2], 20), [0, 1, 2])


def test_each_fold_is_judged_by_the_threshold_of_the_others() -> None:
    assert allowed_misses(40, BUDGET, confidence=SURE) == 7
    # A good image above everything is rejected at any threshold, so the fewest escapes are taken: none.
    scores, is_defect, folds = three_folds(0)
    check = transfer_check(scores, is_defect, np.arange(63), folds, budget=BUDGET, confidence=SURE)
    assert (check.escapes, check.units) == (0, 60)
    # Good images below everything but 7 defectives of the others: both others have 1 to 3 below 3.5, that is 6 of 40.
    scores[60:] = 3.5
    check = transfer_check(scores, is_defect, np.arange(63), folds, budget=BUDGET, confidence=SURE)
    assert (check.escapes, check.units) == (9, 60)
    assert check.upper_bound == pytest.approx(upper_bound(9, 60, confidence=SURE))
    # The last fold's lie 10 lower: of them 13 are below 3.5. The first two folds allow 7 of 40 and cut at 3.5; with the
    # last among the others they allow 7 below -2, the eighth lowest of 41 scores, so nothing of the first two escapes.
    scores, is_defect, folds = three_folds(10)
    scores[60:] = 3.5
    check = transfer_check(scores, is_defect, np.arange(63), folds, budget=BUDGET, confidence=SURE)
    assert (check.escapes, check.units) == (13, 60)


def test_a_threshold_that_does_not_hold_for_another_fold_is_not_certified() -> None:
    scores, is_defect, folds = three_folds(100)
    scores[60:] = 3.5
    point, ensemble = (
        choose_operating_point(
            scores, is_defect, escape_budget=BUDGET, confidence=SURE, groups=np.arange(63), evidence=evidence,
            folds=folds, seen=SeenScores(scores, scores),
        )
        for evidence in (TRANSFERRED, OUT_OF_FOLD)
    )  # fmt: skip
    assert point.transfer.escapes > BUDGET * 60
    assert not point.certified
    assert "their threshold may not hold for another model, see the check" in point.statement
    assert ensemble.certified
    assert ensemble.transfer is None


def test_parts_count_once_in_the_check() -> None:
    scores, is_defect, folds = three_folds(0)
    parts = np.repeat(np.arange(63), 2)
    check = transfer_check(scores[parts], is_defect[parts], parts, folds[parts], budget=BUDGET, confidence=SURE)
    assert check.units == 60


def test_one_fold_cannot_be_checked() -> None:
    scores, is_defect, _ = three_folds(0)
    one = np.zeros(63, dtype=int)
    assert transfer_check(scores, is_defect, np.arange(63), one, budget=BUDGET, confidence=SURE) is None
    point = choose_operating_point(
        scores, is_defect, escape_budget=BUDGET, confidence=SURE, groups=np.arange(63), evidence=TRANSFERRED, folds=one,
        seen=SeenScores(scores, scores),
    )  # fmt: skip
    assert not point.certified
    assert "whether it can was not checked" in point.statement
