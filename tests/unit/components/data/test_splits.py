"""Splits: no group crosses one, every class has its share of each, and strata are spread, too."""

import re

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from components.data.fixed_splits import SPLITS
from components.data.splits import assign_folds, assign_splits, choose_design
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


def assign(table, *, design="hold_out", seed=0, conflict="error", fractions=FRACTIONS, strata=(), earlier=None):
    return assign_splits(
        table,
        design=design,
        fractions=fractions,
        seed=seed,
        conflict=conflict,
        strata=strata,
        earlier=earlier or {},
    )


def counts(table, splits):
    return pd.crosstab(table["label"], splits).reindex(columns=list(SPLITS), fill_value=0)


def test_single_images_meet_the_fractions_within_one_image_per_class():
    table = table_of(["defective"] * 821 + ["functional"] * 1803)
    found = counts(table, assign(table).split)
    for label, total in (("defective", 821), ("functional", 1803)):
        for split, share in FRACTIONS.items():
            assert abs(found.loc[label, split] - share * total) < 1.0


def test_the_same_seed_gives_the_same_splits_in_any_order_of_the_rows():
    generator = np.random.default_rng(0)
    group = [f"p{value}" for value in generator.integers(0, 60, 200)]
    label = generator.choice(["good", "crack", "pit"], 200, p=[0.6, 0.3, 0.1])
    table = table_of(label, group)
    splits = assign(table).split
    order = generator.permutation(200)
    np.testing.assert_array_equal(assign(table.iloc[order].reset_index(drop=True)).split, splits[order])
    assert (assign(table, seed=1).split != splits).any()


def test_a_table_with_any_index_will_do():
    table = table_of(["good"] * 8 + ["crack"] * 8)
    np.testing.assert_array_equal(assign(table.set_index(np.arange(16) * 7)).split, assign(table).split)


def test_four_groups_are_enough_for_four_splits():
    table = table_of(["good"] * 40 + ["crack"] * 4)
    assert counts(table, assign(table).split).loc["crack"].tolist() == [1, 1, 1, 1]


def test_three_groups_are_too_few_and_each_such_class_is_named():
    group = [f"g{n}" for n in range(40)] + ["c1", "c1", "c2", "c3", "d1"]
    table = table_of(["good"] * 40 + ["crack"] * 4 + ["dent"], group)
    with pytest.raises(InputError) as caught:
        assign(table).split
    wanted = "class crack has 3 groups: it cannot be in 4 splits (train, val, calibration, test)"
    assert wanted in str(caught.value)
    assert "class dent has 1 group: it" in str(caught.value)


def test_one_class_and_no_images_are_refused():
    for label in (["good"] * 20, []):
        with pytest.raises(InputError, match="nothing to tell apart"):
            assign(table_of(label))


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
    splits = assign(table, seed=seed).split
    assert (pd.DataFrame({"group": table["group"], "split": splits}).groupby("group").nunique() == 1).all().all()
    assert (counts(table, splits) > 0).all().all()


def test_large_groups_stay_near_the_fractions():
    generator = np.random.default_rng(3)
    sizes = generator.integers(1, 15, 150)
    group = np.repeat([f"lot{n}" for n in range(150)], sizes)
    label = np.repeat(np.where(np.arange(150) % 3 == 0, "crack", "good"), sizes)
    table = table_of(label, group)
    found = counts(table, assign(table).split)
    for name in ("crack", "good"):
        shares = found.loc[name] / found.loc[name].sum()
        assert max(abs(shares[split] - FRACTIONS[split]) for split in SPLITS) < 0.03


def test_a_class_that_is_only_in_the_given_test_cannot_be_learned():
    label = ["good"] * 30 + ["good", "crack"] * 5
    table = table_of(label, split=["train"] * 20 + ["val"] * 5 + ["calibration"] * 5 + ["test"] * 10)
    with pytest.raises(InputError, match="no image of class crack is in train"):
        assign(table).split


