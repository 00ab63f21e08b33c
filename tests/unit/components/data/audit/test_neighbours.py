"""The search for nearest descriptors, against plain sorting of all correlations."""

import numpy as np
import pytest

from components.data.audit import neighbours
from components.data.audit.descriptors import DESCRIPTOR_SIZE, SYMMETRIES, transform_descriptors
from components.data.audit.neighbours import find_neighbours, nearest

FLOORS = [-1.0, 0.6, 0.83]  # every list full, most full, few full


@pytest.fixture(autouse=True)
def small_tiles(monkeypatch):
    monkeypatch.setattr(neighbours, "_BLOCK_ENTRIES", 1000)


def _rows(count, seed=0):
    """Rows that correlate by 0.8 on average, as those of images of one product do."""
    generator = np.random.default_rng(seed)
    rows = generator.standard_normal((count, DESCRIPTOR_SIZE)) + 2 * np.random.default_rng(9).standard_normal(
        DESCRIPTOR_SIZE
    )
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def _sorted(table, k, floor):
    order = np.argsort(-table, axis=1, kind="stable")[:, :k]
    values = np.take_along_axis(table, order, axis=1)
    return np.where(values > floor, order, -1), np.where(values > floor, values, floor)


@pytest.mark.parametrize("floor", FLOORS)
def test_every_list_holds_the_most_alike_above_the_floor_under_every_symmetry(floor):
    rows = _rows(150)
    found = find_neighbours(rows, k=7, floor=floor, symmetric=True)
    for number, symmetry in enumerate(found.symmetries):
        table = transform_descriptors(rows, SYMMETRIES[symmetry]) @ rows.T
        np.fill_diagonal(table, -2)
        indices, values = _sorted(table, 7, floor)
        np.testing.assert_array_equal(found.indices[number], indices)
        np.testing.assert_allclose(found.correlations[number], values, atol=1e-6)


def test_nearest_finds_the_row_itself_first_and_has_fewer_columns_for_fewer_rows():
    rows = _rows(40)
    indices, values = nearest(rows, rows[5:25], k=3)
    np.testing.assert_array_equal(indices[:, 0], np.arange(5, 25))
    np.testing.assert_allclose(values[:, 0], 1, atol=1e-6)
    expected, _ = _sorted(rows[5:25] @ rows.T, 3, -1)
    np.testing.assert_array_equal(indices, expected)
    assert nearest(rows[:2], rows[:1], k=3)[0].shape == (1, 2)
    assert nearest(rows[:0], rows[:1], k=3)[0].shape == (1, 0)


@pytest.mark.parametrize("count", [0, 1])
def test_none_or_one_row_has_no_neighbours(count):
    found = find_neighbours(_rows(count), k=4, floor=0.5, symmetric=True)
    assert found.indices.shape == (7, count, 4)
    assert np.all(found.indices == -1)
