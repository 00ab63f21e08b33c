"""The leakage probe finds a planted leak, and none where there is none."""

import numpy as np
import pytest

from components.data.audit.leakage import probe_leakage


def photographed(parts=60, times=4, *, seed=0, classes=("crack", "good")):
    """Parts that look nothing alike, each photographed several times, with labels that their looks do not tell."""
    generator = np.random.default_rng(seed)
    looks = generator.normal(size=(parts, 16))
    features = np.repeat(looks, times, axis=0) + 0.05 * generator.normal(size=(parts * times, 16))
    labels = np.repeat(np.resize(classes, parts), times)
    return features.astype(np.float32), labels, np.repeat([f"p{number}" for number in range(parts)], times)


def independent(*, seed, overlap=1.0, parts=60, times=4):
    """Images that have nothing but their class in common with the others of their group."""
    generator = np.random.default_rng(seed)
    labels = np.repeat(np.resize(["crack", "good"], parts), times)
    features = generator.normal(size=(parts * times, 8)) * overlap + (labels == "good")[:, None]
    return features.astype(np.float32), labels, np.repeat([f"p{number}" for number in range(parts)], times)


def probe(features, labels, groups, *, seed=0):
    return probe_leakage(features, np.asarray(labels), np.asarray(groups), seed=seed)


def test_parts_photographed_four_times_are_found_to_leak():
    found = probe(*photographed())
    # Right unless the three others of its part are in the same fold: (1/5)^3, and then by chance.
    assert found.random_accuracy > 0.97
    assert 0.35 < found.grouped_accuracy < 0.65
    assert found.leaks
    assert found.overstatement == pytest.approx(found.random_accuracy - found.grouped_accuracy)
    assert found.overstatement_interval[0] > 0.2
    points = f"{100 * found.overstatement:.0f} points"
    assert found.statement.startswith(f"A random split would overstate accuracy by {points}")
    assert "240 of 240 images share a group" in found.statement
    assert (found.images, found.folds) == (240, 5)


def test_intervals_hold_their_accuracies():
    found = probe(*photographed())
    assert found.random_interval[0] < found.random_accuracy <= found.random_interval[1]
    assert found.grouped_interval[0] < found.grouped_accuracy < found.grouped_interval[1]
    # 60 parts, not 240 images: about 0.5 ± 0.13.
    assert found.grouped_interval[1] - found.grouped_interval[0] > 0.2


def test_groups_that_share_nothing_but_the_class_do_not_leak():
    alarms = [probe(*independent(seed=seed), seed=seed) for seed in range(20)]
    assert sum(found.leaks for found in alarms) <= 1
    assert alarms[0].statement.startswith("No measurable leakage: ")
    assert "cannot be told from zero" in alarms[0].statement


def test_single_images_leave_nothing_to_compare():
    features, labels, _ = independent(seed=0)
    found = probe(features, labels, [f"i{number}" for number in range(len(labels))])
    assert found.random_accuracy > 0.5
    assert found.grouped_accuracy is None
    assert found.overstatement is None
    assert not found.leaks
    assert "no two images share a group" in found.statement
    assert "data.group_column" in found.statement


def test_a_class_of_three_groups_makes_three_folds():
    features, labels, groups = photographed(parts=43)
    labels[groups < "p1"] = "good"
    labels[:] = "good"
    labels[np.isin(groups, ["p1", "p2", "p3"])] = "crack"
    assert probe(features, labels, groups).folds == 3


def test_a_class_in_one_group_is_left_out_and_named():
    features, labels, groups = photographed()
    labels = labels.astype(object)
    labels[:4] = "dent"
    found = probe(features, labels, groups)
    assert found.images == 236
    assert "all their images are in one group: dent." in found.statement


def test_too_few_groups_are_measured_but_not_judged():
    found = probe(*photographed(parts=8))
    assert not found.leaks
    assert found.statement.startswith("Leakage cannot be judged from 8 groups")


@pytest.mark.parametrize("labels", [["good"] * 6, ["good", "good", "good", "bad", "bad", "bad"]])
def test_one_class_or_one_group_per_class_cannot_be_probed(labels):
    found = probe(np.zeros((6, 3), np.float32), labels, ["a", "a", "a", "b", "b", "b"])
    assert (found.images, found.folds, found.random_accuracy) == (0 if "bad" in labels else 6, 0, None)
    assert "two classes with two groups each" in found.statement


@pytest.mark.parametrize("count", [0, 1, 2])
def test_next_to_no_images_cannot_be_probed(count):
    found = probe(
        np.zeros((count, 3), np.float32), np.array(["good", "bad"][:count], str), np.array(["a", "b"][:count], str)
    )
    assert found.random_accuracy is None
    assert "cannot be probed" in found.statement


def test_images_that_all_look_the_same_show_no_leak():
    _, labels, groups = photographed()
    found = probe(np.zeros((240, 5), np.float32), labels, groups)
    assert not found.leaks


def test_the_same_seed_gives_the_same_result():
    assert probe(*photographed(), seed=3) == probe(*photographed(), seed=3)
