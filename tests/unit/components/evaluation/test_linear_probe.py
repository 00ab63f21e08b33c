"""The linear classifier on features whose worth is known, and which candidates stay."""

import numpy as np
import pytest

from components.evaluation.linear_probe import (
    ABSENT,
    FOLDS,
    PENALTIES,
    choose_candidates,
    cross_fit,
    fit,
    fit_at,
    mean_classifier,
)

EVEN = np.full(2, 1 / 2)


def features(labels: np.ndarray, *, apart: float, noise: int = 20, seed: int = 0) -> np.ndarray:
    """One direction in which the classes are that far apart, and others that say nothing."""
    drawn = np.random.default_rng(seed).normal(size=(len(labels), 1 + noise))
    drawn[:, 0] += apart * labels
    return drawn.astype(np.float32)


def fitted(train, labels, *, groups=None, classes=2, shares=None):
    groups = np.arange(len(labels)) if groups is None else groups
    return fit(train, labels, groups, num_classes=classes, shares=shares, seed=0)


def balanced_labels(count: int) -> np.ndarray:
    return np.arange(count) % 2


def right(logits: np.ndarray, labels: np.ndarray) -> float:
    return float((logits.argmax(axis=1) == labels).mean())


def test_what_lies_apart_is_told_apart_and_what_does_not_is_not() -> None:
    labels = balanced_labels(200)
    for apart, low, high in ((4.0, 0.93, 1.0), (0.0, 0.4, 0.6)):
        found = fitted(features(labels, apart=apart), labels)
        assert low <= right(found.classifier.logits(features(labels, apart=apart, seed=1)), labels) <= high
        assert low - 0.1 <= right(found.logits, labels) <= high  # out of the inner folds


def test_the_scale_of_a_feature_does_not_matter() -> None:
    labels = balanced_labels(120)
    train, held_out = features(labels, apart=2.0), features(labels, apart=2.0, seed=1)
    scale = np.geomspace(1e-3, 1e3, train.shape[1]).astype(np.float32)
    scaled = fitted(train * scale, labels).classifier.logits(held_out * scale)
    np.testing.assert_allclose(scaled, fitted(train, labels).classifier.logits(held_out), atol=2e-2)


def test_with_a_common_scale_a_feature_that_hardly_varies_has_a_small_weight() -> None:
    labels = balanced_labels(200)
    train = features(labels, apart=3.0)
    train[:, 1] = 5 + 1e-3 * labels  # tells the classes apart as well, at a thousandth of the scale
    (each,) = fit_at(train, labels, [3e-3], num_classes=2, shares=None)
    (made,) = fit_at(train, labels, [3e-3], num_classes=2, shares=None, scaling="common")
    assert np.abs(each.weight).max() > 100
    assert np.abs(made.weight).max() < 1
    assert right(made.logits(train), labels) > 0.9


def test_features_that_say_nothing_get_the_strongest_penalty() -> None:
    labels = balanced_labels(100)
    assert fitted(features(labels, apart=0.0, noise=400), labels).penalty == PENALTIES[0]
    assert fitted(features(labels, apart=6.0, noise=0), labels).penalty == PENALTIES[-1]


def test_images_of_one_part_do_not_choose_the_penalty_for_each_other() -> None:
    """Ten copies of each of twenty parts: by image they are known again, by part nothing is learned."""
    part = np.repeat(np.arange(20), 10)
    labels = part % 2
    one_each = np.random.default_rng(3).normal(size=(20, 60)).astype(np.float32)
    train = one_each[part] + 0.01 * np.random.default_rng(4).normal(size=(200, 60)).astype(np.float32)
    by_image, by_part = fitted(train, labels).penalty, fitted(train, labels, groups=part).penalty
    assert by_image == PENALTIES[-1]
    assert by_part < by_image


@pytest.mark.parametrize(("shares", "mean"), [(None, 0.1), (EVEN, 0.5), (np.array([0.2, 0.8]), 0.8)])
def test_a_class_weighs_as_much_as_its_share(shares, mean) -> None:
    labels = (np.arange(300) % 10 == 0).astype(int)
    train, held_out = features(labels, apart=0.5), features(labels, apart=0.5, seed=1)
    logits = fitted(train, labels, shares=shares).classifier.logits(held_out)
    assert (1 / (1 + np.exp(logits[:, 0] - logits[:, 1]))).mean() == pytest.approx(mean, abs=0.1)


def test_a_class_without_an_image_to_learn_from_is_never_likely() -> None:
    labels = 2 * balanced_labels(60)
    logits = fitted(features(labels, apart=2.0), labels, classes=4).classifier.logits(
        features(labels, apart=2.0, seed=1)
    )
    assert (logits[:, [1, 3]] == ABSENT).all()
    assert (logits[:, [0, 2]] > ABSENT / 2).all()


