"""Linking images that are the same part, the same bytes or the same picture, and finding labels that contradict."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from components.data.groups import apply_conflict_policy, label_conflicts, largest_groups, link_groups
from components.errors import InputError


def pairs_of(*pairs):
    return np.array(pairs, dtype=np.int64).reshape(-1, 2)


def table_of(sha256, label, *, group=None, image_id=None):
    count = len(sha256)
    image_id = [f"{n}.png" for n in range(count)] if image_id is None else image_id
    return pd.DataFrame(
        {
            "image_id": image_id,
            "path": [name.partition("#")[0] for name in image_id],
            "sha256": pd.Series(sha256, dtype="str"),
            "label": label,
            "group": [f"g{value}" for value in sha256] if group is None else group,
            "pack_index": np.arange(count) + 100,
        }
    )


def test_single_images_are_groups_of_their_own_named_by_their_bytes():
    digests = ["b" * 64, "a" * 64]
    found = link_groups(digests, [None, float("nan")], pairs_of())
    assert found.tolist() == ["image:" + "b" * 16, "image:" + "a" * 16]


def test_bytes_parts_and_pairs_are_linked_through_one_another():
    # 0 and 1 share bytes, 1 and 2 share part p2, 2 and 3 are a pair, 3 is of part p1; 4 is alone.
    digests = ["a", "a", "b", "c", "d"]
    group = [None, "p2", "p2", "p1", "p9"]
    assert link_groups(digests, group, pairs_of((2, 3))).tolist() == ["p1", "p1", "p1", "p1", "p9"]


def test_a_missing_group_links_nothing():
    assert len(set(link_groups(["a", "b", "c"], [None, None, None], pairs_of()))) == 3


def test_no_images_give_no_groups():
    assert len(link_groups([], [], pairs_of())) == 0


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 40))
def test_groups_are_the_connected_components_whatever_the_order_of_the_rows(seed, count):
    generator = np.random.default_rng(seed)
    digests = [f"{value:016x}" for value in generator.integers(0, count, count)]
    group = [f"part{value}" if value % 2 else None for value in generator.integers(0, count, count)]
    pairs = generator.integers(0, count, (count // 5, 2))
    named = link_groups(digests, group, pairs)

    linked = np.eye(count, dtype=bool)
    for i, j in np.ndindex(count, count):
        linked[i, j] |= digests[i] == digests[j] or (group[i] is not None and group[i] == group[j])
    linked[pairs[:, 0], pairs[:, 1]] = linked[pairs[:, 1], pairs[:, 0]] = True
    reachable = np.linalg.matrix_power(linked, count)
    np.testing.assert_array_equal(named[:, None] == named, reachable)

    order = generator.permutation(count)
    moved = np.argsort(order)
    shuffled = link_groups([digests[i] for i in order], [group[i] for i in order], moved[pairs])
    assert shuffled.tolist() == named[order].tolist()


def test_identical_bytes_with_different_labels_are_a_conflict():
    table = table_of(["x", "y", "x", "z", "z", "x"], ["good", "good", "crack", "good", "good", "good"])
    assert label_conflicts(table, pairs_of()).to_dict("records") == [
        {
            "group": "gx",
            "image_ids": ("0.png", "2.png", "5.png"),
            "labels": ("good", "crack", "good"),
            "pack_index": (100, 102, 105),
            "kind": "identical",
        }
    ]


def test_near_duplicates_with_different_labels_are_a_conflict_with_all_that_they_are_linked_to():
    table = table_of(["a", "b", "c", "d"], ["good", "good", "crack", "pit"])
    found = label_conflicts(table, pairs_of((0, 1), (1, 2)))
    assert found["image_ids"].tolist() == [("0.png", "1.png", "2.png")]
    assert found["kind"].tolist() == ["near duplicate"]


def test_identical_bytes_that_contradict_name_the_kind_of_a_larger_set():
    table = table_of(["a", "a", "b"], ["good", "crack", "good"])
    assert label_conflicts(table, pairs_of((1, 2)))["kind"].tolist() == ["identical"]


def test_a_part_may_have_good_and_defective_views():
    table = table_of(["a", "b"], ["good", "crack"], group=["p1", "p1"])
    found = label_conflicts(table, pairs_of())
    assert len(found) == 0
    assert list(found.columns) == ["group", "image_ids", "labels", "pack_index", "kind"]


def test_tiles_of_one_image_do_not_contradict_one_another_but_those_of_its_copy_may():
    image_id = ["a.png#0,0,8,8", "a.png#8,0,16,8", "b.png#0,0,8,8", "b.png#8,0,16,8"]
    table = table_of(["x"] * 4, ["good", "crack", "good", "good"], image_id=image_id)
    found = label_conflicts(table, pairs_of((0, 1)))  # overlapping tiles of one image may well look alike
    assert found["image_ids"].tolist() == [("a.png#8,0,16,8", "b.png#8,0,16,8")]


@pytest.fixture
def contradicting():
    table = table_of(["a", "a", "b", "c", "d"], ["good", "crack", "good", "crack", "good"])
    return table, label_conflicts(table, pairs_of())


def test_conflicts_are_kept_dropped_or_stop_the_run_as_configured(contradicting):
    table, conflicts = contradicting
    kept, notes = apply_conflict_policy(table, conflicts, "keep")
    assert kept is table
    assert notes == (
        "1 set of images that show the same thing carries different labels (2 images); they were kept as they are.",
    )

    dropped, notes = apply_conflict_policy(table, conflicts, "drop")
    assert dropped["image_id"].tolist() == ["2.png", "3.png", "4.png"]
    assert dropped.index.tolist() == [0, 1, 2]
    assert notes[0].endswith("(2 images); all of them were dropped.")

    with pytest.raises(InputError, match=r"data\.label_conflicts='stop'.*0\.png \(good\), 1\.png \(crack\).*drop"):
        apply_conflict_policy(table, conflicts, "stop")


@pytest.mark.parametrize("policy", ["keep", "drop", "stop"])
def test_without_conflicts_no_policy_does_anything(policy):
    table = table_of(["a", "b"], ["good", "crack"])
    assert apply_conflict_policy(table, label_conflicts(table, pairs_of()), policy) == (table, ())


def test_dropping_the_last_images_of_a_class_is_refused():
    table = table_of(["a", "a", "b"], ["good", "crack", "good"])
    with pytest.raises(InputError, match=r"data\.label_conflicts='drop' leaves no image of class crack"):
        apply_conflict_policy(table, label_conflicts(table, pairs_of()), "drop")


def test_the_largest_groups_say_what_holds_them_together():
    table = table_of(
        ["a", "b", "c", "d", "d", "e", "f", "g"],
        ["good", "good", "crack", "pit", "good", "good", "good", "good"],
        group=["p1", "p1", "p1", "gd", "gd", "ge", "ge", "gg"],
    )
    own = pd.Series(["p1", "p1", None, None, None, None, None, "p7"])
    pairs = pairs_of((1, 2), (5, 6))
    assert largest_groups(table, own, pairs, count=10).to_dict("records") == [
        {"group": "p1", "images": 3, "labels": "good 2, crack 1", "reason": "part, near duplicates"},
        {"group": "gd", "images": 2, "labels": "good 1, pit 1", "reason": "identical"},
        {"group": "ge", "images": 2, "labels": "good 2", "reason": "near duplicates"},
    ]
    assert largest_groups(table, own, pairs, count=1)["group"].tolist() == ["p1"]


def test_the_tiles_of_one_image_alone_are_no_large_group():
    image_id = ["a.png#0,0,8,8", "a.png#8,0,16,8", "b.png#0,0,8,8", "c.png#0,0,8,8", "c.png#8,0,16,8"]
    table = table_of(["x", "x", "y", "y", "y"], ["good", "crack", "good", "good", "good"], image_id=image_id)
    found = largest_groups(table, pd.Series([None] * 5, dtype=object), pairs_of((0, 1)), count=10)
    assert found.to_dict("records") == [{"group": "gy", "images": 2, "labels": "good 3", "reason": "identical"}]
