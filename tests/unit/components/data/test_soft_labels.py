"""Soft labels: what is taken for a confidence, and the target that an image of it teaches."""

import numpy as np
import pytest

from components.data.soft_labels import read_confidence, soft_targets
from components.errors import InputError


def targets(labels, confidence, *, counts, good):
    found = soft_targets(np.array(labels), np.array(confidence), class_counts=np.array(counts), good=good)
    assert found.dtype == np.float32
    assert found.sum(axis=1) == pytest.approx(1)
    return found.tolist()


def test_a_certain_label_is_its_class_alone():
    assert targets([0, 1, 1], [1.0, 1.0, 1.0], counts=[9, 3], good=[0]) == [[1, 0], [0, 1], [0, 1]]


def test_of_two_classes_the_rest_is_on_the_other_one():
    found = targets([0, 1, 0], [0.75, 0.5, 0.0], counts=[9, 3], good=[0])
    assert found == [[0.75, 0.25], [0.5, 0.5], [0, 1]]


def test_a_defect_that_is_doubted_may_be_good_and_something_good_any_defect_as_they_are_frequent():
    """Classes 0 and 3 are good; of the defects, class 1 has 30 training images and class 2 has 10."""
    found = targets([1, 0], [0.5, 0.5], counts=[50, 30, 10, 10], good=[0, 3])
    assert found == [[0.25, 0.5, 0, 0.25], [0.5, 0.375, 0.125, 0]]


def test_defects_without_training_images_are_all_as_likely():
    assert targets([0], [0.5], counts=[50, 0, 0], good=[0]) == [[0.5, 0.25, 0.25]]


def test_without_good_classes_the_rest_is_on_all_others():
    assert targets([1], [0.5], counts=[8, 1, 1], good=[]) == [[0.25, 0.5, 0.25]]


def read(*texts):
    return read_confidence(texts, [f"{number}.png" for number in range(len(texts))], column="agreement")


def test_a_confidence_is_a_number_from_0_to_1_and_1_where_there_is_none():
    assert read("0", " 0.5 ", None, "1", "6.6e-1") == [0, 0.5, 1, 1, 0.66]


@pytest.mark.parametrize("text", ["1.2", "-0.1", "80", "inf", "nan", "0,8", "80 %", "sure"])
def test_what_is_no_number_from_0_to_1_is_refused_with_image_value_and_remedy(text):
    with pytest.raises(InputError) as caught:
        read("0.5", text, "0.9")
    assert str(caught.value) == (
        "data.confidence_column='agreement': 1 image with a confidence that is no number from 0 to 1 "
        f"({text!r} of 1.png); write the probability that the image's label is right, such as 0.8, with a point, or "
        "leave the cell empty for 1"
    )
