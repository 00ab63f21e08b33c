"""Descriptors of thumbnails: what they ignore, and how they turn with the picture."""

import numpy as np
import pytest

from components.data.audit.descriptors import (
    DESCRIPTOR_SIZE,
    SYMMETRIES,
    describe,
    inverse,
    normalise,
    transform_descriptors,
    transform_image,
)


def _noise(count, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (count, 64, 64)).astype(np.uint8)


def test_rows_have_length_one_and_fit_into_512_bytes():
    rows = describe(_noise(5))
    assert rows.shape == (5, DESCRIPTOR_SIZE)
    assert rows.dtype == np.float32
    assert DESCRIPTOR_SIZE * rows.itemsize <= 512
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-6)


def test_a_flat_thumbnail_is_described_by_zeros_and_so_is_one_with_a_single_grey_level_of_rounding():
    flat = np.full((2, 64, 64), 130, dtype=np.uint8)
    flat[1, 10, 20] += 1
    assert np.all(describe(flat) == 0)
    assert np.all(normalise(flat) == 0)


def test_brightness_contrast_and_a_gradient_of_light_hardly_change_a_descriptor():
    image = np.kron(np.random.default_rng(1).uniform(60, 160, (1, 16, 16)), np.ones((4, 4)))
    lit = image * 0.8 + 20 + np.linspace(0, 40, 64)[None, None, :]
    rows = describe(np.concatenate([image, lit]).round().astype(np.uint8))
    assert rows[0] @ rows[1] > 0.99


@pytest.mark.parametrize("symmetry", SYMMETRIES, ids=lambda symmetry: symmetry.name)
def test_the_descriptor_of_a_turned_picture_is_the_turned_descriptor(symmetry):
    images = _noise(4, seed=2)
    turned = np.stack([transform_image(image, symmetry) for image in images])
    np.testing.assert_allclose(describe(turned), transform_descriptors(describe(images), symmetry), atol=1e-6)


def test_the_names_of_the_symmetries_say_what_numpy_does():
    image = _noise(1)[0]
    expected = {
        "upright": image,
        "mirrored": np.fliplr(image),
        "mirrored top to bottom": np.flipud(image),
        "turned 180°": np.rot90(image, 2),
        "mirrored on the diagonal": image.T,
        "mirrored on the other diagonal": np.rot90(image, 2).T,
        "turned 90° left": np.rot90(image),
        "turned 90° right": np.rot90(image, -1),
    }
    for number, symmetry in enumerate(SYMMETRIES):
        turned = transform_image(image, symmetry)
        np.testing.assert_array_equal(turned, expected.pop(symmetry.name))
        np.testing.assert_array_equal(transform_image(turned, SYMMETRIES[inverse(number)]), image)
    assert not expected
