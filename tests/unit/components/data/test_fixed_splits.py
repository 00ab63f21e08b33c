"""Splits that are settled beforehand: given ones stand, and images keep the split of an earlier manifest."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from components.data.fixed_splits import SPLITS
from components.data.splits import assign_splits
from components.errors import InputError

FRACTIONS = {"train": 0.6, "val": 0.1, "calibration": 0.15, "test": 0.15}


def table_of(label, group=None, split=None, sha256=None, **metadata):
    count = len(label)
    columns = {
        "label": label,
        "group": [f"g{n:05d}" for n in range(count)] if group is None else group,
        "split": pd.Series([None] * count if split is None else split, dtype=object),
        "sha256": [f"{n:064d}" for n in range(count)] if sha256 is None else sha256,
    }
    return pd.DataFrame(columns | {f"meta_{name}": values for name, values in metadata.items()})


def assign(table, *, seed=0, conflict="error", fractions=FRACTIONS, strata=(), earlier=None):
    return assign_splits(
        table,
        design="hold_out",
        fractions=fractions,
        seed=seed,
        conflict=conflict,
        strata=strata,
        earlier=earlier or {},
    )


def counts(table, splits):
    return pd.crosstab(table["label"], splits).reindex(columns=list(SPLITS), fill_value=0)


def test_given_splits_stand_under_all_their_names():
    label = ["good", "crack"] * 6
    given = ["Train", "training", "val", "valid", "validation", "VAL", "calibration", " calibration "]
    table = table_of(label, split=[*given, "test", "test", "train", "train"])
    expected = ["train"] * 2 + ["val"] * 4 + ["calibration"] * 2 + ["test"] * 2 + ["train"] * 2
    assert assign(table).split.tolist() == expected


def test_val_and_calibration_are_carved_out_of_train_and_never_out_of_test():
    label = ["good", "crack"] * 100
    split = ["train"] * 160 + ["test"] * 40
    table = table_of(label, split=split)
    splits = assign(table).split
    assert (splits[160:] == "test").all()
    found = counts(table, splits)
    # of 80 train images a class: 0.6, 0.1 and 0.15 of 0.85
    assert found.loc["good"].tolist() == pytest.approx([80 * 0.6 / 0.85, 80 * 0.1 / 0.85, 80 * 0.15 / 0.85, 20], abs=1)


def test_rows_without_a_split_fill_train_and_what_is_missing_but_not_a_given_test():
    label = ["good", "crack"] * 100
    split = ["test"] * 20 + [None] * 180
    table = table_of(label, split=split)
    splits = assign(table).split
    assert (splits == "test").sum() == 20
    assert set(splits[20:]) == {"train", "val", "calibration"}


def test_a_row_without_a_split_follows_its_group():
    group = ["a", "a"] + [f"g{n}" for n in range(38)]
    table = table_of(["good", "crack"] * 20, group, ["test", None] + (["train"] * 2 + ["test"] * 2) * 9 + ["train"] * 2)
    assert assign(table).split[1] == "test"


def test_given_train_rows_count_towards_the_share_of_train():
    table = table_of(["good", "crack"] * 100, split=["train"] * 120 + [None] * 80)
    splits = assign(table).split
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
    by_train = assign(fixed, conflict="train").split
    assert by_train[:5].tolist() == ["train"] * 5
    by_majority = assign(fixed, conflict="majority").split
    assert by_majority[:5].tolist() == ["test"] * 3 + ["train"] * 2  # a tie goes to train
    assert assign(fixed, conflict="majority").shortages[0] == (
        "The given splits tear 2 groups apart: 2 images went to another split than the given one, as "
        "data.split_conflict=majority says."
    )


def grown(old, **more):
    """The table with further rows, and the earlier splits of its first ones by digest."""
    splits = assign(old).split
    new = table_of(**more, sha256=[f"new{n}" for n in range(len(more["label"]))])
    return pd.concat([old, new], ignore_index=True), dict(zip(old["sha256"], splits, strict=True))


def test_known_images_keep_their_split_and_new_ones_fill_up_the_shares_of_all():
    old = table_of(["good", "crack"] * 100)
    table, earlier = grown(old, label=["good"] * 300 + ["crack"] * 60, group=[f"n{n}" for n in range(360)])
    result = assign(table, earlier=earlier, seed=5)
    assert result.split[:200].tolist() == list(earlier.values())
    found = counts(table, result.split)
    for label, total in (("good", 400), ("crack", 160)):
        for split, share in FRACTIONS.items():
            assert abs(found.loc[label, split] - share * total) < 1
    assert result.notes == ("200 images keep the split of data.earlier_manifest; 360 are new.",)


def test_new_images_first_go_where_the_earlier_splits_had_too_few():
    earlier = {f"{n:064d}": "train" for n in range(100)}
    table = table_of(["good", "crack"] * 100)
    found = counts(table, assign(table, earlier=earlier).split)
    assert found.loc["good"].tolist() == [60, 10, 15, 15]


def test_known_images_are_known_by_their_bytes_wherever_they_stand_now():
    old = table_of(["good", "crack"] * 50)
    earlier = dict(zip(old["sha256"], assign(old).split, strict=True))
    table = old.iloc[::-1].assign(group=[f"other{n}" for n in range(100)])
    assert assign(table, earlier=earlier, seed=9).split.tolist() == list(earlier.values())[::-1]


def test_a_new_image_follows_the_known_ones_of_its_group():
    old = table_of(["good", "crack"] * 50)
    table, earlier = grown(old, label=["good"] * 100, group=[f"g{n:05d}" for n in range(100)])
    split = assign(table, earlier=earlier).split
    assert split[100:].tolist() == split[:100].tolist()


def test_groups_that_merge_later_go_to_train_whole_and_this_is_said():
    old = table_of(["good", "crack"] * 50)
    earlier = dict(zip(old["sha256"], assign(old).split, strict=True))
    test, val = ([n for n, split in enumerate(earlier.values()) if split == name] for name in ("test", "val"))
    group = old["group"].where(~old.index.isin([test[0], val[0]]), "joined")
    result = assign(old.assign(group=group), earlier=earlier)
    assert set(result.split[[test[0], val[0]]]) == {"train"}
    assert result.notes[0] == "98 images keep the split of data.earlier_manifest; 0 are new."
    assert result.notes[1].startswith("1 group joins images of different earlier splits and went to train whole")
    assert "joined: val 1, test 1" in result.notes[1]


def test_a_given_split_goes_before_an_earlier_one_and_this_is_said():
    old = table_of(["good", "crack"] * 50)
    earlier = dict(zip(old["sha256"], assign(old).split, strict=True))
    train = [n for n, split in enumerate(earlier.values()) if split == "train"][:4]
    table = old.assign(split=old["split"].where(~old.index.isin(train), "test"))
    result = assign(table, earlier=earlier)
    assert set(result.split[train]) == {"test"}
    assert result.notes[0] == "96 images keep the split of data.earlier_manifest; 0 are new."
    assert result.notes[1].startswith("4 groups have another split in data.split_column than in data.earlier_manifest")


def test_what_was_carved_out_of_a_given_train_stays_and_what_is_new_fills_up():
    split = ["train"] * 160 + ["test"] * 40
    old = table_of(["good", "crack"] * 100, split=split)
    more = {"label": ["good", "crack"] * 80, "group": [f"n{n}" for n in range(160)]}
    for new in (["train"] * 160, [None] * 160):
        table, earlier = grown(old, **more, split=new)
        result = assign(table, earlier=earlier, seed=3)
        assert result.split[:200].tolist() == list(earlier.values())
        # of 160 images a class outside test: 0.6, 0.1 and 0.15 of 0.85
        expected = [160 * 0.6 / 0.85, 160 * 0.1 / 0.85, 160 * 0.15 / 0.85, 20]
        assert counts(table, result.split).loc["good"].tolist() == pytest.approx(expected, abs=1)
        assert len(result.notes) == 1


def test_a_split_that_loses_a_class_by_a_merger_is_refused_with_the_way_out():
    old = table_of(["good"] * 40 + ["crack"] * 4)
    earlier = dict(zip(old["sha256"], assign(old).split, strict=True))
    split = np.array(list(earlier.values()))
    cracks = 40 + np.flatnonzero(np.isin(split[40:], ["val", "test"]))
    table = old.assign(group=old["group"].where(~old.index.isin(cracks), "joined"))
    with pytest.raises(InputError) as caught:
        assign(table, earlier=earlier)
    assert "class crack has 0 groups left: it cannot be in 2 splits (val, test)" in str(caught.value)
    assert "leave data.earlier_manifest out" in str(caught.value)


def test_an_earlier_manifest_of_other_images_is_said_to_be_of_no_use():
    table = table_of(["good", "crack"] * 20)
    result = assign(table, earlier={"elsewhere": "test"})
    assert result.split.tolist() == assign(table).split.tolist()
    assert result.notes == ("None of the images of data.earlier_manifest is here: all splits were drawn anew.",)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10_000))
def test_known_images_never_move_unless_their_groups_merge(seed):
    generator = np.random.default_rng(seed)
    group = generator.integers(0, 60, 150)
    old = table_of(np.where(group < 40, "good", "crack"), [f"p{n:03d}" for n in group])
    earlier = dict(zip(old["sha256"], assign(old, seed=seed).split, strict=True))
    # Some images are gone, some are new (in old groups and in new ones), and some old groups are one now.
    kept = old[generator.random(150) < 0.9]
    group = generator.integers(0, 90, 80)
    label = np.where((group < 40) | (group > 75), "good", "crack")
    new = table_of(label, [f"p{n:03d}" for n in group], sha256=[f"new{n}" for n in range(80)])
    table = pd.concat([kept, new], ignore_index=True)
    merged = {f"p{n:03d}": "merged" for n in generator.choice(60, 3, replace=False)}
    table["group"] = table["group"].replace(merged)
    try:
        split = assign(table, seed=seed + 1, earlier=earlier).split
    except InputError:  # a split has lost its last group of a class, and nothing new can stand in
        assume(False)
    table = table.assign(now=split, before=table["sha256"].map(earlier))
    assert (table.groupby("group")["now"].nunique() == 1).all()
    for _, rows in table.groupby("group"):
        before = set(rows["before"].dropna())
        if before:
            assert set(rows["now"]) == (before if len(before) == 1 else {"train"})
    assert (counts(table, split) > 0).all().all()
