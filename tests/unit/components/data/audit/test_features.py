"""Features of thumbnails: on fixed scales, blind to the lamp where they should be."""

import numpy as np
import pytest

from components.data.audit.features import probe_features


def textures(count, seed=0):
    return np.random.default_rng(seed).integers(40, 160, (count, 64, 64)).astype(np.uint8)


def test_each_row_depends_on_its_thumbnail_only():
    thumbnails = textures(300)
    features = probe_features(thumbnails)
    assert features.shape == (300, 282)
    assert features.dtype == np.float32
    np.testing.assert_allclose(features[270:271], probe_features(thumbnails[270:271]), rtol=1e-5, atol=1e-5)


def test_no_thumbnail_gives_no_row():
    assert probe_features(textures(0)).shape == (0, 282)


def test_blank_thumbnails_have_finite_features_and_no_picture():
    features = probe_features(np.array([np.full((64, 64), level) for level in (0, 128, 255)], np.uint8))
    assert np.isfinite(features).all()
    assert not features[:, -256:].any()


def test_brightness_and_contrast_do_not_change_the_picture_but_the_texture():
    image = np.kron(np.arange(64).reshape(8, 8), np.ones((8, 8))).astype(np.uint8)
    plain, lit = probe_features(np.stack([image, 2 * image + 40]))
    np.testing.assert_allclose(lit[-256:], plain[-256:], atol=1e-5)
    assert np.linalg.norm(plain[-256:]) == pytest.approx(2.0, abs=1e-4)
    assert lit[0] - plain[0] == pytest.approx(4 * (image.mean() + 40) / 255, abs=1e-4)


def test_lines_across_and_lines_down_differ_in_texture():
    across = np.zeros((64, 64), np.uint8)
    across[::8] = 200
    lying, standing = probe_features(np.stack([across, across.T]))
    # First band: columns 3 and 4 measure changes along x and along y.
    assert lying[3] < lying[4]
    assert (standing[3], standing[4]) == pytest.approx((lying[4], lying[3]), abs=1e-4)
