"""Near duplicates are found through every alteration, and look-alikes are left apart."""

import io

import cv2
import numpy as np
import pytest
from PIL import Image, ImageFilter

from components.data.audit.descriptors import SYMMETRIES, describe, transform_image
from components.data.audit.near_duplicates import find_near_duplicates, propose_pairs
from components.data.audit.neighbours import find_neighbours

SIDE = 256


def _texture(seed, *, grain=3.0):
    noise = np.random.default_rng(seed).standard_normal((SIDE, SIDE)).astype(np.float32)
    smooth = cv2.GaussianBlur(noise, (0, 0), grain)
    return Image.fromarray((120 + 30 * smooth / smooth.std()).clip(0, 255).astype(np.uint8))


def _thumbnail(image):
    return np.asarray(image.resize((64, 64), Image.Resampling.BILINEAR))


def _find(images, *, symmetric=False):
    stack = np.stack([image if isinstance(image, np.ndarray) else _thumbnail(image) for image in images])
    return find_near_duplicates(lambda start, stop: stack[start:stop], len(stack), symmetric=symmetric)


def _pairs(found):
    return list(zip(found.pairs["first"].tolist(), found.pairs["second"].tolist(), strict=True))


@pytest.fixture(scope="module")
def textures():
    return [_texture(seed) for seed in range(60)]


def _jpeg(image):
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=75)
    return Image.open(stream)


def _noisy(image):
    noise = np.random.default_rng(0).normal(0, 5, (SIDE, SIDE))
    return Image.fromarray((np.asarray(image) + noise).clip(0, 255).astype(np.uint8))


ALTERATIONS = {
    "JPEG": _jpeg,
    "moved by 3 px": lambda image: Image.fromarray(np.roll(np.asarray(image), (3, -3), axis=(0, 1))),
    "moved by 8 px": lambda image: Image.fromarray(np.roll(np.asarray(image), 8, axis=1)),
    "brighter": lambda image: image.point([min(255, int(v * 1.1)) for v in range(256)]),
    "darker": lambda image: image.point([int(v * 0.9) for v in range(256)]),
    "gamma": lambda image: image.point([round(255 * (v / 255) ** 0.9) for v in range(256)]),
    "blurred": lambda image: image.filter(ImageFilter.GaussianBlur(1)),
    "noisy": _noisy,
    "cropped": lambda image: image.crop((2, 3, SIDE - 3, SIDE - 2)),
    "turned 1°": lambda image: image.rotate(1, Image.Resampling.BICUBIC),
    "resized": lambda image: image.resize((150, 150)).resize((SIDE, SIDE)),
}


@pytest.mark.parametrize("name", ALTERATIONS)
def test_an_altered_copy_is_paired_with_its_original_and_nothing_else_is(textures, name):
    found = _find([*textures, *(ALTERATIONS[name](image) for image in textures[:5])])
    assert _pairs(found) == [(row, 60 + row) for row in range(5)]
    assert set(found.pairs["symmetry"]) == {"upright"}
    assert (found.pairs["correlation"] >= found.threshold).all()
    assert found.threshold >= 0.9


@pytest.mark.parametrize("symmetry", SYMMETRIES[1:], ids=lambda symmetry: symmetry.name)
def test_a_mirrored_or_turned_copy_is_found_on_request_only_and_named(textures, symmetry):
    turned = Image.fromarray(transform_image(np.asarray(textures[3]), symmetry))
    assert _pairs(_find([*textures, turned])) == []
    found = _find([*textures, turned], symmetric=True)
    assert _pairs(found) == [(3, 60)]
    assert found.pairs["symmetry"].tolist() == [symmetry.name]


def _fixture(seed):
    """A product of the same strong bars each time, with a faint texture of its own."""
    bars = 120 + 60 * np.sign(np.sin(np.arange(SIDE) / SIDE * 12 * np.pi))[:, None] * np.ones((1, SIDE))
    own = np.asarray(_texture(seed, grain=6), dtype=np.float32) - 120
    return Image.fromarray((bars + 0.3 * own).clip(0, 255).astype(np.uint8))


