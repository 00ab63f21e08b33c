"""Label noise hints find swapped labels, and leave rare classes and groups in peace."""

import numpy as np
import pandas as pd
import pytest

from components.data.audit.label_noise import doubtful_labels

CLASSES = np.array(["crack", "good", "pit"])


def clusters(count=300, *, seed=0, distance=4.0):
    generator = np.random.default_rng(seed)
    code = np.arange(count) % 3
    features = generator.normal(size=(count, 6)) + distance * np.eye(3, 6)[code]
    return features.astype(np.float32), CLASSES[code].astype(object), np.array([f"g{n}" for n in range(count)])


def doubt(features, labels, groups, *, k=10, limit=50):
    labels, groups = np.asarray(labels, dtype=object), np.asarray(groups, dtype=object)
    return doubtful_labels(features, labels, groups, k=k, limit=limit)


@pytest.mark.parametrize("seed", range(5))
def test_swapped_labels_lead_the_list_with_their_right_class(seed):
    features, labels, groups = clusters(seed=seed)
    right = labels.copy()
    swapped = np.random.default_rng(seed).permutation(300)[:15]
    labels[swapped] = [CLASSES[(list(CLASSES).index(label) + 1) % 3] for label in labels[swapped]]
    found = doubt(features, labels, groups)
    top = found.head(20)
    hits = top[top["row"].isin(swapped)]
    assert len(hits) >= 14
    assert (hits["suggested"].to_numpy() == right[hits["row"]]).mean() >= 0.9
    assert found["disagreement"].between(0.5, 1.0).mean() > 0.9
    assert found["disagreement"].round(2).is_monotonic_decreasing
    np.testing.assert_array_equal(found["label"], labels[found["row"]])


def test_well_separated_classes_leave_nothing_in_doubt():
    found = doubt(*clusters(distance=30.0))
    assert found.columns.tolist() == ["row", "label", "suggested", "disagreement"]
    assert found.empty


def test_near_duplicates_of_an_image_have_no_vote_on_it():
    features, labels, groups = clusters()
    copies = np.repeat([0], 12)
    features = np.concatenate([features, features[copies] + 0.001])
    labels = np.concatenate([labels, labels[copies]])
    wrong = np.r_[0, 300:312]
    labels[wrong] = "good"  # row 0 is a crack
    together = np.concatenate([groups, groups[copies]])
    assert set(wrong) <= set(doubt(features, labels, together, limit=20)["row"])
    apart = np.concatenate([groups, [f"c{n}" for n in range(12)]])
    assert not set(wrong) & set(doubt(features, labels, apart, limit=20)["row"])


def test_a_rare_class_with_fewer_images_than_neighbours_is_not_in_doubt():
    features, labels, groups = clusters(306, distance=8.0)
    keep = np.r_[np.flatnonzero(labels != "pit"), np.flatnonzero(labels == "pit")[:8]]
    found = doubt(features[keep], labels[keep], groups[keep], k=20)
    assert not (found["label"] == "pit").any()


def test_among_equal_disagreement_an_ordinary_image_comes_before_an_odd_one():
    generator = np.random.default_rng(0)
    features = generator.normal(size=(102, 4)).astype(np.float32)
    features[50:100, 0] += 100
    features[100] = 0.0  # in the middle of the first class
    features[101] = [0, 20, 20, 20]  # like nothing else, but nearest to the first class
    labels = ["good"] * 50 + ["crack"] * 52
    found = doubt(features, labels, [f"g{n}" for n in range(102)])
    assert found["row"].tolist() == [100, 101]
    assert found["disagreement"].tolist() == [1.0, 1.0]


def test_the_limit_cuts_the_end_of_the_list():
    features, labels, groups = clusters(distance=1.0)
    pd.testing.assert_frame_equal(
        doubt(features, labels, groups, limit=7), doubt(features, labels, groups, limit=40).head(7)
    )


@pytest.mark.parametrize("labels", [[], ["good"], ["good", "good"]])
def test_one_class_or_no_image_gives_an_empty_list(labels):
    found = doubt(np.zeros((len(labels), 2), np.float32), labels, [f"g{n}" for n in range(len(labels))])
    assert found.empty
    assert found.columns.tolist() == ["row", "label", "suggested", "disagreement"]


def test_two_images_contradict_each_other_unless_they_share_a_group():
    features = np.array([[0.0], [1.0]], np.float32)
    found = doubt(features, ["good", "crack"], ["a", "b"])
    assert found[["row", "suggested"]].to_numpy().tolist() == [[0, "crack"], [1, "good"]]
    assert doubt(features, ["good", "crack"], ["a", "a"]).empty


def test_images_that_all_look_the_same_are_judged_by_frequency():
    found = doubt(np.zeros((40, 3), np.float32), ["good"] * 20 + ["crack"] * 20, [f"g{n}" for n in range(40)], k=39)
    # 20 of the 39 others have the other label, at the same distance and frequency.
    assert found["disagreement"].to_numpy() == pytest.approx([20 / 39] * 40)
