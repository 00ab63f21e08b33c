"""Augmentation: a stream of its own, and nothing that hides or fakes a defect."""

import time

import numpy as np
import pytest

from components.data.augment import build_augmentation


@pytest.fixture
def image():
    return np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)


def test_strength_zero_returns_the_image_itself(image):
    assert build_augmentation(0.0, seed=0)(image) is image


@pytest.mark.parametrize("strength", [0.01, 0.3, 1.0])
def test_shape_and_type_stay_and_the_input_is_left_alone(image, strength):
    before = image.copy()
    augment = build_augmentation(strength, seed=0)
    for _ in range(50):
        out = augment(image)
        assert (out.shape, out.dtype) == (image.shape, np.uint8)
    np.testing.assert_array_equal(image, before)


def test_the_same_seed_gives_the_same_stream_and_another_one_another(image):
    def stream(seed):
        augment = build_augmentation(0.5, seed=seed)
        return np.stack([augment(image) for _ in range(20)])

    np.testing.assert_array_equal(stream(3), stream(3))
    assert (stream(3) != stream(4)).any()


def test_global_random_state_is_neither_read_nor_changed(image):
    np.random.seed(0)  # noqa: NPY002
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    first = build_augmentation(0.5, seed=1)(image)
    np.testing.assert_array_equal(np.random.get_state()[1], before)  # noqa: NPY002
    np.random.seed(9)  # noqa: NPY002
    np.testing.assert_array_equal(build_augmentation(0.5, seed=1)(image), first)


@pytest.mark.parametrize("strength", [-0.1, 1.1, float("nan")])
def test_a_strength_out_of_range_is_an_error(strength):
    with pytest.raises(ValueError, match="outside"):
        build_augmentation(strength, seed=0)


def test_all_eight_orientations_come_up_about_equally():
    corner = np.zeros((9, 9, 3), np.uint8)
    corner[0, 1] = 255  # a mark whose place tells the eight apart
    augment = build_augmentation(1e-9, seed=0)
    places = [tuple(np.argwhere(augment(corner)[:, :, 0] > 100)[0]) for _ in range(800)]
    counts = [places.count(place) for place in set(places)]
    assert len(counts) == 8
    assert min(counts) > 60  # of 100 expected; five standard deviations are 47


def test_light_and_orientation_are_drawn_independently():
    """With one seed for each transform, as the library does it, the orientation would give the light away."""
    generator = np.random.default_rng(0)
    ramp = np.tile(np.linspace(100, 140, 16).astype(np.uint8)[None, :, None], (16, 1, 3))
    augment = build_augmentation(0.5, seed=int(generator.integers(100)))
    by_orientation = {}
    for _ in range(600):
        out = augment(ramp).astype(float).mean(axis=2)
        horizontal, vertical = out[:, -1].mean() - out[:, 0].mean(), out[-1].mean() - out[0].mean()
        turned = abs(vertical) > abs(horizontal)
        key = (turned, (vertical if turned else horizontal) > 0)
        by_orientation.setdefault(key, []).append(out.mean())
    means = [np.mean(values) for values in by_orientation.values()]
    spreads = [np.std(values) for values in by_orientation.values()]
    assert len(means) == 4
    assert np.ptp(means) < np.mean(spreads)
    assert min(spreads) > 3.0


def test_a_defect_of_three_pixels_survives_a_moderate_strength():
    plain = np.full((48, 48, 3), 120, np.uint8)
    plain[23:26, 23:26] = 20
    augment = build_augmentation(0.3, seed=0)
    for _ in range(300):
        out = augment(plain).astype(float).mean(axis=2)
        assert np.median(out) - out.min() > 40


def test_it_keeps_up_with_training():
    """Far below the 5,500 images/s measured, so that a busy machine does not fail it."""
    image = np.random.default_rng(0).integers(0, 256, (96, 96, 3), dtype=np.uint8)
    augment = build_augmentation(0.5, seed=0)
    for _ in range(50):
        augment(image)
    start = time.thread_time()
    for _ in range(500):
        augment(image)
    assert 500 / (time.thread_time() - start) > 1500
