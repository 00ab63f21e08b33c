"""The linear probe on features whose worth is known, and which candidates stay."""

import numpy as np
import pytest

from components.evaluation.linear_probe import FOLDS, PENALTIES, choose_candidates, linear_probe


def features(labels: np.ndarray, *, apart: float, noise: int = 20, seed: int = 0) -> np.ndarray:
    """One direction in which the classes are that far apart, and others that say nothing."""
    drawn = np.random.default_rng(seed).normal(size=(len(labels), 1 + noise))
    drawn[:, 0] += apart * labels
    return drawn.astype(np.float32)


def probed(train, labels, held_out, *, groups=None, classes=2, balanced=False) -> tuple[np.ndarray, float]:
    groups = np.arange(len(labels)) if groups is None else groups
    return linear_probe(train, labels, groups, held_out, num_classes=classes, balanced=balanced, seed=0)


def balanced_labels(count: int) -> np.ndarray:
    return np.arange(count) % 2


def test_what_lies_apart_is_told_apart_and_what_does_not_is_not() -> None:
    labels = balanced_labels(200)
    for apart, low, high in ((4.0, 0.93, 1.0), (0.0, 0.4, 0.6)):
        found, _ = probed(features(labels, apart=apart), labels, features(labels, apart=apart, seed=1))
        assert low <= (found.argmax(axis=1) == labels).mean() <= high
        np.testing.assert_allclose(found.sum(axis=1), 1.0)


def test_the_scale_of_a_feature_does_not_matter() -> None:
    labels = balanced_labels(120)
    train, held_out = features(labels, apart=2.0), features(labels, apart=2.0, seed=1)
    scale = np.geomspace(1e-3, 1e3, train.shape[1]).astype(np.float32)
    np.testing.assert_allclose(
        probed(train * scale, labels, held_out * scale)[0], probed(train, labels, held_out)[0], atol=2e-3
    )


def test_features_that_say_nothing_get_the_strongest_penalty() -> None:
    labels = balanced_labels(100)
    noise = features(labels, apart=0.0, noise=400)
    assert probed(noise, labels, noise)[1] == PENALTIES[0]
    told = features(labels, apart=6.0, noise=0)
    assert probed(told, labels, told)[1] == PENALTIES[-1]


def test_images_of_one_part_do_not_choose_the_penalty_for_each_other() -> None:
    """Ten copies of each of twenty parts: by image they are known again, by part nothing is learned."""
    part = np.repeat(np.arange(20), 10)
    labels = part % 2
    one_each = np.random.default_rng(3).normal(size=(20, 60)).astype(np.float32)
    train = one_each[part] + 0.01 * np.random.default_rng(4).normal(size=(200, 60)).astype(np.float32)
    by_image = probed(train, labels, train)[1]
    by_part = probed(train, labels, train, groups=part)[1]
    assert by_image == PENALTIES[-1]
    assert by_part < by_image / 10


def test_balanced_classes_weigh_the_same() -> None:
    labels = (np.arange(300) % 10 == 0).astype(int)
    train, held_out = features(labels, apart=0.5), features(labels, apart=0.5, seed=1)
    plain, even = (probed(train, labels, held_out, balanced=balanced)[0] for balanced in (False, True))
    assert plain[:, 1].mean() == pytest.approx(0.1, abs=0.05)
    assert even[:, 1].mean() == pytest.approx(0.5, abs=0.1)


def test_a_class_without_an_image_to_learn_from_is_never_predicted() -> None:
    labels = 2 * balanced_labels(60)
    found, _ = probed(features(labels, apart=2.0), labels, features(labels, apart=2.0, seed=1), classes=4)
    assert found.shape == (60, 4)
    assert (found[:, [1, 3]] == 0).all()


def test_parts_too_few_for_folds_get_the_penalty_in_the_middle() -> None:
    labels = balanced_labels(40)
    found, penalty = probed(features(labels, apart=2.0), labels, features(labels, apart=2.0, seed=1), groups=labels)
    assert penalty == PENALTIES[len(PENALTIES) // 2]
    assert np.isfinite(found).all()


def test_a_class_with_fewer_parts_than_folds_lowers_their_number() -> None:
    assert FOLDS > 2
    labels = np.array([0] * 20 + [1] * 2)
    found, _ = probed(features(labels, apart=5.0), labels, features(labels, apart=5.0, seed=1))
    assert np.isfinite(found).all()


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
