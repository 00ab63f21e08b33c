"""Statistics by hand, on images for which they are known."""

import numpy as np
import pytest

from components.data.pack.shards import THUMBNAIL_SIDE, measure


def grey(level, side=40):
    return np.full((side, side, 3), level, np.uint8)


def test_a_flat_image_has_its_level_and_nothing_else():
    found = measure(grey(51))
    assert found.brightness == pytest.approx(0.2)
    assert (found.contrast, found.sharpness, found.colour) == (0, 0, 0)
    assert found.border == pytest.approx(0, abs=1e-9)
    np.testing.assert_array_equal(found.thumbnail, np.full((THUMBNAIL_SIDE, THUMBNAIL_SIDE), 51))


def test_contrast_is_the_standard_deviation():
    image = grey(0)
    image[:, 20:] = 255
    assert measure(image).contrast == pytest.approx(0.5)


def test_a_bright_frame_shows_in_the_border():
    image = grey(255)
    image[2:-2, 2:-2] = 0  # 5 % of 40 pixels
    bright = (40**2 - 36**2) / 40**2
    assert measure(image).border == pytest.approx(1 - bright)
    assert measure(255 - image).border == pytest.approx(bright - 1)


def test_sharpness_falls_when_an_image_is_blurred():
    noise = np.repeat(np.random.default_rng(0).integers(0, 256, (64, 64, 1), dtype=np.uint8), 3, axis=2)
    blurred = (noise.astype(int) + np.roll(noise, 1, 0) + np.roll(noise, 1, 1)) // 3
    assert measure(noise).sharpness > measure(blurred.astype(np.uint8)).sharpness + 0.3


def test_colour_is_the_difference_of_channels():
    image = grey(100)
    image[:, :, 1] = 151
    assert measure(image).colour == pytest.approx(51 / 255)


@pytest.mark.parametrize("side", [1, 2, 3, 63, 64, 65, 500])
def test_any_size_is_measured(side):
    found = measure(grey(90, side))
    assert np.isfinite([found.brightness, found.contrast, found.sharpness, found.border, found.colour]).all()
    assert found.thumbnail.shape == (THUMBNAIL_SIDE, THUMBNAIL_SIDE)
