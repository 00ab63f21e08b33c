"""Scale and bias: recovered from scores made with known ones, and sane on the awkward inputs."""

import numpy as np
import pytest
from scipy import special

from components.errors import InputError
from components.evaluation.calibration import (
    SCORE_CLIP,
    Calibration,
    apply_calibration,
    calibrate_probabilities,
    defect_scores,
    fit_calibration,
)


def test_a_known_distortion_is_recovered() -> None:
    generator = np.random.default_rng(0)
    logits = generator.normal(size=20_000) * 2
    is_defect = generator.random(20_000) < special.expit(0.5 * logits - 1.2)
    fitted = fit_calibration(special.expit(logits), is_defect)
    assert (fitted.scale, fitted.bias) == pytest.approx((0.5, -1.2), abs=0.05)
    assert fitted.note == ""


def test_the_mean_calibrated_score_is_the_share_of_defectives() -> None:
    generator = np.random.default_rng(1)
    is_defect = generator.random(500) < 0.2
    scores = special.expit(generator.normal(size=500) + 2 * is_defect)
    calibrated = apply_calibration(scores, fit_calibration(scores, is_defect))
    assert calibrated.mean() == pytest.approx(is_defect.mean(), abs=0.005)


def test_perfect_separation_gives_a_finite_scale() -> None:
    is_defect = np.repeat([False, True], 20)
    fitted = fit_calibration(np.where(is_defect, 0.9, 0.1), is_defect)
    calibrated = apply_calibration(np.array([0.1, 0.9]), fitted)
    assert calibrated == pytest.approx([1 / 22, 21 / 22], abs=1e-4)  # Platt's smoothed targets


def test_one_class_gives_the_identity_and_says_so() -> None:
    fitted = fit_calibration(np.array([0.2, 0.4]), np.array([False, False]))
    assert (fitted.scale, fitted.bias) == (1.0, 0.0)
    assert "no defective image among 2" in fitted.note
    assert "no defective image" in fit_calibration(np.empty(0), np.empty(0, dtype=bool)).note


def test_scores_that_rank_backwards_keep_their_order_and_say_so() -> None:
    is_defect = np.repeat([False, True], 30)
    scores = np.where(is_defect, 0.2, 0.8) + np.linspace(0, 0.1, 60)
    fitted = fit_calibration(scores, is_defect)
    assert fitted.scale == 1.0
    assert "bias only" in fitted.note
    assert apply_calibration(scores, fitted).mean() == pytest.approx(0.5, abs=1e-6)


def test_calibration_is_increasing_and_stays_inside_the_unit_interval() -> None:
    calibrated = apply_calibration(np.linspace(0, 1, 101), Calibration(1.7, -0.4))
    assert (np.diff(calibrated) > 0).all()
    assert 0 < calibrated[0] < calibrated[-1] < 1
    assert calibrated[0] == pytest.approx(special.expit(1.7 * special.logit(SCORE_CLIP) - 0.4))


def test_defect_scores_sum_the_classes_that_are_not_good() -> None:
    probabilities = np.array([[0.5, 0.2, 0.3], [0.1, 0.9, 0.0]])
    scores = defect_scores(probabilities, ["good", "scratch", "clean"], ["good", "clean"])
    assert scores == pytest.approx([0.2, 0.9])


def test_an_unknown_good_label_is_refused_by_name() -> None:
    with pytest.raises(InputError, match=r"data.good_labels=\['ok'\].*scratch"):
        defect_scores(np.ones((1, 2)), ["good", "scratch"], ["ok"])


def test_calibrated_probabilities_carry_the_calibrated_defect_mass() -> None:
    probabilities = np.array([[0.7, 0.2, 0.1], [1.0, 0.0, 0.0]])
    is_good, cal = np.array([True, False, False]), Calibration(0.8, 0.3)
    result = calibrate_probabilities(probabilities, is_good, cal)
    assert result.sum(axis=1) == pytest.approx([1, 1])
    assert result[:, 1:].sum(axis=1) == pytest.approx(apply_calibration(np.array([0.3, 0.0]), cal))
    assert result[0, 1] / result[0, 2] == pytest.approx(2.0)
    assert result[1, 1] == result[1, 2]


def test_probabilities_without_good_classes_come_back_unchanged() -> None:
    probabilities = np.array([[0.6, 0.4]])
    result = calibrate_probabilities(probabilities, np.array([False, False]), Calibration(2.0, 1.0))
    assert np.array_equal(result, probabilities)


def test_a_calibration_survives_its_record() -> None:
    calibration = Calibration(1.5, -0.25, "note")
    assert Calibration.from_dict(calibration.to_dict()) == calibration