def test_train_only_good_and_test_of_both_cannot_be_carved():
    table = table_of(["good"] * 30 + ["good", "crack"] * 5, split=["train"] * 30 + ["test"] * 10)
    with pytest.raises(InputError, match="class crack has 0 groups"):
        assign(table).split


def test_many_short_classes_are_named_up_to_five():
    label = ["good"] * 10 + [f"type{n}" for n in range(8)]
    with pytest.raises(InputError) as caught:
        assign(table_of(label))
    assert "type4" in str(caught.value)
    assert "type5" not in str(caught.value)
    assert "and 3 more classes" in str(caught.value)


def test_a_class_that_shares_all_its_groups_with_a_rarer_one_may_not_fit():
    # Each group of dent has a crack in it: where the one goes, the other goes.
    group = [f"g{n}" for n in range(20)] + ["a", "a", "b", "b", "c", "c", "d", "d"]
    table = table_of(["good"] * 20 + ["crack", "dent"] * 4, group)
    found = counts(table, assign(table).split)
    assert found.loc["crack"].tolist() == found.loc["dent"].tolist() == [1, 1, 1, 1]


def test_metadata_is_spread_within_each_class():
    generator = np.random.default_rng(0)
    label = np.where(np.arange(600) < 500, "good", "crack")
    camera = generator.choice(["left", "right", None], 600, p=[0.5, 0.3, 0.2])
    lot = generator.choice([f"lot{n}" for n in range(8)], 600)
    table = table_of(label, camera=camera, lot=lot)
    even = assign(table, strata=("camera", "lot")).split
    for column in ("meta_camera", "meta_lot"):
        for (name, value), rows in table.fillna("none").groupby(["label", column]):
            for split, share in FRACTIONS.items():
                assert abs((even[rows.index] == split).sum() - share * len(rows)) < 3, (name, value, split)
    for name, total in (("good", 500), ("crack", 100)):
        for split, share in FRACTIONS.items():
            assert abs(((even == split) & (label == name)).sum() - share * total) < 2
    plain = assign(table).split
    crossed = [pd.crosstab(table["meta_lot"], split, normalize="index").std().max() for split in (plain, even)]
    assert crossed[1] < crossed[0] / 2


def test_a_stratum_that_cannot_be_spread_is_no_fault():
    table = table_of(["good"] * 40 + ["crack"] * 4, camera=[str(n) for n in range(44)])
    assert counts(table, assign(table, strata=("camera",)).split).loc["crack"].tolist() == [1, 1, 1, 1]


def test_an_unknown_metadata_column_is_refused_with_those_there_are():
    table = table_of(["good", "crack"] * 10, camera=["left"] * 20, lot=["a"] * 20)
    with pytest.raises(InputError, match=r"data\.stratify_columns=\['kamera'\].*use some of: camera, lot"):
        assign(table, strata=("kamera",))
    with pytest.raises(InputError, match="there is none"):
        assign(table[["label", "group", "split"]], strata=("kamera",))


def test_shares_that_large_groups_do_not_allow_are_said_with_numbers_and_the_group():
    group = [f"g{n}" for n in range(400)] + ["a"] * 30 + ["b", "c", "d"]
    result = assign(table_of(["good"] * 400 + ["crack"] * 33, group))
    assert result.split[400] == "train"
    assert result.notes == ()
    assert result.shortages == (
        "data.splits cannot be met with 4 groups for the 33 images of class crack: train 30 (91%, asked 60%), val 1 "
        "(3%, asked 10%), calibration 1 (3%, asked 15%), test 1 (3%, asked 15%). The largest group, a, has 30: add "
        "images of other parts, or split that group.",
    )
    assert assign(table_of(["good", "crack"] * 40)).shortages == ()


def test_a_lot_that_holds_nearly_all_is_said_once_for_all_images():
    group = ["A"] * 180 + [f"B{n}" for n in range(20)]
    result = assign(table_of(["crack" if n % 3 == 0 else "good" for n in range(200)], group))
    assert result.shortages == (
        "data.splits cannot be met with 21 groups for the 200 images: train 180 (90%, asked 60%), val 2 (1%, asked "
        "10%), calibration 9 (4%, asked 15%), test 9 (4%, asked 15%). The largest group, A, has 180: add images of "
        "other parts, or split that group.",
    )


