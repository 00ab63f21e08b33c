"""Assembled metrics: counts by hand, stated answers for the empty and the one-class set, valid JSON."""

import json
from typing import Any

import numpy as np
import pytest
from scipy import special

from components.evaluation.metrics import Sampling, class_metrics, inspection_metrics, ranking_metrics


def sampled(groups: Any, *, confidence: float = 0.95) -> Sampling:
    keys = np.arange(groups) if isinstance(groups, int) else groups
    return Sampling(groups=keys, confidence=confidence, samples=200, seed=0)


@pytest.fixture
def ten() -> tuple[np.ndarray, np.ndarray]:
    """Log-odds of four defectives (one below a score of 0.5) and six good images (two at or above it)."""
    scores = np.array([0.9, 0.8, 0.5, 0.2, 0.1, 0.1, 0.3, 0.4, 0.6, 0.5])
    return special.logit(scores), np.arange(10) < 4


def test_counts_and_rates_by_hand(ten: tuple) -> None:
    result = inspection_metrics(*ten, 0.0, sampled(10))
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
    rate = inspection_metrics(*ten, 0.0, sampled(10))["escape_rate"]
    assert (rate["numerator"], rate["denominator"], rate["unit"]) == (1, 4, "image")


def test_no_ambiguous_short_name_appears(ten: tuple) -> None:
    text = json.dumps(inspection_metrics(*ten, 0.0, sampled(10)))
    assert not {"fp", "fn", "tp", "tn", "far", "fpr", "fnr"} & set(text.replace('"', " ").split())


def test_parts_are_rolled_up_to_one_decision(ten: tuple) -> None:
    groups = np.array(["a", "a", "b", "b", "c", "c", "d", "d", "e", "e"])
    rolled = inspection_metrics(*ten, 0.0, sampled(groups))["by_group"]
    assert (rolled["defective_rejected"], rolled["defective_accepted"]) == (2, 0)
    assert (rolled["good_rejected"], rolled["good_accepted"]) == (1, 2)
    assert rolled["escape_rate"]["unit"] == "group"


def test_shared_parts_widen_the_limits() -> None:
    is_defect = np.arange(80) < 40
    scores = np.where(is_defect, 0.9, 0.1)
    alone = inspection_metrics(scores, is_defect, 0.5, sampled(80))["escape_rate"]
    shared = inspection_metrics(scores, is_defect, 0.5, sampled(np.arange(80) // 4))["escape_rate"]
    assert shared["high"] > alone["high"]
    assert (shared["denominator"], shared["effective"]) == (40, 10)


def test_no_images_give_no_values_and_valid_json() -> None:
    nothing = np.empty(0), np.empty(0, dtype=bool)
    inspection = inspection_metrics(*nothing, 0.5, sampled(0))
    ranking = ranking_metrics(*nothing, sampled(0))
    classes = class_metrics(np.empty((0, 2)), np.empty(0), ["a", "b"], sampled(0))
    json.dumps([inspection, ranking, classes], allow_nan=False)
    assert inspection["escape_rate"]["value"] is None
    assert ranking["auroc"]["value"] is classes["balanced_accuracy"]["value"] is None


def test_a_set_without_defectives_has_overkill_but_no_escape_rate() -> None:
    result = inspection_metrics(np.array([0.1, 0.9]), np.zeros(2, dtype=bool), 0.5, sampled(2))
    assert result["escape_rate"]["value"] is None
    assert result["overkill_rate"]["value"] == 0.5
    assert result["balanced_accuracy"]["value"] is result["mcc"]["value"] is None


def test_a_perfect_ranking_is_not_called_certain() -> None:
    is_defect = np.arange(30) < 10
    auroc = ranking_metrics(np.where(is_defect, 0.9, 0.1), is_defect, sampled(30))["auroc"]
    assert auroc["value"] == auroc["high"] == 1.0
    assert auroc["low"] == pytest.approx(0.025 ** (1 / 10))  # ten disjoint pairs, all in order


def test_a_perfect_decision_has_exact_limits_on_its_balanced_accuracy() -> None:
    is_defect = np.arange(30) < 10
    result = inspection_metrics(is_defect.astype(float), is_defect, 0.5, sampled(30, confidence=0.9))
    balanced = result["balanced_accuracy"]
    assert (balanced["value"], balanced["high"]) == (1.0, 1.0)
    assert balanced["low"] == pytest.approx((0.05 ** (1 / 10) + 0.05 ** (1 / 20)) / 2)


def test_classes_that_are_all_wrong_have_exact_limits_and_parts_count_once() -> None:
    labels = np.repeat([0, 1], 6)
    parts = np.repeat(np.arange(4), 3)
    result = class_metrics(np.eye(2)[1 - labels], labels, ["a", "b"], sampled(parts, confidence=0.9))
    balanced = result["balanced_accuracy"]
    assert (balanced["value"], balanced["low"]) == (0.0, 0.0)
    assert balanced["high"] == pytest.approx(1 - 0.05 ** (1 / 2))  # two parts in each class


def test_ranking_limits_hold_the_value(ten: tuple) -> None:
    auroc = ranking_metrics(*ten, sampled(10))["auroc"]
    assert auroc["low"] <= auroc["value"] <= auroc["high"]


def test_class_metrics_by_hand() -> None:
    probabilities = np.eye(3)[[0, 0, 1, 1, 0]]
    result = class_metrics(probabilities, np.array([0, 0, 0, 1, 1]), ["good", "pit", "crack"], sampled(5))
    assert result["confusion_matrix"] == [[2, 1, 0], [1, 1, 0], [0, 0, 0]]
    assert result["accuracy"]["value"] == pytest.approx(0.6)
    assert result["balanced_accuracy"]["value"] == pytest.approx((2 / 3 + 1 / 2) / 2)
    assert result["per_class"]["good"]["recall"]["value"] == pytest.approx(2 / 3)
    assert result["per_class"]["pit"]["precision"]["value"] == pytest.approx(1 / 2)
    assert result["per_class"]["crack"]["recall"]["value"] is None


def test_the_most_frequent_errors_come_first() -> None:
    probabilities = np.eye(3)[[1, 1, 0, 2, 1, 2]]
    labels = np.array([0, 0, 0, 0, 2, 2])
    result = class_metrics(probabilities, labels, ["good", "pit", "crack"], sampled(6))
    assert result["confused_pairs"] == [
        {"actual": "good", "predicted": "pit", "images": 2, "share": 0.5},
        {"actual": "crack", "predicted": "pit", "images": 1, "share": 0.5},
        {"actual": "good", "predicted": "crack", "images": 1, "share": 0.25},
    ]


def test_what_is_said_of_many_classes_grows_no_faster_than_they_do() -> None:
    def told(classes: int) -> dict:
        labels = np.arange(classes)
        wrong = np.eye(classes)[np.roll(labels, 1)]
        return class_metrics(wrong, labels, [str(label) for label in labels], sampled(classes))

    assert len(told(40)["confusion_matrix"]) == 40
    many = told(400)
    assert many["confusion_matrix"] is None
    assert len(many["confused_pairs"]) == 100
    assert len(json.dumps(many)) < 11 * len(json.dumps(told(40)))


def test_the_same_seed_gives_the_same_metrics(ten: tuple) -> None:
    first, second = (inspection_metrics(*ten, 0.0, sampled(10)) for _ in range(2))
    assert first == second
