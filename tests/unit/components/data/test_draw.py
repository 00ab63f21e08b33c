"""A sample by class: its size, the shares in it, and what becomes of a rare class."""

import numpy as np
import pytest

from components.data.draw import draw_by_class


def labels(*counts: int) -> np.ndarray:
    """So many images of each class, mixed."""
    return np.random.default_rng(9).permutation(np.repeat(np.arange(len(counts)), counts))


def drawn(counts: tuple[int, ...], **options) -> list[int]:
    found = labels(*counts)
    return np.bincount(found[draw_by_class(found, seed=0, **options)], minlength=len(counts)).tolist()


@pytest.mark.parametrize(
    ("counts", "size", "rare", "expected"),
    [
        ((800, 200), 100, 0, [80, 20]),
        ((600, 300, 100), 100, 0, [60, 30, 10]),
        ((990, 10), 100, 0, [99, 1]),
        ((990, 10), 100, 20, [90, 10]),  # all ten; 20 + 70 · 970 / 970 of the others
        ((900, 100), 100, 20, [75, 25]),  # 20 each, then 60 · 880 / 960 and 60 · 80 / 960
        ((3, 2), 5, 1, [3, 2]),
        ((3, 2), 9, 1, [3, 2]),
    ],
)
def test_classes_keep_their_shares_and_rare_ones_a_few_at_least(counts, size, rare, expected) -> None:
    assert drawn(counts, size=size, rare=rare) == expected


def test_no_image_is_drawn_twice_and_they_come_in_order() -> None:
    found = draw_by_class(labels(70, 30), size=50, rare=0, seed=4)
    assert len(found) == 50
    assert (np.diff(found) > 0).all()


def test_a_seed_gives_the_same_images_and_another_one_others() -> None:
    one, same, other = (draw_by_class(labels(70, 30), size=50, rare=0, seed=seed).tolist() for seed in (1, 1, 2))
    assert one == same
    assert one != other


def test_labels_need_not_begin_at_zero() -> None:
    assert len(draw_by_class(np.array([5] * 8 + [7] * 2), size=5, rare=0, seed=0)) == 5