def test_shares_within_an_image_of_what_was_asked_are_not_worth_a_word():
    table = table_of(["good"] * 800 + ["crack"] * 8)
    assert assign(table, fractions={"train": 0.6, "val": 0.15, "calibration": 0.1, "test": 0.15}).shortages == ()


def test_shares_beside_a_given_split_are_those_of_the_rest():
    group = ["A"] * 90 + [f"B{n}" for n in range(10)] + [f"T{n}" for n in range(34)]
    table = table_of(["crack", "good"] * 67, group, split=[None] * 100 + ["test"] * 34)
    (said,) = assign(table).shortages
    assert said.startswith(
        "data.splits cannot be met with 11 groups for the 100 images: train 90 (90%, asked 71% of what is not in a "
        "given split)"
    )


def test_the_two_splits_of_cross_fit_leave_no_rest():
    table = table_of(["crack", "good"] * 50, ["A"] * 90 + [f"B{n}" for n in range(10)])
    fractions = {"train": 0.2, "val": 0.1, "calibration": 0.1, "test": 0.6}
    (said,) = assign(table, design="cross_fit", fractions=fractions).shortages
    assert "asked 60%)" in said
    assert "given split" not in said


def test_many_classes_that_are_off_are_told_in_a_few_lines():
    label = ["good"] * 600 + [f"c{n}" for n in range(8) for _ in range(20)]
    group = [f"g{n}" for n in range(600)] + [f"c{n}-{max(0, k - 16)}" for n in range(8) for k in range(20)]
    said = assign(table_of(label, group)).shortages
    assert len(said) == 6
    assert said[-1] == "The shares of 3 more classes are far off, too."


@pytest.mark.timeout(300)  # seconds; hours if each group were compared with every other
def test_a_hundred_thousand_groups_meet_the_fractions():
    table = table_of(np.random.default_rng(0).choice(list("abcde"), 100_000, p=[0.5, 0.3, 0.1, 0.07, 0.03]))
    found = counts(table, assign(table).split)
    assert (found - np.outer(found.sum(axis=1), list(FRACTIONS.values()))).abs().to_numpy().max() < 1


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000))
def test_whatever_the_table_the_order_of_its_rows_does_not_matter(seed):
    generator = np.random.default_rng(seed)
    count = 120
    group = generator.integers(0, 50, count)
    label = np.where(group < 30, "good", "crack")
    mixed = generator.random(count) < 0.1
    label[mixed] = "dent"
    group[:4], label[:4] = np.arange(100, 104), "dent"
    table = table_of(label, [f"p{n}" for n in group], camera=generator.choice(["l", "r", None], count))
    splits = assign(table, seed=seed, strata=("camera",)).split
    order = generator.permutation(count)
    np.testing.assert_array_equal(assign(table.iloc[order], seed=seed, strata=("camera",)).split, splits[order])


def fold_rows(label, group=None, split=None):
    count = len(label)
    return pd.DataFrame(
        {
            "label": label,
            "group": [f"g{n:04d}" for n in range(count)] if group is None else group,
            "split": ["train"] * count if split is None else split,
        }
    )


def test_only_train_and_val_are_folded():
    table = fold_rows(
        ["good", "crack"] * 40, split=["train", "train", "val", "val", "calibration", "test"] * 13 + ["train"] * 2
    )
    fold = assign_folds(table, num_folds=5, design="hold_out", seed=0).fold
    assert fold.dtype == np.int64
    assert set(fold[table["split"].isin(["calibration", "test"])]) == {-1}
    assert set(fold[table["split"].isin(["train", "val"])]) == {0, 1, 2, 3, 4}


def test_no_folds_and_no_images_to_fold_give_none():
    assert (
        assign_folds(fold_rows(["good", "crack"] * 2), num_folds=0, design="hold_out", seed=0).fold.tolist() == [-1] * 4
    )
    assert assign_folds(fold_rows(["good"], split=["test"]), num_folds=5, design="hold_out", seed=0).fold.tolist() == [
        -1
    ]


