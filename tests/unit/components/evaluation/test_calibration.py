"""Scale and bias: recovered from scores made with known ones, and sane on the awkward inputs."""

import warnings

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from scipy import special

from components.evaluation.calibration import Calibration, fit_calibration, fit_decision
from components.evaluation.operating_point import Evidence


def calibrate_log_odds(log_odds: np.ndarray, fitted: Calibration) -> np.ndarray:
    return fitted.scale * log_odds.astype(np.float64) + fitted.bias


def test_a_known_distortion_is_recovered() -> None:
    generator = np.random.default_rng(0)
    log_odds = generator.normal(size=20_000) * 2
    is_defect = generator.random(20_000) < special.expit(0.5 * log_odds - 1.2)
    fitted = fit_calibration(log_odds, is_defect)
    assert (fitted.scale, fitted.bias) == pytest.approx((0.5, -1.2), abs=0.05)
    assert fitted.note == ""


def test_the_mean_calibrated_score_is_the_share_of_defectives() -> None:
    generator = np.random.default_rng(1)
    is_defect = generator.random(500) < 0.2
    log_odds = generator.normal(size=500) + 2 * is_defect
    calibrated = special.expit(calibrate_log_odds(log_odds, fit_calibration(log_odds, is_defect)))
    assert calibrated.mean() == pytest.approx(is_defect.mean(), abs=0.005)


@pytest.mark.parametrize("far", [2.0, 20.0, 1e3, 1e30])
def test_perfect_separation_gives_a_finite_scale(far: float) -> None:
    is_defect = np.repeat([False, True], 20)
    log_odds = np.where(is_defect, far, -far)
    calibrated = special.expit(calibrate_log_odds(log_odds[[0, -1]], fit_calibration(log_odds, is_defect)))
    assert calibrated == pytest.approx([1 / 22, 21 / 22], abs=1e-4)  # Platt's smoothed targets


def test_one_class_gives_the_identity_and_says_so() -> None:
    fitted = fit_calibration(np.array([0.2, 0.4]), np.array([False, False]))
    assert (fitted.scale, fitted.bias) == (1.0, 0.0)
    assert "no defective image among 2" in fitted.note
    assert "no defective image" in fit_calibration(np.empty(0), np.empty(0, dtype=bool)).note


def test_scores_that_rank_backwards_keep_their_order_and_say_so() -> None:
    is_defect = np.repeat([False, True], 30)
    log_odds = np.where(is_defect, -1.4, 1.4) + np.linspace(0, 0.1, 60)
    fitted = fit_calibration(log_odds, is_defect)
    assert fitted.scale == 1.0
    assert "bias" in fitted.note
    assert special.expit(calibrate_log_odds(log_odds, fitted)).mean() == pytest.approx(0.5, abs=1e-6)


@pytest.mark.parametrize("value", [0.0, -3.5, 1e9])
def test_scores_that_are_all_the_same_get_a_bias_alone_and_say_so(value: float) -> None:
    fitted = fit_calibration(np.full(8, value), np.arange(8) < 2)
    assert (fitted.scale, fitted.bias) == (1.0, pytest.approx(special.logit((2 * 0.75 + 6 * 0.125) / 8) - value))
    assert fitted.note == "all 8 scores are equal: only the bias is fitted"


def test_two_images_are_enough() -> None:
    fitted = fit_calibration(np.array([-1.0, 3.0]), np.array([False, True]))
    # The targets 1/3 and 2/3 are met: the log-odds −1 and 3 become −ln 2 and ln 2.
    assert (fitted.scale, fitted.bias) == pytest.approx((np.log(2) / 2, -np.log(2) / 2), abs=1e-6)


@settings(max_examples=60, deadline=None)
@given(
    arrays.arrays(np.float32, st.integers(1, 30), elements=st.floats(-(2.0**100), 2.0**100, width=32)),
    st.integers(0, 2**30),
)
def test_whatever_is_calibrated_the_map_is_finite_and_keeps_the_order(log_odds: np.ndarray, lots: int) -> None:
    is_defect = np.random.default_rng(lots).random(log_odds.size) < 0.4
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fitted = fit_calibration(log_odds, is_defect)
    assert fitted.scale > 0
    assert np.isfinite([fitted.scale, fitted.bias]).all()
    assert (np.diff(calibrate_log_odds(np.sort(log_odds), fitted)) >= 0).all()


CLASSES = ("good", "pit")


