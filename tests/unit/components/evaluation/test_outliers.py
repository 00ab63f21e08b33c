"""What lies far from all others of other parts."""

import numpy as np

from components.evaluation.outliers import neighbour_distances, robust_z


def test_distances_are_those_of_directions_to_images_of_other_parts() -> None:
    features = np.array([[1.0, 0.0], [5.0, 0.0], [0.0, 2.0], [0.0, 1.0]], np.float32)
    apart = float(np.sqrt(2))
    np.testing.assert_allclose(neighbour_distances(features, np.arange(4), k=1), [0, 0, 0, 0], atol=1e-3)
    pairs = np.array(["a", "a", "b", "b"])
    np.testing.assert_allclose(neighbour_distances(features, pairs, k=1), [apart] * 4, rtol=1e-5)


def test_fewer_images_of_other_parts_than_neighbours_are_enough() -> None:
    features = np.eye(3, dtype=np.float32)
    np.testing.assert_allclose(neighbour_distances(features, np.arange(3), k=9), np.sqrt(2), rtol=1e-5)
    assert np.isnan(neighbour_distances(features, np.zeros(3), k=2)).all()
    assert np.isnan(neighbour_distances(features[:1], np.zeros(1), k=2)).all()


def test_a_stranger_is_the_farthest() -> None:
    generator = np.random.default_rng(0)
    crowd = generator.normal(size=(60, 16)) + 5
    features = np.concatenate([crowd, -crowd[:1]]).astype(np.float32)
    z = robust_z(np.log(neighbour_distances(features, np.arange(61), k=5)))
    assert z.argmax() == 60
    assert z[60] > 3.5


def test_robust_z_counts_from_the_median_in_its_own_spread() -> None:
    """Median 2, deviations 2, 1, 0, 1, 98 with the median 1: z of 100 is 98 / 1.4826."""
    np.testing.assert_allclose(robust_z(np.array([0.0, 1, 2, 3, 100]))[4], 98 / 1.4826)
    np.testing.assert_array_equal(robust_z(np.array([1.0, 1, 1])), 0)
    np.testing.assert_array_equal(robust_z(np.array([1.0, np.nan, 1])), [0, np.nan, 0])
    assert np.isnan(robust_z(np.full(2, np.nan))).all()
