"""Blends: identical candidates gain nothing, a useless one gets no weight, and no row's own label counts for it."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import special

from components.evaluation.blending import Blend, fit_blend

ROWS = 240


def two_candidates(seed: int, *, noise: tuple[float, float] = (1.0, 1.0)) -> tuple[np.ndarray, np.ndarray]:
    """(2, N, 3) log-probabilities of candidates that err independently, and (N,) labels."""
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, 3, ROWS)
    truth = np.eye(3)[labels]
    logits = [2 * truth + 2 * size * generator.normal(size=truth.shape) for size in noise]
    return np.stack([special.log_softmax(values, axis=1) for values in logits]), labels


def blend(scores: np.ndarray, labels: np.ndarray, folds: np.ndarray | None = None) -> Blend:
    folds = np.arange(ROWS) % 3 if folds is None else folds
    return fit_blend(scores, labels, folds, groups=np.arange(ROWS))


def test_candidates_that_err_differently_gain_beyond_noise() -> None:
    scores, labels = two_candidates(0)
    found = blend(scores, labels)
    assert found.gain > 3 * found.gain_error > 0
    assert found.weights[0] == pytest.approx(found.weights[1], rel=0.5)
    right = (found.blended.argmax(axis=1) == labels).mean()
    assert right > max((part.argmax(axis=1) == labels).mean() for part in scores)


def test_identical_candidates_gain_nothing() -> None:
    scores, labels = two_candidates(1)
    found = blend(np.stack([scores[0]] * 2), labels)
    assert found.gain == pytest.approx(0, abs=1e-5)
    assert found.gain_error == pytest.approx(0, abs=1e-5)


def test_a_candidate_of_noise_gets_hardly_any_weight() -> None:
    scores, labels = two_candidates(2, noise=(0.5, 50.0))
    weights = blend(scores, labels).weights
    assert weights[1] < 0.02 * weights[0]


def test_a_candidate_that_ranks_backwards_gets_none() -> None:
    scores, labels = two_candidates(3)
    assert blend(np.stack([scores[0], special.log_softmax(-scores[1], axis=1)]), labels).weights[1] == 0


def test_where_none_helps_the_first_keeps_the_weight_one() -> None:
    scores, labels = two_candidates(4)
    assert blend(special.log_softmax(-scores, axis=2), labels).weights.tolist() == [1, 0]


def test_scores_that_separate_the_classes_have_finite_weights() -> None:
    labels = np.arange(ROWS) % 3
    scores = special.log_softmax(np.stack([5 * np.eye(3)[labels]] * 2), axis=2)
    found = blend(scores, labels, np.arange(ROWS) // 80)
    assert np.isfinite(found.weights).all()
    assert (found.blended.argmax(axis=1) == labels).all()


def test_shifted_scores_of_a_class_do_not_shrink_the_weights() -> None:
    scores, labels = two_candidates(5)
    shifted = special.log_softmax(scores + np.array([4.0, 0, 0]), axis=2)
    assert blend(shifted, labels).weights == pytest.approx(blend(scores, labels).weights, rel=0.01)


def test_rows_of_a_fold_do_not_depend_on_its_labels() -> None:
    scores, labels = two_candidates(6)
    folds = np.arange(ROWS) % 3
    changed = np.where(folds == 1, (labels + 1) % 3, labels)
    before, after = blend(scores, labels).blended, blend(scores, changed).blended
    assert np.array_equal(before[folds == 1], after[folds == 1])
    assert not np.allclose(before[folds == 0], after[folds == 0])


def test_rows_without_a_score_are_left_out() -> None:
    scores, labels = two_candidates(7)
    missing = np.arange(ROWS) % 3 == 0
    with_gaps = scores.copy()
    with_gaps[1, missing] = np.nan
    folds = np.arange(ROWS) // 48
    found = blend(with_gaps, labels, folds)
    alone = fit_blend(scores[:, ~missing], labels[~missing], folds[~missing], groups=np.arange((~missing).sum()))
    assert np.isnan(found.blended[missing]).all()
    assert np.array_equal(found.blended[~missing], alone.blended)
    assert (found.gain, found.gain_error) == (alone.gain, alone.gain_error)


def test_images_of_one_part_count_once_in_the_error() -> None:
    scores, labels = two_candidates(8)
    parts = np.repeat(np.arange(ROWS), 4)
    each = blend(scores, labels)
    repeated = fit_blend(scores[:, parts], labels[parts], parts % 3, groups=parts)
    assert (repeated.gain, repeated.gain_error) == pytest.approx((each.gain, each.gain_error), rel=1e-3)


def test_images_of_a_class_that_only_their_own_fold_has_do_not_count_in_the_gain() -> None:
    """No weight or bias could be fitted for it: their losses say nothing about the blend."""
    scores, labels = two_candidates(10)
    labels = np.minimum(labels, 1)
    folds = np.arange(ROWS) % 3
    few = np.flatnonzero(folds == 0)[:5]
    labels[few] = 2
    found, others = blend(scores, labels, folds), np.delete(np.arange(ROWS), few)
    assert abs(found.gain) < 1
    assert np.isfinite(found.blended[few]).all()
    without = fit_blend(scores[:, others], labels[others], folds[others], groups=others)
    kept = (folds == 0)[others]
    assert found.blended[others][kept] == pytest.approx(without.blended[kept], abs=1e-3)
    apart = fit_blend(scores[:, :4], np.array([0, 0, 1, 1]), np.array([0, 0, 1, 1]), groups=np.arange(4))
    assert apart.gain == 0
    assert np.isnan(apart.gain_error)


@pytest.mark.parametrize(("classes", "shrinks"), [(50, False), (51, True)])
def test_many_classes_have_no_biases(classes: int, shrinks: bool) -> None:
    generator = np.random.default_rng(11)
    labels = generator.integers(0, 3, ROWS)
    logits = np.concatenate(
        [2 * np.eye(3)[labels] + generator.normal(size=(ROWS, 3)), np.full((ROWS, classes - 3), -20.0)], axis=1
    )
    shift = np.where(np.arange(classes) == 0, 4.0, 0.0)
    plain, shifted = (special.log_softmax(np.stack([part] * 2), axis=2) for part in (logits, logits + shift))
    ratio = blend(shifted, labels).weights.sum() / blend(plain, labels).weights.sum()
    assert (ratio < 0.8) == shrinks


def test_one_fold_is_refused() -> None:
    scores, labels = two_candidates(9)
    with pytest.raises(ValueError, match="two folds or more, not over 1"):
        blend(scores, labels, np.zeros(ROWS, dtype=int))


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**30), st.floats(-3, 3), st.floats(-3, 3))
def test_no_weight_is_ever_negative(seed: int, first: float, second: float) -> None:
    scores, labels = two_candidates(seed)
    found = blend(special.log_softmax(scores * np.array([first, second])[:, None, None], axis=2), labels)
    assert (found.weights >= 0).all()
    assert found.weights.any()
