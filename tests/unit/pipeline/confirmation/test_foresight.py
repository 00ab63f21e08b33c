"""Which difference a confirmation could show, and whether it is worth its trainings."""

import math

import pandas as pd
import pytest

from components.evaluation.expected_difference import Normal
from pipeline.confirmation.foresight import foresee, groups_by_kind
from pipeline.confirmation.prior import CORRELATION, SEED_SD


def rows(good: int, defective: int) -> pd.DataFrame:
    """Groups of two images each."""
    label = ["good"] * 2 * good + ["dent"] * 2 * defective
    return pd.DataFrame(
        {
            "label": label,
            "is_defect": [name == "dent" for name in label],
            "group": [f"g{number // 2}" for number in range(len(label))],
        }
    )


BROAD = Normal(0.0, 0.05)


def foreseen(*held_out, expected=BROAD, replicates=2, objective="average_precision", score=0.8):
    return foresee(held_out, expected, replicates=replicates, objective=objective, score=score, confidence=0.9)


def test_the_detectable_difference_by_hand() -> None:
    variance = 2 * (1 - CORRELATION) * 0.16 / 40 + SEED_SD**2 / 2
    assert foreseen(rows(100, 40)).detectable == pytest.approx(1.28155 * math.sqrt(variance), rel=1e-4)


def test_folds_add_up_to_their_images() -> None:
    whole, parts = foreseen(rows(100, 40)), foreseen(rows(50, 20), rows(50, 20))
    assert parts.detectable == pytest.approx(whole.detectable)
    assert "100 good" in parts.statement


def test_it_is_worthwhile_where_it_could_detect_what_the_search_can_hope_for() -> None:
    before = foreseen(rows(100, 40), expected=Normal(0.0, 0.5))
    assert before.worthwhile
    assert before.possible_gain == 1.0
    hopeless = foreseen(rows(100, 40), expected=Normal(0.0, 0.001))
    assert not hopeless.worthwhile
    assert f"a measured difference of {before.detectable:.4f} in average_precision would be certain" in before.statement
    assert hopeless.statement.endswith("the winner may gain 0.0020.")


@pytest.mark.parametrize("held_out", [rows(10, 0), rows(0, 10)])
def test_images_of_one_kind_detect_nothing(held_out) -> None:
    before = foreseen(held_out)
    assert (before.detectable, before.worthwhile) == (None, False)
    assert "no difference (too few images) in" in before.statement


def test_a_fold_without_a_rare_class_can_tell_recipes_apart_too() -> None:
    rare = rows(20, 10)
    rare.loc[rare["group"] == "g0", "label"] = "scratch"
    before = foreseen(rare, rows(20, 10), objective="balanced_accuracy")
    assert before.detectable is not None
    assert "20 dent, 39 good, 1 scratch" in before.statement


def test_images_of_a_group_count_as_one() -> None:
    assert groups_by_kind(rows(3, 2), "auroc") == {"good": 3, "defective": 2}
    assert groups_by_kind(rows(3, 2), "balanced_accuracy") == {"good": 3, "dent": 2}
