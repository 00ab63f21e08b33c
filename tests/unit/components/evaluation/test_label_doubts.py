"""Labels that a classifier doubts: by hand, and planted."""

import numpy as np

from components.evaluation.label_doubts import COLUMNS, doubtful_labels


def test_a_class_is_suggested_where_it_reaches_what_it_has_on_its_own_images() -> None:
    """Class 1 has .6 on its own images in the mean: .7 of it is confident, .55 is not, although it is the likeliest."""
    second = np.array([0.1, 0.2, 0.7, 0.55, 0.5, 0.7])
    labels = np.array([0, 0, 0, 0, 1, 1])
    found = doubtful_labels(np.stack([1 - second, second], axis=1), labels, limit=9)
    assert found["row"].tolist() == [2]
    assert found[["label", "suggested"]].to_numpy().tolist() == [[0, 1]]
    assert found["confidence"].round(3).tolist() == [0.4]


def test_the_worst_stand_first_and_rows_without_a_score_are_left_out() -> None:
    second = np.array([0.95, 0.99, np.nan, 0.0, 0.9, 0.8])
    labels = np.array([0, 0, 0, 0, 1, 1])
    probabilities = np.stack([1 - second, second], axis=1)
    assert doubtful_labels(probabilities, labels, limit=9)["row"].tolist() == [1, 0]
    assert doubtful_labels(probabilities, labels, limit=1)["row"].tolist() == [1]


def test_a_class_without_images_is_never_suggested() -> None:
    probabilities = np.array([[0.1, 0.1, 0.8], [0.2, 0.1, 0.7], [0.1, 0.2, 0.7]])
    assert doubtful_labels(probabilities, np.array([0, 0, 1]), limit=9).empty


def test_without_any_score_nothing_is_doubtful() -> None:
    found = doubtful_labels(np.full((3, 2), np.nan), np.array([0, 1, 1]), limit=9)
    assert (len(found), tuple(found.columns)) == (0, COLUMNS)


def test_most_of_the_labels_that_were_swapped_are_found() -> None:
    generator = np.random.default_rng(0)
    truth = np.arange(400) % 2
    swapped = generator.choice(400, 12, replace=False)
    labels = truth.copy()
    labels[swapped] ^= 1
    odds = 3 * (2 * truth - 1) + generator.normal(size=400)
    second = 1 / (1 + np.exp(-odds))
    found = doubtful_labels(np.stack([1 - second, second], axis=1), labels, limit=24)
    assert np.isin(swapped, found["row"]).mean() > 0.9
