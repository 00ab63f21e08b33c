"""Warnings about files of another depth, and about masks, from what was measured."""

import numpy as np
import pandas as pd
import pytest

from pipeline.data.findings import bit_depth_warning, file_warnings


def peaks(*counted):
    return pd.Series([float(value) for value, count in counted for _ in range(count)], dtype="float64")


@pytest.mark.parametrize(("peak", "bits", "times"), [(255, 8, 256), (1023, 10, 64), (4095, 12, 16), (16383, 14, 4)])
def test_files_that_use_few_of_their_sixteen_bits_are_warned_of_with_the_key_that_helps(peak, bits, times):
    said = bit_depth_warning(peaks((peak, 79), (5, 1)), None)
    assert f"no pixel above {peak} in 80 files of 16 bits" in said
    assert f"set data.significant_bits: {bits}" in said
    assert f"{times} times too dark" in said
    assert bit_depth_warning(peaks((peak, 80)), bits) is None  # as the key says


def test_a_key_that_is_too_large_is_warned_of_too():
    assert "of which 14 count: where they hold 12" in bit_depth_warning(peaks((4095, 5)), 14)


def test_full_range_and_no_files_of_sixteen_bits_say_nothing():
    assert bit_depth_warning(peaks((65535, 3), (20000, 40)), None) is None
    assert bit_depth_warning(peaks(), None) is None


def test_two_ways_of_storing_in_one_set_are_warned_of():
    said = bit_depth_warning(peaks((4095, 40), (60000, 40)), None)
    assert "40 of 80 files of 16 bits have no pixel above 4095, and the others reach 60000 and more" in said


def test_dark_images_among_bright_ones_are_no_second_way():
    assert bit_depth_warning(peaks((3000, 40), (5000, 40), (30000, 20)), None) is None  # no gap between them
    assert bit_depth_warning(peaks((4000, 1), (60000, 99)), None) is None  # a single one


def doubted(confidence, labels):
    paths = [f"{number}.png" for number in range(len(labels))]
    statistics = pd.DataFrame({"path": paths, "peak": np.nan, "defect_area": np.nan})
    listed = pd.DataFrame({"path": paths, "label": labels, "confidence": confidence})
    return file_warnings(statistics, listed, ["good"], significant_bits=None)


def test_of_two_classes_labels_that_are_less_likely_right_than_wrong_are_warned_of():
    (said,) = doubted([0.5, 0.4, 0.3, 1.0], ["good", "pit", "good", "pit"])
    assert said.startswith(
        "2 images with a confidence below 0.5, whose label is less likely right than wrong (the first:"
    )
    assert "1.png" in said
    assert "data.confidence_column" in said
    assert doubted([0.5, 1.0], ["good", "pit"]) == ()
    assert doubted([0.4, 1.0, 1.0], ["good", "pit", "crack"]) == ()  # where another one need not be likelier


def masked(covers, labels):
    """A file of each cover, in two tiles; None: it has no mask."""
    paths = [f"{number}.png" for number in range(len(covers))]
    areas = [np.nan if cover is None else cover for cover in covers]
    statistics = pd.DataFrame({"path": paths * 2, "peak": np.nan, "defect_area": areas * 2})
    return file_warnings(statistics, pd.DataFrame({"path": paths, "label": labels}), ["good"], significant_bits=None)


def test_masks_that_cover_most_of_their_images_are_warned_of_as_inverted():
    (said,) = masked([None, 0.98, 0.97, 0.9], ["good", "pit", "pit", "pit"])
    assert said.startswith("3 of 3 masks mark more than half of their image as defective (the first: that of 1.png)")
    (said,) = masked([0.01, 0.02, 0.99, 0.01], ["pit"] * 4)
    assert said.startswith("1 of 4 masks mark")


def test_masks_that_mark_a_part_say_nothing_and_neither_does_one_large_defect():
    assert masked([None, 0.0, 0.2, 0.6, 0.1], ["good", "good", "pit", "pit", "pit"]) == ()


def test_empty_masks_of_defects_and_marked_masks_of_good_parts_are_named():
    empty, marked = masked([0.0, 0.1, 0.1, 0.0], ["pit", "good", "pit", "good"])
    assert empty.startswith("1 defective image with a mask that marks nothing")
    assert "0.png" in empty
    assert marked.startswith("1 image of a good label with a mask that marks a defect (the first: 1.png)")
