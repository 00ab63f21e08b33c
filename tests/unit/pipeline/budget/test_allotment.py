"""What fits into a time, by hand arithmetic."""

from dataclasses import replace

import pytest

from pipeline.budget.allotment import Work, allot, begins_at, close_sizes, frozen_views, smaller_size

#: Ten seconds for an epoch of images of 64 px, which are not made smaller; half a second for a view of the test split.
WORK = Work(
    frozen_views=1,
    teach=1000, held_out=250, tested=250, folds=5, views=8, at_once=1, needs_rate=True, sizes=(64,), training=0.01,
    scoring=0.002, start=1.0,
)  # fmt: skip


def test_a_network_has_its_full_length_before_there_is_another_one() -> None:
    assert WORK.full_epochs == 30  # 30,000 images
    # 1920 s; 10 s and 41 passes of the test split afterwards, 33 s for a ramp: 371.3 s each, of which 5 are no epochs
    found = allot(2000, WORK)
    assert (found.networks, found.epochs, found.range_test) == (5, 36, True)
    assert found.afterwards == pytest.approx(10 + 0.5 * 41)
    # 480 s: two networks would have 212 s each
    found = allot(500, WORK)
    assert (found.networks, found.epochs, found.range_test) == (1, 42, True)
    assert "a network has 30 epochs before there is another one" in found.why


def test_a_short_time_has_one_short_network_at_the_usual_rate_or_none() -> None:
    found = allot(60, WORK)  # 57.6 s, of which 38.1 are for epochs
    assert (found.networks, found.epochs, found.range_test) == (1, 3, False)
    found = allot(40, WORK)  # 18.9 s
    assert (found.networks, found.range_test, found.afterwards) == (0, False, 10.5)
    assert found.why == "no time for a network of 2 epochs, so the classifier on frozen features is delivered"
    assert allot(-5, WORK).networks == 0


def test_no_more_than_twice_the_full_length_is_trained() -> None:
    found = allot(10_000, WORK)
    assert (found.networks, found.epochs) == (5, 60)
    assert "more than 60 epochs would gain nothing" in found.why


def test_a_rate_that_is_given_needs_no_test() -> None:
    assert not allot(1000, replace(WORK, needs_rate=False)).range_test


def test_networks_that_train_beside_each_other_take_the_time_of_one() -> None:
    found = allot(400, replace(WORK, at_once=5))
    # 384 s, less 30.5 and 33: 315.5 s for the epochs of all five
    assert (found.networks, found.epochs) == (5, 31)


def test_in_the_hold_out_design_there_is_one_network() -> None:
    found = allot(1000, replace(WORK, folds=0))
    assert (found.networks, found.epochs) == (1, 60)


def test_smaller_images_are_taken_where_large_ones_leave_no_time_for_the_full_length() -> None:
    large = replace(WORK, sizes=(256, 128), training=0.04, needs_rate=False)
    # Growing from 192 px an epoch takes 29.5 s, and one of 128 px, growing from 96 px, 7.375 s.
    found = allot(1000, large)
    assert (found.size, found.grow_from, found.networks, found.epochs) == (256, 192, 1, 31)
    found = allot(600, large)
    assert (found.size, found.grow_from, found.networks) == (128, 96, 2)
    assert found.why.startswith("images of 256 px would leave it fewer epochs; ")
    found = allot(100, large)
    assert (found.size, found.networks, found.epochs) == (128, 1, 11)


def test_trainings_begin_at_three_quarters_of_the_side() -> None:
    given = {224: 160, 128: 96, 96: 64, 64: None, 48: None, 32: None, 512: 384}
    assert {size: begins_at(size) for size in given} == given


def test_a_smaller_size_is_about_half_of_the_side() -> None:
    given = {224: 128, 256: 128, 160: 96, 512: 256, 128: None, 48: None}
    assert {size: smaller_size(size) for size in given} == given


@pytest.mark.parametrize(
    ("scores", "expected"),
    [
        ([(224, 0.90, 0.88), (128, 0.89, 0.87)], (224, 128)),  # one standard error below
        ([(224, 0.90, 0.88), (128, 0.88, 0.86)], (224,)),
        ([(128, 0.92, 0.90), (224, 0.90, 0.88)], (224, 128)),  # better
        ([(224, 0.90, None), (128, 0.89, None)], (224,)),
    ],
)
def test_a_size_is_close_within_a_standard_error_of_the_largest(scores, expected) -> None:
    assert close_sizes(scores) == expected


@pytest.mark.parametrize(
    ("left", "views"),
    [(-5, 1), (15.3, 1), (15.4, 2), (26.1, 4), (47.3, 4), (47.4, 8), (52.2, 8), (52.3, 2), (130.1, 4), (290.1, 8)],
)
def test_frozen_features_have_most_of_the_time_until_a_network_fits_and_then_a_tenth(left: float, views: int) -> None:
    # A view of 300 images and of the 100 of the test takes 4 s, a network of two epochs 38 s, the end of a run 10 s.
    assert frozen_views(left, (1, 2, 4, 8), images=300, tested=100, scoring=0.01) == views
