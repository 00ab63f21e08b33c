"""Scale and bias: recovered from scores made with known ones, and sane on the awkward inputs."""

import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from scipy import special

from components.errors import InputError
from components.evaluation.calibration import (
    Calibration,
    calibrate_log_odds,
    calibrated_probabilities,
    defect_log_odds,
    fit_calibration,
)


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
    assert "bias only" in fitted.note
    assert special.expit(calibrate_log_odds(log_odds, fitted)).mean() == pytest.approx(0.5, abs=1e-6)


@pytest.mark.parametrize("value", [0.0, -3.5, 1e9])
def test_scores_that_are_all_the_same_get_a_bias_alone_and_say_so(value: float) -> None:
    fitted = fit_calibration(np.full(8, value), np.arange(8) < 2)
    assert (fitted.scale, fitted.bias) == (1.0, pytest.approx(special.logit((2 * 0.75 + 6 * 0.125) / 8) - value))
    assert fitted.note == "all 8 scores are the same, so they tell nothing apart: bias only"


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


def test_log_odds_are_of_the_classes_that_are_not_good() -> None:
    logits = np.log([[0.5, 0.2, 0.3], [0.1, 0.85, 0.05]])
    found = defect_log_odds(logits, ["good", "scratch", "clean"], ["good", "clean"])
    assert found == pytest.approx(np.log([0.2 / 0.8, 0.85 / 0.15]))


def test_certain_images_keep_their_order() -> None:
    logits = np.array([[0.0, -900.0], [0.0, -20.0], [0.0, 40.0], [0.0, 41.0], [-1e6, 1e6]], dtype=np.float32)
    found = defect_log_odds(logits, ["good", "pit"], ["good"])
    assert found.tolist() == [-900.0, -20.0, 40.0, 41.0, 2e6]


def test_an_unknown_good_label_is_refused_by_name() -> None:
    with pytest.raises(InputError, match=r"data.good_labels=\['ok'\].*scratch"):
        defect_log_odds(np.ones((1, 2)), ["good", "scratch"], ["ok"])


def test_calibrated_probabilities_carry_the_calibrated_defect_mass() -> None:
    logits = np.array([np.log([0.7, 0.2, 0.1]), [900.0, 1.0, 1.0]])
    is_good, cal = np.array([True, False, False]), Calibration(0.8, 0.3)
    result = calibrated_probabilities(logits, is_good, cal)
    assert result.sum(axis=1) == pytest.approx([1, 1])
    odds = defect_log_odds(logits, ["good", "pit", "crack"], ["good"])
    assert result[:, 1:].sum(axis=1) == pytest.approx(special.expit(0.8 * odds + 0.3), rel=1e-9)
    assert result[0, 1] / result[0, 2] == pytest.approx(2.0)
    assert result[1, 1] == result[1, 2]


def test_probabilities_without_good_classes_are_those_of_the_logits() -> None:
    result = calibrated_probabilities(np.log([[0.6, 0.4]]), np.array([False, False]), Calibration(2.0, 1.0))
    assert result == pytest.approx(np.array([[0.6, 0.4]]))


def test_a_calibration_survives_its_record() -> None:
    calibration = Calibration(1.5, -0.25, "note")
    assert Calibration.from_dict(calibration.to_dict()) == calibration
