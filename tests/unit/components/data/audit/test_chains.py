"""Breaking up what single linkage has chained together."""

import numpy as np

from components.data.audit.near_duplicates import break_chains, component_sizes


def _chain(strengths):
    nodes = np.arange(len(strengths))
    return nodes, nodes + 1, np.array(strengths)


def test_a_component_of_the_allowed_size_stays_whole():
    first, second, strength = _chain([0.9, 0.91, 0.92])
    assert break_chains(first, second, strength, largest=4).all()


def test_the_weakest_links_go_until_the_parts_are_small_enough():
    # 0-1-2-3-4-5: without .90 parts of 3 and 3, which is enough; .91 stays.
    first, second, strength = _chain([0.95, 0.91, 0.90, 0.93, 0.94])
    assert break_chains(first, second, strength, largest=3).tolist() == [True, True, False, True, True]
    # Parts of two need .91 gone as well, and .93.
    assert break_chains(first, second, strength, largest=2).tolist() == [True, False, False, False, True]


def test_links_of_equal_strength_go_together_and_other_components_are_left_alone():
    first = np.array([0, 1, 2, 10])
    second = np.array([1, 2, 3, 11])
    strength = np.array([0.95, 0.95, 0.95, 0.90])
    assert break_chains(first, second, strength, largest=3).tolist() == [False, False, False, True]


def test_component_sizes_are_listed_largest_first_and_none_for_no_links():
    assert component_sizes(np.array([0, 5, 6]), np.array([1, 6, 7])).tolist() == [3, 2]
    assert component_sizes(np.array([], dtype=int), np.array([], dtype=int)).tolist() == []
    assert len(break_chains(*(np.array([], dtype=int),) * 3, largest=2)) == 0
