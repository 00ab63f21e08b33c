"""The budget that so many defectives certify, by hand: 0.95 → 59 for 5 % (ln .05 / ln .95 = 58.4)."""

import numpy as np
import pandas as pd
import pytest

from pipeline.config import Config
from pipeline.init.evidence import certifiable


def table(defects, *, groups=None, split=None):
    """That many defective images, and as many good ones."""
    count = 2 * defects
    return pd.DataFrame(
        {
            "path": [f"{number}.png" for number in range(count)],
            "group": groups if groups is not None else [None] * count,
            "split": split if split is not None else [None] * count,
        },
        dtype=object,
    ), np.arange(count) < defects


@pytest.fixture
def unsearched():
    """A configuration in which nothing is chosen on images that certify."""
    config = Config()
    return config.model_copy(update={"search": config.search.model_copy(update={"num_trials": 0})})


def test_all_but_the_test_split_certify(unsearched):
    found = certifiable(*table(100), unsearched)
    # 15 of 100 are test. Without a miss 85 prove 1 − .05 ** (1 / 85) = 3.5 %.
    assert (found.unit, found.defects, found.test, found.certify, found.budget) == ("image", 100, 15, 85, 0.05)
    assert found.needed(0.05) == 59
    assert found.least == pytest.approx(0.0346, abs=1e-4)


def test_a_search_costs_a_fold_and_a_choice_of_two():
    found = certifiable(*table(100), Config())
    assert found.certify == 68  # four of five folds
    assert found.needed(0.05) == 72  # ln .025 / ln .95 = 71.9
    assert found.budget == 0.10


@pytest.mark.parametrize(("defects", "budget"), [(35, 0.10), (34, 0.15), (8, 0.40), (6, 0.50), (5, None)])
def test_fewer_defectives_prove_a_larger_budget_or_none(unsearched, defects, budget):
    # 29 prove 10 %, 19 prove 15 %, 6 prove 40 %, 5 prove 50 %; of 35, 34, 8, 6 and 5 there are 6, 6, 2, 1 and 1 test.
    assert certifiable(*table(defects), unsearched).budget == budget


def test_images_of_a_part_count_as_one(unsearched):
    groups = [f"part{number // 10}" for number in range(200)]
    found = certifiable(*table(100, groups=groups), unsearched)
    assert (found.unit, found.defects) == ("part", 10)


def test_images_of_given_splits_are_counted(unsearched):
    split = ["test" if number % 2 else "train" for number in range(200)]
    found = certifiable(*table(100, split=split), unsearched)
    assert (found.test, found.certify) == (50, 50)
    split = [("train", "Validation", "calibration", "test")[number % 4] for number in range(200)]
    found = certifiable(*table(100, split=split), unsearched)
    assert (found.test, found.certify) == (25, 25)  # held out: calibration alone


def test_a_gate_that_the_test_split_can_show(unsearched):
    # 60 defectives in test: without a miss the upper limit is 1 − .025 ** (1 / 60) = 6 %, so that 10 % can be shown.
    assert certifiable(*table(400), unsearched).gate is None
    # 15 in test: without a miss 22 %; a budget of 5 % allows one, upper limit 32 %.
    assert certifiable(*table(100), unsearched).gate == 0.35