def test_single_images_are_spread_within_one_image_per_class():
    table = fold_rows(["good"] * 83 + ["crack"] * 22)
    result = assign_folds(table, num_folds=5, design="hold_out", seed=0)
    found = pd.crosstab(table["label"], result.fold)
    assert sorted(found.loc["good"]) == [16, 16, 17, 17, 17]
    assert sorted(found.loc["crack"]) == [4, 4, 4, 5, 5]
    assert found.sum().tolist() == [21] * 5
    assert result.notes == ()


def test_a_class_with_fewer_groups_than_folds_is_said_to_be_absent_from_some():
    table = fold_rows(["good"] * 30 + ["crack"] * 6, [f"g{n}" for n in range(30)] + ["a", "a", "b", "b", "c", "c"])
    result = assign_folds(table, num_folds=5, design="hold_out", seed=0)
    assert result.notes == ("Class crack has 3 groups outside test: 2 of 5 folds go without it.",)
    assert sorted(np.bincount(result.fold[30:], minlength=5)) == [0, 0, 2, 2, 2]
    one = assign_folds(fold_rows(["good"] * 4 + ["crack"]), num_folds=2, design="hold_out", seed=0)
    assert one.notes == ("Class crack has 1 group outside test: 1 of 2 folds goes without it.",)


def test_of_many_classes_with_too_few_groups_one_sentence_tells():
    result = assign_folds(
        fold_rows(["good"] * 10 + [f"PN-{n:04}" for n in range(1200)]), num_folds=5, design="hold_out", seed=0
    )
    assert result.notes == (
        "1,200 classes have fewer groups outside test than there are folds (5): some folds go without "
        "PN-0000, PN-0001, PN-0002, PN-0003, PN-0004 and 1,195 others.",
    )


def test_more_folds_than_any_class_has_groups_are_refused_with_the_largest_number_that_works():
    table = fold_rows(["good"] * 4 + ["crack"] * 3)
    result = assign_folds(table, num_folds=5, design="hold_out", seed=0)
    assert set(result.fold) == {-1}
    (note,) = result.notes
    assert re.search(r"data\.num_folds=5.*good, has 4\).*use at most 4, or 0 for none", note)
    assert set(assign_folds(table, num_folds=4, design="hold_out", seed=0).fold) == {0, 1, 2, 3}
    (note,) = assign_folds(fold_rows(["good", "crack"]), num_folds=2, design="hold_out", seed=0).notes
    assert "use 0, for none" in note


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 10_000), st.integers(2, 6))
def test_whatever_the_groups_none_is_in_two_folds_and_each_class_is_in_each(seed, num_folds):
    generator = np.random.default_rng(seed)
    part = generator.integers(0, 60, 150)
    part[:24] = np.arange(24)  # each class has eight parts at least
    label = np.array(["good", "crack", "pit"])[part % 3]
    label[24:][(generator.random(126) < 0.1) & (part[24:] >= 24)] = "good"
    table = fold_rows(label, [f"p{n:02d}" for n in part], generator.choice(["train", "train", "train", "val"], 150))
    fold = assign_folds(table, num_folds=num_folds, design="hold_out", seed=seed).fold
    assert (table.assign(fold=fold).groupby("group")["fold"].nunique() == 1).all()
    assert (pd.crosstab(label, fold).to_numpy() > 0).all()
    assert set(fold) == set(range(num_folds))
    np.testing.assert_array_equal(assign_folds(table, num_folds=num_folds, design="hold_out", seed=seed).fold, fold)
    order = generator.permutation(150)
    np.testing.assert_array_equal(
        assign_folds(table.iloc[order], num_folds=num_folds, design="hold_out", seed=seed).fold, fold[order]
    )


def test_another_seed_gives_other_folds():
    table = fold_rows(["good", "crack"] * 40)
    first, second = (assign_folds(table, num_folds=5, design="hold_out", seed=seed).fold for seed in (0, 1))
    assert (first != second).any()