def test_products_that_look_alike_are_not_paired_but_the_copy_of_one_is():
    images = [_fixture(seed) for seed in range(150)]
    flat = np.stack([_thumbnail(image).ravel() for image in images]).astype(float)
    plain = np.corrcoef(flat)[np.triu_indices(150, 1)]
    assert (plain > 0.9).mean() > 0.99  # what a fixed correlation would pair
    found = _find([*images, _jpeg(images[7])])
    assert _pairs(found) == [(7, 150)]


def test_a_cluster_of_more_copies_than_neighbours_becomes_one_component(textures):
    copies = []
    for seed in range(100):
        noise = np.random.default_rng(seed).normal(0, 2, (SIDE, SIDE))
        copies.append(Image.fromarray((np.asarray(textures[0]) + noise).clip(0, 255).astype(np.uint8)))
    found = _find([*(_texture(seed) for seed in range(1000, 1120)), *copies])
    ends = np.array(_pairs(found))
    assert set(ends.ravel().tolist()) == set(range(120, 220))
    assert "in 1 groups, the largest of 100" in found.note


def test_identical_copies_are_paired_though_there_are_more_than_neighbours(textures):
    found = _find([*textures, *[textures[4]] * 20])
    assert set(np.array(_pairs(found)).ravel().tolist()) == {4, *range(60, 80)}


def test_a_sequence_that_moves_on_slowly_stays_one_group(textures):
    wide = np.concatenate([np.asarray(_texture(seed)) for seed in (500, 501)], axis=1)
    frames = [Image.fromarray(wide[:, 6 * n : 6 * n + SIDE]) for n in range(36)]
    found = _find([*textures, *frames])
    assert {(60 + n, 61 + n) for n in range(35)} <= set(_pairs(found))
    assert "dropped" not in found.note


def test_a_chain_through_a_large_share_of_the_data_is_cut_and_said():
    wide = np.concatenate([np.asarray(_texture(seed)) for seed in range(700, 712)], axis=1)
    frames = [Image.fromarray(wide[:, 6 * n : 6 * n + SIDE]) for n in range(400)]
    found = _find(frames)
    assert "pairs were dropped, as they chained more than 200 images" in found.note
    assert f"{len(found.pairs):,} show the same thing" in found.note


@pytest.mark.parametrize("symmetric", [False, True])
def test_no_one_and_two_images(textures, symmetric):
    nothing = find_near_duplicates(lambda start, stop: np.zeros((0, 64, 64), np.uint8), 0, symmetric=symmetric)
    assert _pairs(nothing) == []
    assert _pairs(_find(textures[:1], symmetric=symmetric)) == []
    assert _pairs(_find(textures[:2], symmetric=symmetric)) == []
    assert _pairs(_find([textures[0], _jpeg(textures[0])], symmetric=symmetric)) == [(0, 1)]
    assert list(nothing.pairs.columns) == ["first", "second", "correlation", "symmetry"]


def test_flat_images_are_paired_with_none_whether_of_one_brightness_or_not(textures):
    flat = [np.full((64, 64), level, dtype=np.uint8) for level in (90, 90, 200)]
    found = _find([*textures, *flat])
    assert _pairs(found) == []
    assert np.isfinite(found.threshold)


def test_the_same_images_give_the_same_pairs(textures):
    images = [*textures, *(_noisy(image) for image in textures[:7])]
    first, second = _find(images), _find(images)
    assert first.pairs.equals(second.pairs)
    assert first.threshold == second.threshold


def test_each_pair_is_proposed_once_in_the_order_of_its_rows_and_at_its_best_symmetry():
    small = np.random.default_rng(0).uniform(40, 210, (6, 16, 16))
    images = np.kron(small, np.ones((1, 4, 4))).round().astype(np.uint8)
    left, right = 6, 7
    images[4] = transform_image(images[1], SYMMETRIES[left])
    images[2] = transform_image(images[5], SYMMETRIES[left])
    images[3] = images[0]
    pairs = propose_pairs(find_neighbours(describe(images), k=16, floor=0.6, symmetric=True))
    # 2 is 5 turned left, so that 5 is 2 turned right.
    expected = [(0, 3, 0), (1, 4, left), (2, 5, right)]
    assert list(pairs[["first", "second", "symmetry"]].itertuples(index=False, name=None)) == expected
    np.testing.assert_allclose(pairs["described"], 1, atol=1e-5)
