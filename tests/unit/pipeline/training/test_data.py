"""Splits, folds, batches and soft targets of the prepared images."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from small_data import CLASSES, cross_fitted, data, doubted, folded, weighed

from components.errors import InputError
from pipeline.sections.recipe import ModelConfig, Recipe, RecipeConfig
from pipeline.training import data as training
from pipeline.training.data import TrainingData


@pytest.mark.parametrize(("count", "expected"), [(799, 8), (800, 16), (1599, 16), (1600, 32), (100_000, 32)])
def test_the_fewer_images_teach_the_smaller_are_the_batches(count, expected) -> None:
    split = ["train"] * (count // 2) + ["val"] * (count - count // 2) + ["calibration", "test"] * 1000
    images = replace(data(), manifest=pd.DataFrame({"split": split}))

    def chosen(size: int | str) -> int | str:
        recipe = Recipe(model=ModelConfig(), recipe=RecipeConfig(batch_size=size))
        return training.with_batch_size(recipe, images).recipe.batch_size

    assert chosen("auto") == expected
    assert chosen(5) == 5


def test_the_probe_is_a_batch_of_validation_images_that_the_seed_draws() -> None:
    probe = training.held_out_batch(data(), size=64, seed=0)
    assert sorted(probe.images[:, 0, 0, 0].tolist()) == [8, 9]


def test_where_training_labels_are_doubted_all_splits_have_soft_targets() -> None:
    train, val = doubted().split("train"), doubted(val=0.5).split("val")
    assert train.targets is not None
    assert val.targets is not None
    assert train.targets[[0, 99]].tolist() == [[1, 0], [0.25, 0.75]]
    assert val.targets.tolist() == [[0.5, 0.5], [0.5, 0.5]]
    assert train.labels.tolist() == [0] * 80 + [1] * 20


def test_labels_that_are_certain_in_training_and_manifests_without_the_column_have_none() -> None:
    for images in (weighed(80, 20), doubted(1.0), doubted(1.0, val=0.5)):
        assert images.split("train").targets is images.split("val").targets is None
        assert training.held_out_batch(images, size=2, seed=0).targets is None


def test_a_good_image_that_is_doubted_may_be_a_defect_as_frequent_as_in_the_training_without_the_fold() -> None:
    classes = ("crack", "good", "pit")
    labels = ["good"] * 4 + ["crack"] * 6 + ["pit"] * 4
    manifest = pd.DataFrame({"label": labels, "split": "train", "pack_index": range(14), "confidence": 0.5})
    manifest["fold"] = [0, 1, 1, 1] + [0] * 3 + [1] * 3 + [0] * 3 + [1]
    images = TrainingData(manifest, np.zeros((14, 8, 8, 3), np.uint8), classes, ("good",))
    targets = training.fold_of(images, 0).split("train").targets  # three cracks, one pit
    assert targets is not None
    assert targets[0].tolist() == [0.375, 0.5, 0.125]
    assert targets[3].tolist() == [0.5, 0.5, 0]


@pytest.mark.parametrize(("fold", "val"), [(0, [0, 3, 6]), (1, [1, 4, 7]), (2, [2, 5])])
def test_a_fold_is_validated_on_and_the_others_of_train_and_val_are_trained_on(fold: int, val: list[int]) -> None:
    whole = folded()
    found = training.fold_of(whole, fold)
    assert found.split("val").indices.tolist() == val
    assert found.split("train").indices.tolist() == [n for n in range(8) if n not in val]
    assert found.split("test").indices.tolist() == [8, 9]
    assert whole.split("val").indices.tolist() == [6, 7]  # as it was


def test_a_fold_that_there_is_not_is_refused_with_the_remedy() -> None:
    with pytest.raises(InputError, match=r"no fold 3 \(they have 3\).*search\.folds"):
        training.fold_of(folded(), 3)
    without = TrainingData(folded().manifest.assign(fold=-1), folded().pack, CLASSES, ("good",))
    with pytest.raises(InputError, match=r"no fold 0 \(they have 0\)"):
        training.fold_of(without, 0)


def test_folds_count_where_nothing_is_held_out() -> None:
    assert cross_fitted().folds == 3
    assert folded().folds == 0
    assert training.fold_of(cross_fitted(), 1).folds == 0


def test_recipes_are_compared_on_the_first_fold_or_on_the_validation_split() -> None:
    assert training.for_selection(cross_fitted()).split("val").indices.tolist() == [0, 3, 6]
    assert training.for_selection(folded()).split("val").indices.tolist() == [6, 7]


def test_networks_are_trained_without_all_folds_or_the_last_ones_since_recipes_are_compared_on_the_first() -> None:
    data = cross_fitted()  # of three folds
    given = {None: [0, 1, 2], 3: [0, 1, 2], 2: [1, 2], 1: [2], 7: [0, 1, 2]}
    assert {networks: list(training.network_folds(data, networks)) for networks in given} == given
    assert not training.network_folds(folded(), None)


def test_where_nothing_is_held_out_the_monitors_probe_is_of_training_images() -> None:
    probe = training.held_out_batch(cross_fitted(), size=64, seed=0)
    assert sorted(probe.images[:, 0, 0, 0].tolist()) == list(range(8))
