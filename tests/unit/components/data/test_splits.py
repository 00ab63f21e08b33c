"""Splits: no group crosses one, shares are met, given ones stand."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from components.data.splits import SPLITS, assign_splits
from components.errors import InputError

FRACTIONS = {"train": 0.6, "val": 0.1, "calibration": 0.15, "test": 0.15}


def table_of(label, group=None, split=None):
    count = len(label)
    return pd.DataFrame(
        {
            "label": label,
            "group": [f"g{n:05d}" for n in range(count)] if group is None else group,
            "split": pd.Series([None] * count if split is None else split, dtype=object),
        }
    )


def assign(table, *, seed=0, conflict="error", fractions=FRACTIONS):
    return assign_splits(table, fractions=fractions, seed=seed, conflict=conflict)


def counts(table, splits):
    return pd.crosstab(table["label"], splits).reindex(columns=list(SPLITS), fill_value=0)


def test_single_images_meet_the_fractions_within_one_image_per_class():
    table = table_of(["defective"] * 821 + ["functional"] * 1803)
    found = counts(table, assign(table))
    for label, total in (("defective", 821), ("functional", 1803)):
        for split, share in FRACTIONS.items():
            assert abs(found.loc[label, split] - share * total) < 1.0


def test_the_same_seed_gives_the_same_splits_in_any_order_of_the_rows():
    generator = np.random.default_rng(0)
    group = [f"p{value}" for value in generator.integers(0, 60, 200)]
    label = generator.choice(["good", "crack", "pit"], 200, p=[0.6, 0.3, 0.1])
    table = table_of(label, group)
    splits = assign(table)
    order = generator.permutation(200)
    np.testing.assert_array_equal(assign(table.iloc[order].reset_index(drop=True)), splits[order])
    assert (assign(table, seed=1) != splits).any()


def test_a_table_with_any_index_will_do():
    table = table_of(["good"] * 8 + ["crack"] * 8)
    np.testing.assert_array_equal(assign(table.set_index(np.arange(16) * 7)), assign(table))


def test_four_groups_are_enough_for_four_splits():
    table = table_of(["good"] * 40 + ["crack"] * 4)
    assert counts(table, assign(table)).loc["crack"].tolist() == [1, 1, 1, 1]


def test_three_groups_are_too_few_and_each_such_class_is_named():
    group = [f"g{n}" for n in range(40)] + ["c1", "c1", "c2", "c3", "d1"]
    table = table_of(["good"] * 40 + ["crack"] * 4 + ["dent"], group)
    with pytest.raises(InputError) as caught:
        assign(table)
    assert "class crack has 3 groups (of the same part or bytes) to spread: it cannot be in 4" in str(caught.value)
    assert "class dent has 1 group (" in str(caught.value)


def test_one_class_and_no_images_are_refused():
    for label in (["good"] * 20, []):
        with pytest.raises(InputError, match="nothing to tell apart"):
            assign(table_of(label))


@pytest.mark.parametrize(
    "fractions",
    [
        {"train": 0.7, "val": 0.1, "test": 0.2},
        {"train": 0.7, "val": 0.1, "calibration": 0.1, "test": 0.2},
        {"train": 0.8, "val": 0.0, "calibration": 0.1, "test": 0.1},
        {"train": 0.6, "val": 0.1, "calibration": 0.1, "exam": 0.2},
    ],
)
def test_faulty_fractions_are_refused(fractions):
    with pytest.raises(InputError, match=r"data\.splits"):
        assign(table_of(["good", "crack"] * 10), fractions=fractions)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10_000), st.integers(2, 5), st.integers(20, 120))
def test_whatever_the_groups_none_crosses_a_split_and_each_class_is_in_each(seed, classes, parts):
    generator = np.random.default_rng(seed)
    rows = []
    for part in range(parts):
        mixed = generator.random() < 0.2
        main = int(min(part // 4, classes - 1))  # four parts at least for each class
        for _ in range(int(generator.integers(1, 6))):
            label = int(generator.integers(classes)) if mixed and part > 4 * classes else main
            rows.append((f"class{label}", f"part{part}"))
    table = table_of([label for label, _ in rows], [group for _, group in rows])
    splits = assign(table, seed=seed)
    assert (pd.DataFrame({"group": table["group"], "split": splits}).groupby("group").nunique() == 1).all().all()
    assert (counts(table, splits) > 0).all().all()


def test_large_groups_stay_near_the_fractions():
    generator = np.random.default_rng(3)
    sizes = generator.integers(1, 15, 150)
    group = np.repeat([f"lot{n}" for n in range(150)], sizes)
    label = np.repeat(np.where(np.arange(150) % 3 == 0, "crack", "good"), sizes)
    table = table_of(label, group)
    found = counts(table, assign(table))
    for name in ("crack", "good"):
        shares = found.loc[name] / found.loc[name].sum()
        assert max(abs(shares[split] - FRACTIONS[split]) for split in SPLITS) < 0.03


def test_given_splits_stand_under_all_their_names():
    label = ["good", "crack"] * 6
    given = ["Train", "training", "val", "valid", "validation", "VAL", "calibration", " calibration "]
    table = table_of(label, split=[*given, "test", "test", "train", "train"])
    expected = ["train"] * 2 + ["val"] * 4 + ["calibration"] * 2 + ["test"] * 2 + ["train"] * 2
    assert assign(table).tolist() == expected


def test_val_and_calibration_are_carved_out_of_train_and_never_out_of_test():
    label = ["good", "crack"] * 100
    split = ["train"] * 160 + ["test"] * 40
    table = table_of(label, split=split)
    splits = assign(table)
    assert (splits[160:] == "test").all()
    found = counts(table, splits)
    # of 80 train images a class: 0.6, 0.1 and 0.15 of 0.85
    assert found.loc["good"].tolist() == pytest.approx([80 * 0.6 / 0.85, 80 * 0.1 / 0.85, 80 * 0.15 / 0.85, 20], abs=1)


def test_rows_without_a_split_fill_train_and_what_is_missing_but_not_a_given_test():
    label = ["good", "crack"] * 100
    split = ["test"] * 20 + [None] * 180
    table = table_of(label, split=split)
    splits = assign(table)
    assert (splits == "test").sum() == 20
    assert set(splits[20:]) == {"train", "val", "calibration"}


def test_a_row_without_a_split_follows_its_group():
    group = ["a", "a"] + [f"g{n}" for n in range(38)]
    table = table_of(["good", "crack"] * 20, group, ["test", None] + (["train"] * 2 + ["test"] * 2) * 9 + ["train"] * 2)
    assert assign(table)[1] == "test"


def test_given_train_rows_count_towards_the_share_of_train():
    table = table_of(["good", "crack"] * 100, split=["train"] * 120 + [None] * 80)
    splits = assign(table)
    assert (splits[:120] == "train").all()
    assert (splits == "train").sum() == pytest.approx(120, abs=2)


def test_an_unknown_split_name_is_refused():
    with pytest.raises(InputError, match=r"data\.split_column: unknown splits 'holdout'; use train, training"):
        assign(table_of(["good", "crack"] * 4, split=["holdout"] * 8))


@pytest.fixture
def torn():
    group = ["a", "a", "a", "b", "b"] + [f"g{n}" for n in range(40)]
    split = ["test", "test", "train", "train", "test"] + ["train"] * 30 + ["test"] * 10
    label = ["good", "good", "good", "crack", "crack"] + ["good", "crack"] * 20
    return table_of(label, group, split)


def test_a_group_torn_by_the_given_splits_is_an_error_that_names_the_key(torn):
    with pytest.raises(InputError) as caught:
        assign(torn)
    assert "data.split_conflict='error'" in str(caught.value)
    assert "tear 2 groups" in str(caught.value)
    assert "a: train 1, test 2; b: train 1, test 1" in str(caught.value)
    assert "train (the whole group" in str(caught.value)


def test_a_torn_group_goes_where_the_rule_says(torn):
    fixed = torn.assign(split=torn["split"].where(torn.index != 5, "val").where(torn.index != 6, "val"))
    fixed.loc[[7, 8], "split"] = "calibration"
    by_train = assign(fixed, conflict="train")
    assert by_train[:5].tolist() == ["train"] * 5
    by_majority = assign(fixed, conflict="majority")
    assert by_majority[:5].tolist() == ["test"] * 3 + ["train"] * 2  # a tie goes to train


def test_a_class_that_is_only_in_the_given_test_cannot_be_learned():
    label = ["good"] * 30 + ["good", "crack"] * 5
    table = table_of(label, split=["train"] * 20 + ["val"] * 5 + ["calibration"] * 5 + ["test"] * 10)
    with pytest.raises(InputError, match="no image of class crack is in train"):
        assign(table)


def test_train_only_good_and_test_of_both_cannot_be_carved():
    table = table_of(["good"] * 30 + ["good", "crack"] * 5, split=["train"] * 30 + ["test"] * 10)
    with pytest.raises(InputError, match="class crack has 0 groups"):
        assign(table)
