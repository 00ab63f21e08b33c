"""Limits of an objective, and of a difference on the same images: against the bootstrap written out, and at edges."""

import numpy as np
import pytest

from components.evaluation.objective_intervals import objective_interval
from components.evaluation.objectives import DECIDING, Objective
from components.evaluation.scalars import auroc

CLASSES = ("good", "pit")
SETTINGS = {"confidence": 0.9, "samples": 400, "seed": 3}


def named(name: str) -> Objective:
    return Objective(name=name, escape_budget=0.1, escape_cost=5.0, defect_rate=None)


def images(count: int = 120) -> np.ndarray:
    return np.random.default_rng(0).permutation(np.arange(count) % 3 == 0).astype(int)


def model(labels: np.ndarray, *, skill: float, seed: int) -> np.ndarray:
    """(N, 2) logits, their difference the label times the skill, with noise."""
    logit = skill * (labels - 0.5) + np.random.default_rng(seed).normal(size=len(labels))
    return np.stack([-logit / 2, logit / 2], axis=1)


def interval(logits, labels, groups=None, *, name="auroc", **changes):
    settings = SETTINGS | changes
    groups = np.arange(len(labels)) if groups is None else groups
    return objective_interval(named(name), logits, labels, CLASSES, ("good",), groups, **settings)


def difference(ours, theirs, labels, groups=None, *, name="auroc", **changes):
    settings = SETTINGS | changes
    groups = np.arange(len(labels)) if groups is None else groups
    return objective_interval(named(name), ours, labels, CLASSES, ("good",), groups, reference=theirs, **settings)


def test_value_and_limits_are_those_of_the_bootstrap_written_out() -> None:
    labels = images()
    logits = model(labels, skill=1.5, seed=1)
    generator = np.random.default_rng(3)
    drawn = [generator.integers(0, 120, 120) for _ in range(400)]
    values = [auroc(logits[index, 1], labels[index] == 1) for index in drawn]
    found = interval(logits, labels)
    assert found.value == pytest.approx(auroc(logits[:, 1], labels == 1))
    assert (found.low, found.high) == pytest.approx(tuple(np.quantile(values, [0.05, 0.95])))
    # A bootstrap of n units has (n − 1)/n of the variance.
    assert found.variance == pytest.approx(np.var(values, ddof=1) * 120 / 119)
    assert found.units == 120
    assert (found.samples, found.dropped, found.confidence) == (400, 0, 0.9)
    assert found.to_dict()["value"] == found.value


def test_whole_groups_are_drawn() -> None:
    """Every image is there four times: 30 independent ones are less certain than 120."""
    labels = np.repeat(images(30), 4)
    logits = np.repeat(model(images(30), skill=1.5, seed=1), 4, axis=0)
    alone = interval(logits, labels)
    grouped = interval(logits, labels, np.repeat(np.arange(30), 4))
    assert grouped.value == alone.value
    assert grouped.variance > 2 * alone.variance
    named_groups = interval(logits, labels, np.repeat([f"part-{n:02d}" for n in range(30)], 4))
    assert named_groups == grouped


def test_several_models_are_averaged() -> None:
    labels = images()
    one, other = (model(labels, skill=1.5, seed=seed) for seed in (1, 2))
    both = interval(np.stack([one, other]), labels)
    assert both.value == pytest.approx((interval(one, labels).value + interval(other, labels).value) / 2)
    assert interval(one[None], labels) == interval(one, labels)


@pytest.mark.parametrize("name", [*DECIDING, "balanced_accuracy"])
def test_a_model_is_not_ahead_of_itself(name: str) -> None:
    labels = images()
    logits = model(labels, skill=1.5, seed=1)
    found = difference(logits, logits, labels, name=name)
    assert (found.value, found.variance) == (0.0, 0.0)
    assert (found.low, found.high) == (None, None)  # no width, and no certainty


def test_a_better_model_is_ahead_and_the_difference_turns_round_with_the_sides() -> None:
    labels = images()
    good, bad = model(labels, skill=4, seed=1), model(labels, skill=0.5, seed=2)
    found, reverse = difference(good, bad, labels), difference(bad, good, labels)
    assert found.value == pytest.approx(interval(good, labels).value - interval(bad, labels).value)
    assert found.low > 0
    assert (reverse.value, reverse.low, reverse.high) == pytest.approx((-found.value, -found.high, -found.low))


def test_what_is_hard_for_both_cancels_out() -> None:
    """Two models with the same noise, one a little more skilled: paired, the variance is a fraction of the sum."""
    labels = images()
    ours, theirs = model(labels, skill=1.6, seed=1), model(labels, skill=1.5, seed=1)
    paired = difference(ours, theirs, labels)
    assert paired.variance < 0.1 * (interval(ours, labels).variance + interval(theirs, labels).variance)


def test_the_numbers_of_seeds_may_differ() -> None:
    labels = images()
    three = np.stack([model(labels, skill=4, seed=seed) for seed in (1, 2, 3)])
    one = model(labels, skill=0.5, seed=4)
    found = difference(three, one, labels)
    assert found.value == pytest.approx(interval(three, labels).value - interval(one, labels).value)


def test_a_model_whose_output_is_not_finite_has_no_objective_and_no_difference() -> None:
    labels = images()
    fine, broken = model(labels, skill=1, seed=1), model(labels, skill=1, seed=2)
    broken[5] = np.nan
    for found in (interval(broken, labels), difference(fine, np.stack([fine, broken]), labels)):
        assert (found.value, found.low, found.high, found.variance) == (None, None, None, None)
        assert found.dropped == found.samples == 400


def test_resamples_of_one_kind_of_image_are_dropped_and_counted() -> None:
    labels = np.array([1, 0, 0, 0, 0, 0])
    found = interval(model(labels, skill=1, seed=1), labels)
    # the defective is missing in (5/6)^6 of the resamples, a third
    assert 0.2 * 400 < found.dropped < 0.5 * 400
    assert found.value is not None
    only_good = interval(model(labels, skill=1, seed=1), np.zeros(6, dtype=int))
    assert only_good.value is None


def test_the_same_seed_gives_the_same_limits_and_another_others() -> None:
    labels = images()
    logits = model(labels, skill=1, seed=1)
    assert interval(logits, labels) == interval(logits, labels)
    assert interval(logits, labels).low != interval(logits, labels, seed=4).low
