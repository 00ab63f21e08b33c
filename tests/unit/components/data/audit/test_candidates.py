"""Proposing pairs from neighbour lists, and carrying what is known to the next run."""

import numpy as np

from components.data.audit.candidates import Search, propose_pairs, search_images
from components.data.audit.descriptors import SYMMETRIES, transform_image

LEFT, RIGHT = 6, 7


def _noise(count, seed=0):
    small = np.random.default_rng(seed).uniform(40, 210, (count, 16, 16))
    return np.kron(small, np.ones((1, 4, 4))).round().astype(np.uint8)


def _search(images, **given):
    reads = []

    def read(start, stop):
        reads.append((start, stop))
        return images[start:stop]

    given = {"symmetric": True, "known": None, "earlier": None} | given
    return search_images(read, len(images), **given), reads


def test_each_pair_is_proposed_once_in_the_order_of_its_rows_and_at_its_best_symmetry():
    images = _noise(6)
    images[4] = transform_image(images[1], SYMMETRIES[LEFT])
    images[2] = transform_image(images[5], SYMMETRIES[LEFT])
    images[3] = images[0]
    pairs = propose_pairs(_search(images)[0])
    # 2 is 5 turned left, so that 5 is 2 turned right.
    expected = [(0, 3, 0), (1, 4, LEFT), (2, 5, RIGHT)]
    assert list(pairs[["first", "second", "symmetry"]].itertuples(index=False, name=None)) == expected
    np.testing.assert_allclose(pairs["described"], 1, atol=1e-5)


def test_only_new_images_are_read_and_what_was_measured_moves_with_its_rows():
    images = _noise(30)
    known, reads = _search(images)
    assert reads == [(0, 30)]
    measured = {
        "pairs": np.array([[0, 5, 0], [3, 9, 1]], dtype=np.int32),
        "aligned": np.array([0.9, 0.8], dtype=np.float32),
        "looks": np.arange(30, dtype=np.float32),
    }
    known = Search(**(vars(known) | measured))
    # Image 0 has gone, new ones stand first and last: every other image keeps its row.
    after = np.concatenate([_noise(1, seed=1), images[1:], _noise(1, seed=2)])
    found, reads = _search(after, known=known, earlier=np.array([-1, *range(1, 30), -1]))
    assert reads == [(0, 1), (30, 31)]
    assert found.pairs.tolist() == [[3, 9, 1]]
    assert found.aligned.tolist() == [np.float32(0.8)]
    assert np.isnan(found.looks).all()  # they depend on all images
    np.testing.assert_allclose(found.descriptors, _search(after)[0].descriptors, atol=1e-6)
