"""Augmentation: decided by its generator alone, and nothing that hides or fakes a defect."""

import random

import cv2
import numpy as np
import pytest

from components.data.augment import KINDS, _shade, build_augmentation

SIDE = 48


@pytest.fixture
def images():
    return np.random.default_rng(0).integers(0, 256, (6, 32, 32, 3), dtype=np.uint8)


def drawn(image, strength, kinds, *, draws, seed=0):
    """Many augmented versions of one image, (draws, S, S, 3)."""
    batch = np.repeat(image[None], draws, axis=0)
    return build_augmentation(strength, kinds)(batch, np.random.default_rng(seed))


def flat(level, side=SIDE):
    return np.full((side, side, 3), level, np.uint8)


def structure(image):
    """What stands out over an area of 3 × 3 pixels from its surroundings, in grey levels."""
    grey = image.astype(np.float32).mean(axis=2)
    return cv2.blur(grey - cv2.blur(grey, (21, 21)), (3, 3))


def marked():
    """An image that looks different in each of the eight orientations."""
    image = np.zeros((9, 9, 3), np.uint8)
    image[0, 1] = 255
    return image


def test_strength_zero_or_no_kinds_returns_the_batch_itself(images):
    generator = np.random.default_rng(0)
    assert build_augmentation(0.0, KINDS)(images, generator) is images
    assert build_augmentation(1.0, ())(images, generator) is images


@pytest.mark.parametrize("strength", [0.01, 0.3, 1.0])
@pytest.mark.parametrize("kinds", [KINDS, *((kind,) for kind in KINDS)], ids=lambda kinds: "+".join(kinds))
def test_shape_and_type_stay_and_the_input_is_left_alone(images, strength, kinds):
    before = images.copy()
    augment, generator = build_augmentation(strength, kinds), np.random.default_rng(0)
    for _ in range(5):
        out = augment(images, generator)
        assert (out.shape, out.dtype) == (images.shape, np.uint8)
        assert not np.shares_memory(out, images)
    np.testing.assert_array_equal(images, before)


def test_an_empty_batch_stays_empty(images):
    assert build_augmentation(1.0, KINDS)(images[:0], np.random.default_rng(0)).shape == (0, 32, 32, 3)


def test_the_generator_decides_everything(images):
    augment = build_augmentation(1.0, KINDS)
    first = augment(images, np.random.default_rng(3))
    # Neither what was drawn before nor the function's own age matters.
    np.testing.assert_array_equal(augment(images, np.random.default_rng(3)), first)
    np.testing.assert_array_equal(build_augmentation(1.0, KINDS)(images, np.random.default_rng(3)), first)
    assert (augment(images, np.random.default_rng(4)) != first).any()


@pytest.mark.parametrize(("corner", "bright"), [(0, (0, 0)), (1, (0, -1)), (2, (-1, 0)), (3, (-1, -1))])
def test_light_falls_off_from_its_corner_to_the_opposite_one(corner, bright):
    shaded = _shade(flat(200), corner, 0.25)
    assert shaded[bright].tolist() == [200] * 3
    assert shaded[-1 - bright[0], -1 - bright[1]].tolist() == [150] * 3  # a quarter less
    # Along an edge the distance is 1/√2 of the diagonal: 200 · (1 − 0.25/√2) = 164.6.
    assert shaded[bright[0], -1 - bright[1]].tolist() == [165] * 3


def test_images_of_a_batch_are_changed_independently(images):
    out = drawn(images[0], 0.5, KINDS, draws=64)
    assert len({image.tobytes() for image in out}) > 60


def test_global_random_state_is_neither_read_nor_changed(images):
    np.random.seed(0)  # noqa: NPY002
    random.seed(0)
    before = np.random.get_state()[1].copy(), random.getstate()  # noqa: NPY002
    first = build_augmentation(1.0, KINDS)(images, np.random.default_rng(1))
    np.testing.assert_array_equal(np.random.get_state()[1], before[0])  # noqa: NPY002
    assert random.getstate() == before[1]
    np.random.seed(9)  # noqa: NPY002
    random.seed(9)
    cv2.setRNGSeed(9)
    np.testing.assert_array_equal(build_augmentation(1.0, KINDS)(images, np.random.default_rng(1)), first)


ROTATIONS = [lambda i, k=k: np.rot90(i, k) for k in range(4)]
MIRRORED = [lambda i, k=k: np.rot90(i[:, ::-1], k) for k in range(4)]


@pytest.mark.parametrize(
    ("kinds", "allowed"),
    [
        (("horizontal_flip",), [ROTATIONS[0], np.fliplr]),
        (("vertical_flip",), [ROTATIONS[0], np.flipud]),
        (("horizontal_flip", "vertical_flip"), [ROTATIONS[0], np.fliplr, np.flipud, ROTATIONS[2]]),
        (("quarter_turns",), ROTATIONS),
        (("quarter_turns", "vertical_flip"), [*ROTATIONS, *MIRRORED]),
        (("horizontal_flip", "vertical_flip", "quarter_turns"), [*ROTATIONS, *MIRRORED]),
        (("light", "noise"), [ROTATIONS[0]]),
    ],
)
def test_exactly_the_allowed_orientations_come_up_about_equally(kinds, allowed):
    """At a strength of almost nothing, so that an image is only turned."""
    out = (drawn(marked(), 1e-9, kinds, draws=800) > 100).astype(np.uint8) * 255
    expected = {np.ascontiguousarray(turn(marked())).tobytes() for turn in allowed}
    seen = [image.tobytes() for image in out]
    assert set(seen) == expected
    share = 800 / len(allowed)
    assert min(seen.count(one) for one in expected) > share - 5 * np.sqrt(share)


