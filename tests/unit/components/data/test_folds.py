"""Folds: within train and val alone, no group in two of them, each class in each."""

import re

import numpy as np
import pandas as pd
from hypothesis import given, settings
from hypothesis import strategies as st

from components.data.folds import assign_folds


def table_of(label, group=None, split=None):
    count = len(label)
    return pd.DataFrame(
        {
            "label": label,
            "group": [f"g{n:04d}" for n in range(count)] if group is None else group,
            "split": ["train"] * count if split is None else split,
        }
    )


def test_only_train_and_val_are_folded():
    table = table_of(
        ["good", "crack"] * 40, split=["train", "train", "val", "val", "calibration", "test"] * 13 + ["train"] * 2
    )
    fold = assign_folds(table, num_folds=5, seed=0).fold
    assert fold.dtype == np.int64
    assert set(fold[table["split"].isin(["calibration", "test"])]) == {-1}
    assert set(fold[table["split"].isin(["train", "val"])]) == {0, 1, 2, 3, 4}


def test_no_folds_and_no_images_to_fold_give_none():
    assert assign_folds(table_of(["good", "crack"] * 2), num_folds=0, seed=0).fold.tolist() == [-1] * 4
    assert assign_folds(table_of(["good"], split=["test"]), num_folds=5, seed=0).fold.tolist() == [-1]


def test_single_images_are_spread_within_one_image_per_class():
    table = table_of(["good"] * 83 + ["crack"] * 22)
    result = assign_folds(table, num_folds=5, seed=0)
    found = pd.crosstab(table["label"], result.fold)
    assert sorted(found.loc["good"]) == [16, 16, 17, 17, 17]
    assert sorted(found.loc["crack"]) == [4, 4, 4, 5, 5]
    assert found.sum().tolist() == [21] * 5
    assert result.notes == ()


def test_a_class_with_fewer_groups_than_folds_is_said_to_be_absent_from_some():
    table = table_of(["good"] * 30 + ["crack"] * 6, [f"g{n}" for n in range(30)] + ["a", "a", "b", "b", "c", "c"])
    result = assign_folds(table, num_folds=5, seed=0)
    assert result.notes == ("Class crack has 3 groups in train and val: 2 of 5 folds go without it.",)
    assert sorted(np.bincount(result.fold[30:], minlength=5)) == [0, 0, 2, 2, 2]
    one = assign_folds(table_of(["good"] * 4 + ["crack"]), num_folds=2, seed=0)
    assert one.notes == ("Class crack has 1 group in train and val: 1 of 2 folds goes without it.",)


def test_of_many_classes_with_too_few_groups_one_sentence_tells():
    result = assign_folds(table_of(["good"] * 10 + [f"PN-{n:04}" for n in range(1200)]), num_folds=5, seed=0)
    assert result.notes == (
        "1,200 classes have fewer groups in train and val than data.num_folds=5: some folds go without "
        "PN-0000, PN-0001, PN-0002, PN-0003, PN-0004 and 1,195 others.",
    )


def test_more_folds_than_any_class_has_groups_are_refused_with_the_largest_number_that_works():
    table = table_of(["good"] * 4 + ["crack"] * 3)
    result = assign_folds(table, num_folds=5, seed=0)
    assert set(result.fold) == {-1}
    (note,) = result.notes
    assert re.search(r"data\.num_folds=5.*good, has 4\).*use at most 4, or 0 for none", note)
    assert set(assign_folds(table, num_folds=4, seed=0).fold) == {0, 1, 2, 3}
    (note,) = assign_folds(table_of(["good", "crack"]), num_folds=2, seed=0).notes
    assert "use 0, for none" in note


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 10_000), st.integers(2, 6))
def test_whatever_the_groups_none_is_in_two_folds_and_each_class_is_in_each(seed, num_folds):
    generator = np.random.default_rng(seed)
    part = generator.integers(0, 60, 150)
    part[:24] = np.arange(24)  # each class has eight parts at least
    label = np.array(["good", "crack", "pit"])[part % 3]
    label[24:][(generator.random(126) < 0.1) & (part[24:] >= 24)] = "good"
    table = table_of(label, [f"p{n:02d}" for n in part], generator.choice(["train", "train", "train", "val"], 150))
    fold = assign_folds(table, num_folds=num_folds, seed=seed).fold
    assert (table.assign(fold=fold).groupby("group")["fold"].nunique() == 1).all()
    assert (pd.crosstab(label, fold).to_numpy() > 0).all()
    assert set(fold) == set(range(num_folds))
    np.testing.assert_array_equal(assign_folds(table, num_folds=num_folds, seed=seed).fold, fold)
    order = generator.permutation(150)
    np.testing.assert_array_equal(assign_folds(table.iloc[order], num_folds=num_folds, seed=seed).fold, fold[order])


def test_another_seed_gives_other_folds():
    table = table_of(["good", "crack"] * 40)
    first, second = (assign_folds(table, num_folds=5, seed=seed).fold for seed in (0, 1))
    assert (first != second).any()
