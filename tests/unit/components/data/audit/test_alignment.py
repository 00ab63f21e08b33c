"""The correlation of aligned thumbnails and the background it is compared with."""

import cv2
import numpy as np
import pytest

from components.data.audit.alignment import align, excess, find_references, measure_backgrounds, read_details


def _texture(seed, side=80):
    noise = np.random.default_rng(seed).standard_normal((side, side)).astype(np.float32)
    smooth = cv2.GaussianBlur(noise, (0, 0), 2)
    return (128 + 40 * smooth / smooth.std()).clip(0, 255).astype(np.uint8)


def _reader(images):
    stack = np.stack(images)
    return lambda start, stop: stack[start:stop]


def test_a_shift_of_three_pixels_is_found_and_one_of_six_is_not():
    large = _texture(0)
    images = [large[6:70, 6:70], large[3:67, 9:73], large[0:64, 6:70]]
    near, far = align(read_details(_reader(images)), [(0, 1, 0), (0, 2, 0)])
    assert near > 0.97  # local contrast differs a little at the edges
    assert far < 0.7  # three of the six pixels are left, of details that are some eight wide


def test_the_same_picture_correlates_by_one_and_its_negative_does_not():
    image = _texture(1, 64)
    same, negative = align(read_details(_reader([image, image.copy(), 255 - image])), [(0, 1, 0), (0, 2, 0)])
    assert same == pytest.approx(1, abs=1e-6)
    assert negative < 0.6


def test_a_flat_thumbnail_correlates_with_nothing_not_even_with_itself():
    flat = np.full((64, 64), 90, dtype=np.uint8)
    details = read_details(_reader([flat, flat, _texture(2, 64)]))
    assert align(details, [(0, 1, 0), (0, 2, 0), (2, 0, 0)]).tolist() == [0, 0, 0]


def test_excess_is_the_share_of_what_the_background_leaves_open():
    found = excess(np.array([0.99, 0.9, 0.8, 1.0]), np.array([0.9, 0.9, 0.9, 1.0]))
    np.testing.assert_allclose(found, [0.9, 0.0, -1.0, 0.0], atol=1e-6)


def test_the_background_of_a_row_is_its_fiftieth_nearest_and_the_next_two():
    # Unit vectors at growing angles from row 0: row n is the n-th nearest to it.
    angles = np.linspace(0, 1.5, 120)
    descriptors = np.column_stack([np.cos(angles), np.sin(angles)]).astype(np.float32)
    references, looks = find_references(descriptors, np.array([0]))
    assert references.tolist() == [[50, 51, 52]]
    assert looks[0] == pytest.approx(np.cos(angles[50:53]).mean(), abs=1e-6)


def test_a_tight_cluster_of_a_hundred_is_compared_with_what_lies_outside():
    angles = np.concatenate([np.linspace(0, 0.02, 100), np.linspace(1, 1.5, 150)])
    descriptors = np.column_stack([np.cos(angles), np.sin(angles)]).astype(np.float32)
    references, looks = find_references(descriptors, np.array([0]))
    assert references.tolist() == [[200, 201, 202]]
    assert looks[0] < 0.4


def test_two_images_have_no_background_and_three_have_the_third():
    descriptors = np.eye(3, 4, dtype=np.float32)
    references, looks = find_references(descriptors[:2], np.array([0, 1]))
    assert references.shape == (2, 0)
    assert looks.tolist() == [0, 0]
    details = read_details(_reader([_texture(3, 64)] * 2))
    assert measure_backgrounds(details, np.array([0, 1]), references).tolist() == [0, 0]
    descriptors[1] = descriptors[0]
    assert set(find_references(descriptors, np.array([0]))[0].ravel().tolist()) == {2}
