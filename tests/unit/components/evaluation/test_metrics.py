"""Assembled metrics: counts by hand, stated answers for the empty and the one-class set, valid JSON."""

import json
from typing import Any

import numpy as np
import pytest
from scipy import special

from components.evaluation.metrics import class_metrics, inspection_metrics, ranking_metrics

SETTINGS: dict[str, Any] = {"confidence": 0.95, "bootstrap_samples": 200, "seed": 0}


@pytest.fixture
def ten() -> tuple[np.ndarray, np.ndarray]:
    """Log-odds of four defectives (one below a score of 0.5) and six good images (two at or above it)."""
    scores = np.array([0.9, 0.8, 0.5, 0.2, 0.1, 0.1, 0.3, 0.4, 0.6, 0.5])
    return special.logit(scores), np.arange(10) < 4


def test_counts_and_rates_by_hand(ten: tuple) -> None:
    result = inspection_metrics(*ten, 0.0, groups=None, **SETTINGS)
    counts = [result[f"{kind}_{fate}"] for kind in ("defective", "good") for fate in ("rejected", "accepted")]
    assert counts == [3, 1, 2, 4]
    values = {name: result[name]["value"] for name in ("accuracy", "sensitivity", "escape_rate")}
    assert values == pytest.approx({"accuracy": 0.7, "sensitivity": 0.75, "escape_rate": 0.25})
    assert result["specificity"]["value"] == pytest.approx(4 / 6)
    assert result["overkill_rate"]["value"] == pytest.approx(2 / 6)
    assert result["reject_precision"]["value"] == pytest.approx(3 / 5)
    assert result["balanced_accuracy"]["value"] == pytest.approx((0.75 + 4 / 6) / 2)
    assert result["by_group"] is None


def test_every_rate_carries_its_counts_and_unit(ten: tuple) -> None:
    rate = inspection_metrics(*ten, 0.0, groups=None, **SETTINGS)["escape_rate"]
    assert (rate["numerator"], rate["denominator"], rate["unit"]) == (1, 4, "image")


def test_no_ambiguous_short_name_appears(ten: tuple) -> None:
    text = json.dumps(inspection_metrics(*ten, 0.0, groups=None, **SETTINGS))
    assert not {"fp", "fn", "tp", "tn", "far", "fpr", "fnr"} & set(text.replace('"', " ").split())


def test_parts_are_rolled_up_to_one_decision(ten: tuple) -> None:
    groups = np.array(["a", "a", "b", "b", "c", "c", "d", "d", "e", "e"])
    rolled = inspection_metrics(*ten, 0.0, groups=groups, **SETTINGS)["by_group"]
    assert (rolled["defective_rejected"], rolled["defective_accepted"]) == (2, 0)
    assert (rolled["good_rejected"], rolled["good_accepted"]) == (1, 2)
    assert rolled["escape_rate"]["unit"] == "group"