def was_moved(image):
    dark = np.argwhere(image < (np.median(image) + image.min()) / 2)
    return np.abs(dark.mean(axis=0) - 16).max() > 0.5


def was_lit(image):
    return abs(np.median(image) - 120) > 3


def was_noisy(image):
    return np.abs(np.diff(image[:8], axis=1)).mean() > 1


@pytest.mark.parametrize(("kind", "happened"), [("shift", was_moved), ("light", was_lit), ("noise", was_noisy)])
def test_a_kind_happens_when_it_is_named_and_not_when_it_is_left_out(kind, happened):
    """Seen on a black square in the centre of a grey image; blur and dropout would change the square."""
    image = flat(120, 33)
    image[12:21, 12:21] = 0

    def count(kinds):
        return sum(happened(out) for out in drawn(image, 1.0, kinds, draws=100).astype(float).mean(axis=3))

    assert count((kind,)) > 10
    assert count(KINDS) > 10
    assert count(set(KINDS) - {kind, "blur", "dropout"}) == 0


def test_blur_lowers_a_point_and_keeps_its_sum():
    image = flat(0, 33)
    image[16, 16] = 250
    out = drawn(image, 1.0, ("blur",), draws=200)[..., 0].astype(int)
    blurred = out[:, 16, 16] < 250
    assert 0.2 < blurred.mean() < 0.6
    assert (np.abs(out.sum(axis=(1, 2)) - 250) < 25).all()
    assert (out[~blurred] == image[..., 0]).all()


def test_the_transforms_draw_their_coins_independently():
    """With one seed for each transform, as the library does it, whatever is moved would be brightened, too.

    A batch of one each time, because such streams part from the second image on.
    """
    image = flat(120, 33)
    image[16, 16] = 0
    augment = build_augmentation(1.0, ("shift", "light"))
    out = np.concatenate([augment(image[None], np.random.default_rng(seed)) for seed in range(800)]).astype(int)
    moved = out.reshape(len(out), -1, 3)[:, :, 0].argmin(axis=1) != 16 * 33 + 16
    lit = np.median(out, axis=(1, 2, 3)) != 120
    assert 0.1 < moved.mean() < 0.95
    assert 0.5 < lit.mean() < 0.99
    assert abs(np.corrcoef(moved, lit)[0, 1]) < 5 / np.sqrt(800)


@pytest.mark.parametrize("strength", [0.1, 0.3, 0.5])
@pytest.mark.parametrize("level", [20, 120, 215])
def test_a_sound_part_stays_sound_at_a_moderate_strength(strength, level):
    """Noise has at most 0.05 · 0.5 · 255 = 6.4 grey levels a pixel, 2.1 over 3 × 3; six times that is 13."""
    for image in drawn(flat(level), strength, KINDS, draws=300):
        assert np.abs(structure(image)).max() < 13


@pytest.mark.parametrize("place", [(22, 22), (0, 0), (45, 20), (30, 45)], ids=["centre", "corner", "bottom", "right"])
@pytest.mark.parametrize(
    ("level", "defect"), [(120, 180), (120, 60), (215, 255), (20, 60)], ids=["bright", "dark", "glare", "gloom"]
)
def test_a_defect_of_three_pixels_survives_a_moderate_strength(place, level, defect):
    """Wherever it is: nothing leaves the frame, and no light saturates it."""
    image = flat(level)
    top, left = place
    image[top : top + 3, left : left + 3] = defect
    before = np.abs(structure(image)).max()
    for out in drawn(image, 0.5, KINDS, draws=300):
        assert np.abs(structure(out)).max() > max(13, 0.35 * before)


@pytest.mark.parametrize("strength", [0.3, 0.7, 1.0])
def test_grey_images_stay_grey(strength):
    grey = np.random.default_rng(0).integers(0, 256, (SIDE, SIDE, 1), dtype=np.uint8)
    out = drawn(np.repeat(grey, 3, axis=2), strength, KINDS, draws=100)
    np.testing.assert_array_equal(out[..., 0], out[..., 1])
    np.testing.assert_array_equal(out[..., 0], out[..., 2])


def test_noise_hits_the_share_and_the_level_that_the_strength_says():
    out = drawn(flat(128), 1.0, ("noise",), draws=500).astype(float)[..., 0]
    deviation = out.std(axis=(1, 2))
    assert abs((deviation > 0).mean() - 0.4) < 5 * np.sqrt(0.4 * 0.6 / 500)
    assert 10 < deviation.max() < 0.05 * 255 * 1.05
    assert abs(out.mean() - 128) < 0.1


def test_dropout_starts_late_hides_little_and_fakes_nothing(images):
    assert (drawn(images[0], 0.6, ("dropout",), draws=50) == images[0]).all()
    busy = np.random.default_rng(0).integers(0, 256, (100, 100, 3), dtype=np.uint8)
    changed = (drawn(busy, 1.0, ("dropout",), draws=200) != busy).any(axis=3).sum(axis=(1, 2))
    assert 0 < changed.max() <= 3 * 4 * 4
    assert (changed == 0).mean() > 0.6
    assert (drawn(flat(90), 1.0, ("dropout",), draws=200) == 90).all()
