"""Which images are embedded."""

import numpy as np
import pytest

from pipeline.embedding.images import choose_images


@pytest.mark.parametrize("folds", [4, 0])
def test_all_but_those_of_the_test_split(made, folds: int) -> None:
    data = made(folds=folds)
    chosen = choose_images(data, most=10_000, several=False, seed=0)
    assert chosen.available == len(chosen) == (data.manifest["split"] != "test").sum()
    assert not (data.manifest["split"].to_numpy()[chosen.rows] == "test").any()
    labels = [data.classes[label] for label in chosen.images.labels]
    assert labels == data.manifest["label"].to_numpy()[chosen.rows].tolist()
    np.testing.assert_array_equal(chosen.images.indices, data.manifest["pack_index"].to_numpy()[chosen.rows])


def test_candidates_are_compared_on_all_folds_or_on_val(made) -> None:
    crossed = choose_images(made(folds=4), most=10_000, several=False, seed=0)
    assert crossed.folds is not None
    assert set(crossed.folds) == {0, 1, 2, 3}
    assert crossed.compared.all()
    several = choose_images(made(folds=4), most=10_000, several=True, seed=0)
    assert several.folds is not None
    np.testing.assert_array_equal(several.compared, several.folds == 0)
    held_out = choose_images(made(folds=0), most=10_000, several=False, seed=0)
    assert held_out.folds is None
    assert set(held_out.splits[held_out.compared]) == {"val"}


def test_a_sample_keeps_groups_whole_and_both_classes(made) -> None:
    data = made(parts=60)
    chosen = choose_images(data, most=70, several=False, seed=0)
    assert chosen.available > 70 >= len(chosen) > 50
    taken = data.manifest.iloc[chosen.rows]
    assert taken.groupby("group").size().eq(3).all()
    assert taken["label"].value_counts().min() > 20
    np.testing.assert_array_equal(chosen.rows, choose_images(data, most=70, several=False, seed=0).rows)


def test_without_folds_only_train_is_sampled_since_val_and_calibration_are_needed_whole(made) -> None:
    data = made(parts=60, folds=0)
    split = data.manifest["split"].to_numpy()
    chosen = choose_images(data, most=30, several=False, seed=0)
    held_out = np.flatnonzero(np.isin(split, ("val", "calibration")))
    np.testing.assert_array_equal(chosen.rows[chosen.splits != "train"], held_out)
    assert 30 >= (chosen.splits == "train").sum() > 20
    assert chosen.available == (split != "test").sum()
    assert (np.diff(chosen.rows) > 0).all()
    np.testing.assert_array_equal(chosen.splits, split[chosen.rows])
