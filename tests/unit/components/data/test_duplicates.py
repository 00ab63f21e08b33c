"""Linking images that are the same part or the same bytes."""

import numpy as np
import pandas as pd
import pytest

from components.data.duplicates import label_conflicts, link_groups


def test_single_images_are_groups_of_their_own_named_by_their_bytes():
    digests = ["a" * 64, "b" * 64]
    assert link_groups(digests, [None, float("nan")]).tolist() == ["image:" + "a" * 16, "image:" + "b" * 16]


def test_the_same_bytes_and_the_same_part_are_linked_through_one_another():
    # 0 and 1 share bytes, 1 and 2 share part p2, 2 and 3 share bytes, 3 is of part p1; 4 is alone.
    digests = ["a", "a", "b", "b", "c"]
    group = [None, "p2", "p2", "p1", "p9"]
    assert link_groups(digests, group).tolist() == ["p1", "p1", "p1", "p1", "p9"]


def test_a_missing_group_links_nothing():
    assert len(set(link_groups(["a", "b", "c"], [None, None, None]))) == 3


def test_the_names_do_not_depend_on_the_order_of_the_rows():
    generator = np.random.default_rng(0)
    digests = [f"{value:064x}" for value in generator.integers(0, 30, 60)]
    group = [f"part{value}" if value < 20 else None for value in generator.integers(0, 40, 60)]
    named = link_groups(digests, group)
    order = generator.permutation(60)
    shuffled = link_groups([digests[i] for i in order], [group[i] for i in order])
    assert shuffled.tolist() == named[order].tolist()


def test_no_images_give_no_groups_and_unequal_lengths_are_an_error():
    assert len(link_groups([], [])) == 0
    with pytest.raises(ValueError, match="2 digests, but 1 groups"):
        link_groups(["a", "b"], [None])


def test_conflicting_labels_of_the_same_bytes_are_listed():
    table = pd.DataFrame(
        {
            "sha256": ["x", "y", "x", "z", "z", "x"],
            "path": ["2.png", "3.png", "1.png", "4.png", "5.png", "6.png"],
            "label": ["good", "good", "crack", "good", "good", "good"],
        }
    )
    conflicts = label_conflicts(table)
    assert conflicts.to_dict("records") == [{"sha256": "x", "paths": "1.png, 2.png, 6.png", "labels": "crack, good"}]


def test_without_conflicts_the_table_is_empty_with_its_columns():
    table = pd.DataFrame({"sha256": ["x"], "path": ["1.png"], "label": ["good"]})
    assert list(label_conflicts(table).columns) == ["sha256", "paths", "labels"]
    assert len(label_conflicts(table)) == 0