def test_the_threshold_is_chosen_on_image_files_and_applied_to_each_tile() -> None:
    # Sixty defective files and two good ones; of each, one tile is at −2. No miss is allowed, so the cut lies between
    # the worst good tile that is below the lowest defective one, and that.
    high = np.concatenate([np.linspace(1.0, 3.0, 60), [-1.0, 0.0]])
    rows = pd.DataFrame(
        {
            "image_id": [f"{number}" for number in range(124)], "path": [f"{number % 62:02d}" for number in range(124)],
            "sha256": "0", "label": "pit",
            "is_defect": [number < 60 for number in range(124)], "group": np.arange(124) % 62,
        }
    )  # fmt: skip
    logits = np.stack([np.zeros(124), np.append(high, np.full(62, -2.0))], axis=1)
    fitted, point, table = fit_decision(
        logits,
        rows,
        classes=CLASSES,
        good_classes=("good",),
        escape_budget=0.05,
        confidence=0.95,
        evidence=Evidence("held_out", folds=0, choices=1),
        certifying=None,
    )
    assert (point.unit, point.defects, point.goods, point.certified) == ("image", 60, 2, True)
    assert table["log_odds"].to_numpy() == pytest.approx(fitted.scale * logits[:, 1] + fitted.bias)
    assert point.threshold_log_odds == pytest.approx(fitted.scale * 0.5 + fitted.bias)
    assert (table["decision"] == "reject").tolist() == [True] * 60 + [False] * 64


def test_without_a_good_class_nothing_is_fitted() -> None:
    rows = pd.DataFrame({"image_id": "a", "path": "a", "sha256": "0", "label": "pit", "is_defect": pd.NA, "group": [0]})
    fitted, point, table = fit_decision(
        np.log([[0.2, 0.8]]),
        rows,
        classes=CLASSES,
        good_classes=(),
        escape_budget=0.05,
        confidence=0.95,
        evidence=Evidence("held_out", folds=0, choices=1),
        certifying=None,
    )
    assert (fitted, point) == (Calibration(1.0, 0.0), None)
    assert table["p_pit"].tolist() == pytest.approx([0.8])
    assert "decision" not in table


def two_folds_of(defects: int) -> tuple[np.ndarray, pd.DataFrame]:
    """Logits and rows of two folds; of each fold `defects` defective images and as many good ones, parts of two."""
    count = 4 * defects
    is_defect = np.arange(count) % 4 < 2
    fold = (np.arange(count) >= count // 2).astype(int)
    rows = pd.DataFrame(
        {
            "image_id": [f"{number}" for number in range(count)], "path": [f"{number:04d}" for number in range(count)],
            "sha256": "0", "label": np.where(is_defect, "pit", "good"), "is_defect": is_defect,
            "group": np.arange(count) // 2, "fold": fold,
        }
    )  # fmt: skip
    scores = np.where(is_defect, 2.0, -2.0) + np.linspace(-1, 1, count)
    return np.stack([np.zeros(count), scores], axis=1), rows


def fitted_on(logits: np.ndarray, rows: pd.DataFrame, *, evidence: Evidence, certifying: np.ndarray | None):
    return fit_decision(
        logits, rows, classes=CLASSES, good_classes=("good",), escape_budget=0.05, confidence=0.95, evidence=evidence,
        certifying=certifying,
    )  # fmt: skip


def test_all_rows_calibrate_and_only_those_that_certify_count_for_the_threshold() -> None:
    logits, rows = two_folds_of(60)
    logits[(rows["fold"] == 0) & rows["is_defect"], 1] -= 3  # fold 0 would ask for a lower threshold
    evidence = Evidence("out_of_fold", folds=2, choices=1, not_certifying=(0,))
    every, _, _ = fitted_on(logits, rows, evidence=evidence, certifying=None)
    fitted, point, table = fitted_on(logits, rows, evidence=evidence, certifying=(rows["fold"] == 1).to_numpy())
    assert fitted == every
    assert len(table) == 240
    assert (point.unit, point.defects, point.goods) == ("group", 30, 60)
    assert point.overkills == 0
    assert (table["decision"] == "accept")[(rows["fold"] == 0) & rows["is_defect"]].any()


def test_a_part_certifies_as_a_whole_or_not_at_all() -> None:
    logits, rows = two_folds_of(60)
    with pytest.raises(ValueError, match="a group must certify as a whole"):
        fitted_on(logits, rows, evidence=Evidence("out_of_fold", folds=2, choices=1), certifying=np.arange(240) > 0)


def test_the_folds_of_the_manifest_check_a_transferred_threshold() -> None:
    logits, rows = two_folds_of(60)
    _, point, _ = fitted_on(
        logits, rows, evidence=Evidence("transferred", folds=2, choices=1), certifying=np.ones(240, dtype=bool)
    )
    assert point.transfer.units == point.defects == 60
