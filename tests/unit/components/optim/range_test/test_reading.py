"""fastai's valley rule, against hand arithmetic and a brute-force search."""

from itertools import combinations, pairwise

import numpy as np
import pytest

from components.optim.range_test.reading import longest_decrease, valley_index


def test_a_straight_fall_is_one_valley_and_its_middle_is_suggested():
    # L = 12 ending at 11: window from max(0, 11 - 12) = 0, then int(12 / 3) + int(12 / 6) = 6
    assert valley_index(np.arange(12.0)[::-1], resolution=0.0) == 6


def test_a_plateau_before_and_a_rise_behind_do_not_count():
    losses = np.array([5.0] * 4 + [4.0, 3.0, 2.0, 1.0, 0.0] + [6.0, 7.0])
    # 5 4 3 2 1 0: L = 6, ends at 8: window from 2, then int(6 / 3) + int(6 / 6) = 3
    assert longest_decrease(losses, resolution=0.0) == (6, 8)
    assert valley_index(losses, resolution=0.0) == 5


def test_a_loss_that_never_falls_gives_the_first_rate():
    assert valley_index(np.arange(10.0), resolution=0.0) == 0


def test_a_fall_within_the_resolution_is_no_fall():
    losses = np.array([1.0, 0.99, 0.98, 0.5, 0.2])
    assert longest_decrease(losses, resolution=0.0) == (5, 4)
    assert longest_decrease(losses, resolution=0.05) == (3, 4)


@pytest.mark.parametrize("seed", range(5))
def test_the_longest_decrease_is_the_longest_of_all_subsequences(seed):
    values = np.random.default_rng(seed).integers(0, 8, size=10).astype(float)
    longest = max(
        size
        for size in range(1, 11)
        for chosen in combinations(range(10), size)
        if all(values[a] > values[b] for a, b in pairwise(chosen))
    )
    assert longest_decrease(values, resolution=0.0)[0] == longest