def cross_fit_folds(label, group=None, num_folds=5, seed=0):
    table = fold_rows(label, group).assign(is_defect=[name != "good" for name in label])
    return assign_folds(table, num_folds=num_folds, design="cross_fit", seed=seed)


def test_cross_fit_has_two_splits_and_a_fold_for_every_image_of_train():
    table = table_of(["good"] * 60 + ["crack"] * 20, [f"p{n}" for n in range(80)])
    split = assign_splits(
        table, design="cross_fit", fractions=FRACTIONS, seed=0, conflict="error", strata=(), earlier={}
    ).split
    assert set(split) == {"train", "test"}
    assert (split == "test").mean() == pytest.approx(FRACTIONS["test"], abs=0.02)
    table = table.assign(split=split, is_defect=table["label"] != "good")
    fold = assign_folds(table, num_folds=4, design="cross_fit", seed=0).fold
    assert set(fold[split == "train"]) == {0, 1, 2, 3}
    assert set(fold[split == "test"]) == {-1}


def test_cross_fit_counts_given_and_earlier_val_and_calibration_as_train():
    table = table_of(["good", "crack"] * 20, [f"p{n}" for n in range(40)]).assign(
        split=["train", "val", "calibration", "test"] * 10
    )
    split = assign_splits(
        table, design="cross_fit", fractions=FRACTIONS, seed=0, conflict="error", strata=(), earlier={}
    ).split
    assert split.tolist() == ["train", "train", "train", "test"] * 10


@pytest.mark.parametrize(
    ("split", "images", "design"),
    [
        ([None], 100, "cross_fit"),
        ([None], 23_529, "cross_fit"),
        ([None], 23_531, "hold_out"),  # 15 % are test
        (["train", "test"], 40_000, "cross_fit"),
        (["train", "test"], 40_002, "hold_out"),
        (["train", "val", "test", "calibration"], 100, "hold_out"),
        (["train", "validation", None], 100, "hold_out"),
    ],
)
def test_the_design_follows_from_given_splits_and_the_number_of_images(split, images, design):
    column = pd.Series((split * images)[:images], dtype=object)
    assert choose_design(column, test_fraction=0.15) == design


def test_cross_fit_has_fewer_folds_where_a_fold_would_lack_a_kind():
    result = cross_fit_folds(["good"] * 30 + ["crack"] * 3)
    assert sorted(np.bincount(result.fold[30:])) == [1, 1, 1]
    assert result.notes == (
        "There are 3 folds instead of data.num_folds=5: with more, a fold would have no defective image (3 groups).",
    )


def test_cross_fit_has_fewer_folds_where_a_class_would_be_in_one_fold_only(monkeypatch):
    def together(labels, groups, folds, *, seed):
        fold = np.arange(len(labels)) % folds
        return np.where((labels == "hole") & (folds > 3), 0, fold)

    monkeypatch.setattr("components.data.splits.draw_folds", together)
    result = cross_fit_folds(["good"] * 30 + ["crack"] * 12 + ["hole"] * 2)
    assert result.notes[0] == (
        "There are 3 folds instead of data.num_folds=5: with more, all images of class hole would be in one fold."
    )


def test_cross_fit_leaves_each_training_images_of_every_class():
    result = cross_fit_folds(["good"] * 30 + ["crack"] * 12 + ["hole"] * 2)
    assert set(result.fold) == {0, 1, 2, 3, 4}
    assert result.fold[-1] != result.fold[-2]
    assert result.notes == ("Class hole has 2 groups outside test: 3 of 5 folds go without it.",)


def test_cross_fit_is_refused_where_a_class_has_one_group():
    with pytest.raises(InputError, match=r"two folds.*few groups: hole \(1 group\); add images of other parts"):
        cross_fit_folds(["good"] * 30 + ["crack"] * 12 + ["hole"] * 2, [f"g{n}" for n in range(42)] + ["h", "h"])
    with pytest.raises(InputError, match=r"data\.num_folds=0: data\.design=cross_fit needs folds"):
        cross_fit_folds(["good", "crack"] * 4, num_folds=0)
