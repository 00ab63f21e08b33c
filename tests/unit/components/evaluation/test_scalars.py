"""Single numbers against scikit-learn, which computes them by other routes, and by hand at the edges."""

import math

import numpy as np
import pytest
from sklearn import metrics as reference

from components.evaluation import scalars


@pytest.fixture
def tied() -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(0)
    is_defect = generator.random(300) < 0.3
    return np.round(generator.random(300) * 0.7 + 0.3 * is_defect, 1), is_defect


def test_auroc_and_average_precision_agree_with_scikit_learn_on_ties(tied: tuple) -> None:
    scores, is_defect = tied
    assert scalars.auroc(scores, is_defect) == pytest.approx(reference.roc_auc_score(is_defect, scores))
    expected = reference.average_precision_score(is_defect, scores)
    assert scalars.average_precision(scores, is_defect) == pytest.approx(expected)


def counted(table: list[list[int]]) -> scalars.Tally:
    """Of a table, rows actual, columns predicted."""
    counts = np.array(table)
    return scalars.Tally(np.diag(counts), counts.sum(axis=1), counts.sum(axis=0))


def test_numbers_from_a_tally_agree_with_scikit_learn() -> None:
    generator = np.random.default_rng(1)
    actual, predicted = generator.integers(0, 4, 200), generator.integers(0, 4, 200)
    table = scalars.tally(actual, predicted, 4)
    assert scalars.balanced_accuracy(table) == pytest.approx(reference.balanced_accuracy_score(actual, predicted))
    assert scalars.matthews(table) == pytest.approx(reference.matthews_corrcoef(actual, predicted))


def test_four_images_by_hand() -> None:
    table = counted([[3, 1], [2, 4]])  # 3 good accepted, 1 rejected; 2 defectives accepted, 4 rejected
    assert scalars.balanced_accuracy(table) == pytest.approx((3 / 4 + 4 / 6) / 2)
    assert scalars.matthews(table) == pytest.approx((4 * 3 - 1 * 2) / math.sqrt(5 * 6 * 4 * 5))


def test_one_class_alone_has_no_ranking_and_no_balance() -> None:
    scores, is_defect = np.array([0.1, 0.2]), np.array([True, True])
    assert math.isnan(scalars.auroc(scores, is_defect))
    assert math.isnan(scalars.average_precision(scores, is_defect))
    assert math.isnan(scalars.balanced_accuracy(counted([[0, 0], [1, 5]])))
    assert math.isnan(scalars.matthews(counted([[0, 0], [1, 5]])))


def test_rejecting_everything_has_no_correlation_with_the_truth() -> None:
    assert scalars.matthews(counted([[0, 4], [0, 6]])) == 0.0
