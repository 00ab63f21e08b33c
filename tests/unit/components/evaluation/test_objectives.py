"""The objective against hand counts, and what it answers where it is not defined."""

import math

import numpy as np
import pytest

from components.evaluation.objectives import objective_score

CLASSES = ("good", "pit", "scratch")


def score(name: str, probabilities: list, labels: list, good=("good",)) -> float:
    return objective_score(
        name, np.array(probabilities, dtype=float), np.array(labels), classes=CLASSES, good_classes=good
    )


# defect mass 0.2, 0.6, 0.5, 0.9; the third image is defective, and so is the fourth
FOUR = [[0.8, 0.1, 0.1], [0.4, 0.5, 0.1], [0.5, 0.2, 0.3], [0.1, 0.8, 0.1]]


def test_the_ranking_is_that_of_the_defect_mass() -> None:
    labels = [0, 0, 2, 1]
    # of the 2 × 2 pairs, one (0.5 against 0.6) stands the wrong way round
    assert score("auroc", FOUR, labels) == pytest.approx(3 / 4)
    # from the top: defect (1/1), good, defect (2/3)
    assert score("average_precision", FOUR, labels) == pytest.approx((1 + 2 / 3) / 2)


def test_several_classes_may_be_good() -> None:
    # with pit as a second good class the defect mass is that of scratch: 0.1, 0.1, 0.3, 0.1
    assert score("auroc", FOUR, [0, 0, 2, 1], good=("good", "pit")) == 1.0


def test_confusing_two_defects_costs_the_ranking_nothing() -> None:
    assert score("auroc", FOUR, [0, 0, 1, 2]) == score("auroc", FOUR, [0, 0, 2, 1])
    assert score("balanced_accuracy", FOUR, [0, 0, 1, 2]) != score("balanced_accuracy", FOUR, [0, 0, 2, 1])


def test_balanced_accuracy_is_the_mean_recall_of_the_likeliest_class() -> None:
    # predicted good, pit, good, pit; recall of good 1/2, of pit 1/1, of scratch 0/1
    assert score("balanced_accuracy", FOUR, [0, 0, 2, 1]) == pytest.approx((1 / 2 + 1 + 0) / 3)


@pytest.mark.parametrize("name", ["auroc", "average_precision", "balanced_accuracy"])
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_an_output_that_is_not_finite_has_no_score(name: str, value: float) -> None:
    assert math.isnan(score(name, [[value, 0, 0], *FOUR[1:]], [0, 0, 2, 1]))


@pytest.mark.parametrize("name", ["auroc", "average_precision"])
@pytest.mark.parametrize("labels", [[0, 0, 0, 0], [1, 2, 1, 2]])
def test_one_kind_of_image_alone_has_no_ranking(name: str, labels: list[int]) -> None:
    assert math.isnan(score(name, FOUR, labels))


def test_ties_are_worth_a_half() -> None:
    assert score("auroc", [[0.5, 0.5, 0], [0.5, 0, 0.5]], [0, 1]) == 0.5