def test_shared_parts_widen_the_limits() -> None:
    is_defect = np.arange(80) < 40
    scores = np.where(is_defect, 0.9, 0.1)
    alone = inspection_metrics(scores, is_defect, 0.5, groups=None, **SETTINGS)["escape_rate"]
    shared = inspection_metrics(scores, is_defect, 0.5, groups=np.arange(80) // 4, **SETTINGS)["escape_rate"]
    assert shared["high"] > alone["high"]
    assert (shared["denominator"], shared["effective"]) == (40, 10)


def test_the_one_sided_bound_is_the_one_that_certifies() -> None:
    is_defect = np.arange(118) < 59
    result = inspection_metrics(np.where(is_defect, 0.9, 0.1), is_defect, 0.5, groups=None, **SETTINGS)
    assert result["escape_rate_upper_bound"] == pytest.approx(1 - 0.05 ** (1 / 59))


def test_no_images_give_no_values_and_valid_json() -> None:
    nothing = np.empty(0), np.empty(0, dtype=bool)
    inspection = inspection_metrics(*nothing, 0.5, groups=None, **SETTINGS)
    ranking = ranking_metrics(*nothing, groups=None, **SETTINGS)
    classes = class_metrics(np.empty((0, 2)), np.empty(0), ["a", "b"], groups=None, **SETTINGS)
    json.dumps([inspection, ranking, classes], allow_nan=False)
    assert inspection["escape_rate"]["value"] is None
    assert inspection["escape_rate_upper_bound"] == 1.0
    assert ranking["auroc"]["value"] is ranking["ece"]["value"] is None
    assert classes["absent_classes"] == ["a", "b"]


def test_a_set_without_defectives_has_overkill_but_no_escape_rate() -> None:
    result = inspection_metrics(np.array([0.1, 0.9]), np.zeros(2, dtype=bool), 0.5, groups=None, **SETTINGS)
    assert result["escape_rate"]["value"] is None
    assert result["overkill_rate"]["value"] == 0.5
    assert result["balanced_accuracy"]["value"] is result["mcc"]["value"] is None


def test_a_perfect_ranking_is_not_called_certain() -> None:
    is_defect = np.arange(30) < 10
    auroc = ranking_metrics(np.where(is_defect, 0.9, 0.1), is_defect, groups=None, **SETTINGS)["auroc"]
    assert auroc["value"] == auroc["high"] == 1.0
    assert auroc["low"] == pytest.approx(0.025 ** (1 / 10))  # ten disjoint pairs, all in order


def test_a_perfect_decision_has_exact_limits_on_its_balanced_accuracy() -> None:
    is_defect = np.arange(30) < 10
    result = inspection_metrics(
        is_defect.astype(float), is_defect, 0.5, confidence=0.9, groups=None, bootstrap_samples=50, seed=0
    )
    balanced = result["balanced_accuracy"]
    assert (balanced["value"], balanced["high"]) == (1.0, 1.0)
    assert balanced["low"] == pytest.approx((0.05 ** (1 / 10) + 0.05 ** (1 / 20)) / 2)


def test_classes_that_are_all_wrong_have_exact_limits_and_parts_count_once() -> None:
    labels = np.repeat([0, 1], 6)
    result = class_metrics(
        np.eye(2)[1 - labels], labels, ["a", "b"], confidence=0.9, groups=np.repeat(np.arange(4), 3),
        bootstrap_samples=50, seed=0,
    )  # fmt: skip
    balanced = result["balanced_accuracy"]
    assert (balanced["value"], balanced["low"]) == (0.0, 0.0)
    assert balanced["high"] == pytest.approx(1 - 0.05 ** (1 / 2))  # two parts in each class


def test_ranking_limits_hold_the_value_and_the_calibration_error_has_none(ten: tuple) -> None:
    result = ranking_metrics(*ten, groups=None, **SETTINGS)
    assert result["auroc"]["low"] <= result["auroc"]["value"] <= result["auroc"]["high"]
    assert result["ece"]["low"] is None


def test_class_metrics_by_hand() -> None:
    probabilities = np.eye(3)[[0, 0, 1, 1, 0]]
    result = class_metrics(probabilities, np.array([0, 0, 0, 1, 1]), ["good", "pit", "crack"], groups=None, **SETTINGS)
    assert result["confusion_matrix"] == [[2, 1, 0], [1, 1, 0], [0, 0, 0]]
    assert result["accuracy"]["value"] == pytest.approx(0.6)
    assert result["balanced_accuracy"]["value"] == pytest.approx((2 / 3 + 1 / 2) / 2)
    assert result["per_class"]["good"]["recall"]["value"] == pytest.approx(2 / 3)
    assert result["per_class"]["pit"]["precision"]["value"] == pytest.approx(1 / 2)
    assert result["per_class"]["crack"]["recall"]["value"] is None
    assert result["absent_classes"] == ["crack"]


def test_the_same_seed_gives_the_same_metrics(ten: tuple) -> None:
    first, second = (inspection_metrics(*ten, 0.0, groups=None, **SETTINGS) for _ in range(2))
    assert first == second
