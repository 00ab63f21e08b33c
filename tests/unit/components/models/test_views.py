"""Which views an augmentation allows: groups of the symmetries in which images are shown in training."""

import itertools

import pytest
import torch

from components.models.forward import turned
from components.models.views import allowed_views, nested_views

ACROSS, DOWN, TURNS = "horizontal_flip", "vertical_flip", "quarter_turns"
SETS = [
    kinds for count in range(4) for kinds in itertools.combinations((ACROSS, DOWN, TURNS), count)
]  # all eight, with and without each
IMAGE = torch.arange(9).view(1, 1, 3, 3)


def composed(first: int, second: int) -> int:
    """The number of the view that is the second of the first."""
    found = turned(turned(IMAGE, first), second)
    (number,) = (view for view in range(8) if torch.equal(turned(IMAGE, view), found))
    return number


@pytest.mark.parametrize(
    ("kinds", "counts"),
    [
        ((), [1]),
        (("blur", "light"), [1]),
        ((ACROSS,), [1, 2]),
        ((DOWN, "shift"), [1, 2]),
        ((ACROSS, DOWN), [1, 2, 4]),
        ((TURNS,), [1, 2, 4]),
        ((TURNS, ACROSS), [1, 2, 4, 8]),
        ((TURNS, DOWN), [1, 2, 4, 8]),
        ((TURNS, ACROSS, DOWN), [1, 2, 4, 8]),
    ],
)
def test_the_numbers_of_views_by_augmentation(kinds, counts):
    assert [*allowed_views(kinds, 0.5)] == counts


def test_without_strength_nothing_is_augmented_and_no_view_is_allowed_but_the_image():
    assert allowed_views((ACROSS, DOWN, TURNS), 0.0) == {1: (0,)}


@pytest.mark.parametrize("kinds", SETS)
def test_views_are_those_of_training_and_no_others(kinds):
    mirrored = turned(IMAGE, 4)
    shown = {0}
    steps = {ACROSS: mirrored, DOWN: IMAGE.flip(-2), TURNS: torch.rot90(IMAGE, 1, (-2, -1))}
    for kind in kinds:
        shown |= {view for view in range(8) if torch.equal(turned(IMAGE, view), steps[kind])}
    while (more := {composed(a, b) for a in shown for b in shown}) - shown:
        shown |= more
    assert set().union(*allowed_views(kinds, 1.0).values()) == shown


@pytest.mark.parametrize("kinds", SETS)
def test_each_number_of_views_is_a_group_that_holds_the_smaller_ones(kinds):
    groups = [*allowed_views(kinds, 1.0).values()]
    for smaller, larger in itertools.pairwise(groups):
        assert set(smaller) < set(larger)
    for number, group in allowed_views(kinds, 1.0).items():
        assert len(set(group)) == len(group) == number
        assert group[0] == 0
        assert {composed(a, b) for a in group for b in group} == set(group)


@pytest.mark.parametrize("kinds", SETS)
def test_the_first_of_the_nested_views_are_the_group_of_each_number(kinds):
    allowed = allowed_views(kinds, 1.0)
    order = nested_views(allowed)
    assert len(order) == max(allowed)
    for number, group in allowed.items():
        assert set(order[:number]) == set(group)


def test_the_nested_views_of_all_flips_and_turns_by_hand():
    assert nested_views(allowed_views((ACROSS, DOWN, TURNS), 1.0)) == (0, 4, 2, 6, 1, 3, 5, 7)
    assert nested_views({1: (0,)}) == (0,)