def test_a_single_class_to_learn_from_is_always_predicted() -> None:
    labels = np.ones(10, dtype=int)
    (made,) = fit_at(features(labels, apart=1.0), labels, [1e-3], num_classes=3, shares=np.full(3, 1 / 3))
    assert right(made.logits(features(labels, apart=1.0)), labels) == 1.0


def test_parts_too_few_for_folds_get_the_penalty_in_the_middle() -> None:
    labels = balanced_labels(40)
    found = fitted(features(labels, apart=2.0), labels, groups=labels)
    assert found.penalty == PENALTIES[len(PENALTIES) // 2]
    assert np.isnan(found.logits).all()


def test_a_class_with_fewer_parts_than_folds_lowers_their_number() -> None:
    assert FOLDS > 2
    labels = np.array([0] * 20 + [1] * 2)
    assert np.isfinite(fitted(features(labels, apart=5.0), labels).logits).all()


# --- over given folds


def test_each_row_is_scored_by_the_classifier_of_its_fold_which_has_not_seen_it() -> None:
    labels, folds = balanced_labels(120), np.arange(120) // 2 % 3
    values = features(labels, apart=2.0)
    found = cross_fit(values, labels, folds, num_classes=2, shares=None)
    for fold in range(3):
        others, path = folds != fold, PENALTIES[: PENALTIES.index(found.penalties[fold]) + 1]
        own = fit_at(values[others], labels[others], path, num_classes=2, shares=None)[-1]
        np.testing.assert_allclose(found.logits[folds == fold], own.logits(values[folds == fold]), atol=1e-9)


def test_labels_of_a_fold_do_not_show_in_its_scores_but_by_how_the_others_are_fitted() -> None:
    """Without anything to learn, scores out of fold are no better than chance, however many features there are."""
    labels, folds = balanced_labels(200), np.arange(200) // 2 % 5
    found = cross_fit(features(labels, apart=0.0, noise=500), labels, folds, num_classes=2, shares=EVEN)
    assert 0.35 < right(found.logits, labels) < 0.65


def test_the_mean_classifier_gives_the_mean_of_their_logits() -> None:
    labels, folds = balanced_labels(90), np.arange(90) // 2 % 3
    values = features(labels, apart=1.0)
    found = cross_fit(values, labels, folds, num_classes=2, shares=None)
    np.testing.assert_allclose(
        mean_classifier(found.classifiers).logits(values),
        np.mean([one.logits(values) for one in found.classifiers], axis=0),
        atol=1e-9,
    )


# --- which stay


def stay(scores: dict[str, tuple], *, keep: int, always: str) -> dict[str, bool]:
    return {name: stays for name, (stays, _) in choose_candidates(scores, keep=keep, always=always).items()}


THREE = {"a": (0.70, 0.6, 0.82), "b": (0.90, 0.8, 0.95), "c": (0.80, 0.7, 0.88)}


def test_the_best_stay_and_the_configured_one_always() -> None:
    assert stay(THREE, keep=1, always="b") == {"b": True, "c": False, "a": False}
    assert list(stay(THREE, keep=2, always="b").items()) == [("b", True), ("c", True), ("a", False)]
    assert stay(THREE, keep=1, always="a") == {"b": True, "c": False, "a": True}
    assert stay(THREE, keep=3, always="b") == {"a": True, "b": True, "c": True}


def test_what_lies_wholly_below_the_best_is_hopeless_even_if_fewer_stay() -> None:
    below = THREE | {"a": (0.70, 0.6, 0.79)}
    assert stay(below, keep=3, always="b") == {"b": True, "c": True, "a": False}
    assert stay(below, keep=3, always="a") == {"b": True, "c": True, "a": True}


def test_without_an_interval_nobody_is_hopeless() -> None:
    assert all(stay({"a": (1.0, None, None), "b": (0.5, 0.4, 0.6)}, keep=2, always="a").values())
    assert all(stay({"a": (0.9, 0.8, 0.95), "b": (0.0, None, None)}, keep=2, always="a").values())


def test_of_equal_scores_the_earlier_one_is_better() -> None:
    equal = {"a": (0.8, 0.7, 0.9), "b": (0.8, 0.7, 0.9)}
    assert stay(equal, keep=1, always="a") == {"a": True, "b": False}


def test_each_verdict_says_why() -> None:
    scores = {"a": (0.9, 0.8, 0.95), "b": (0.5, 0.4, 0.6), "c": (0.85, 0.7, 0.9), "d": (0.8, 0.7, 0.9)}
    found = choose_candidates(scores, keep=2, always="b")
    assert {name: reason for name, (_, reason) in found.items()} == {
        "a": "the best",
        "c": "among the 2 best",
        "d": "not among the 2 best",
        "b": "the configured one; its interval ends at 0.600, below the best's, which begins at 0.800",
    }
    assert (
        choose_candidates({"a": (0.9, None, None), "b": (0.8, None, None)}, keep=1, always="a")["b"][1]
        == "not the best"
    )
