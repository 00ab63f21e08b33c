"""The objective against hand counts, and what it answers where it is not defined."""

import math

import numpy as np
import pytest

from components.evaluation.objectives import (
    DECIDING,
    Objective,
    decision_metrics,
    objective_score,
    overkill_at_budget,
    saved_cost,
    score_of_images,
)

CLASSES = ("good", "pit", "scratch")


def named(name: str) -> Objective:
    return Objective(name=name, escape_budget=0.25, escape_cost=3.0, defect_rate=None)


def score(name: str, probabilities: list, labels: list, good=("good",)) -> float:
    return objective_score(
        named(name), np.log(np.maximum(probabilities, 1e-300)), np.array(labels), classes=CLASSES, good_classes=good
    )


# defect mass 0.2, 0.6, 0.5, 0.9; the third image is defective, and so is the fourth
FOUR = [[0.8, 0.1, 0.1], [0.4, 0.5, 0.1], [0.5, 0.2, 0.3], [0.1, 0.8, 0.1]]


def test_the_ranking_is_that_of_the_defect_mass() -> None:
    labels = [0, 0, 2, 1]
    # of the 2 × 2 pairs, one (0.5 against 0.6) stands the wrong way round
    assert score("auroc", FOUR, labels) == pytest.approx(3 / 4)
    # from the top: defect (1/1), good, defect (2/3)
    assert score("average_precision", FOUR, labels) == pytest.approx((1 + 2 / 3) / 2)


def test_several_classes_may_be_good() -> None:
    # with pit as a second good class the defect mass is that of scratch: 0.1, 0.1, 0.3, 0.1
    assert score("auroc", FOUR, [0, 0, 2, 1], good=("good", "pit")) == 1.0


def test_confusing_two_defects_costs_the_ranking_nothing() -> None:
    assert score("auroc", FOUR, [0, 0, 1, 2]) == score("auroc", FOUR, [0, 0, 2, 1])
    assert score("balanced_accuracy", FOUR, [0, 0, 1, 2]) != score("balanced_accuracy", FOUR, [0, 0, 2, 1])


def test_balanced_accuracy_is_the_mean_recall_of_the_likeliest_class() -> None:
    # predicted good, pit, good, pit; recall of good 1/2, of pit 1/1, of scratch 0/1
    assert score("balanced_accuracy", FOUR, [0, 0, 2, 1]) == pytest.approx((1 / 2 + 1 + 0) / 3)


@pytest.mark.parametrize("name", [*DECIDING, "balanced_accuracy"])
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_an_output_that_is_not_finite_has_no_score(name: str, value: float) -> None:
    assert math.isnan(score(name, [[value, 0, 0], *FOUR[1:]], [0, 0, 2, 1]))


@pytest.mark.parametrize("name", DECIDING)
@pytest.mark.parametrize("labels", [[0, 0, 0, 0], [1, 2, 1, 2]])
def test_one_kind_of_image_alone_has_no_score(name: str, labels: list[int]) -> None:
    assert math.isnan(score(name, FOUR, labels))


def test_one_class_alone_has_no_balanced_accuracy() -> None:
    assert math.isnan(score("balanced_accuracy", FOUR, [1, 1, 1, 1]))


def test_ties_are_worth_a_half() -> None:
    assert score("auroc", [[0.5, 0.5, 0], [0.5, 0, 0.5]], [0, 1]) == 0.5


@pytest.mark.parametrize("name", [*DECIDING, "balanced_accuracy"])
def test_the_score_of_some_images_is_that_of_a_set_that_holds_no_others(name: str) -> None:
    labels, some = np.array([0, 0, 2, 1]), np.array([3, 0, 0, 2])
    of = score_of_images(named(name), np.log(FOUR), labels, classes=CLASSES, good_classes=("good",))
    assert of(some) == score(name, [FOUR[n] for n in some], [int(labels[n]) for n in some])


# --- overkill at the escape budget


def split(defective: list[float], good: list[float]) -> tuple[np.ndarray, np.ndarray]:
    return np.array(defective + good), np.array([True] * len(defective) + [False] * len(good))


@pytest.mark.parametrize(
    ("budget", "expected"),
    [
        (0.10, 1 / 4),  # none of four may escape: the threshold is 0.2, and goods of 0.3, 0.5 and 0.7 are rejected
        (0.25, 2 / 4),  # one may: 0.4
        (0.49, 2 / 4),
        (0.50, 3 / 4),  # two may: 0.6
        (0.99, 1.0),  # three may: 0.8
    ],
)
def test_the_threshold_lets_as_many_escape_as_the_budget_allows(budget: float, expected: float) -> None:
    assert overkill_at_budget(*split([0.2, 0.4, 0.6, 0.8], [0.1, 0.3, 0.5, 0.7]), budget) == expected


def test_of_images_with_the_score_of_the_threshold_all_are_rejected() -> None:
    assert overkill_at_budget(*split([0.5, 0.9], [0.5, 0.5, 0.4]), 0.1) == pytest.approx(1 / 3)
    assert overkill_at_budget(*split([0.5, 0.5], [0.5, 0.1]), 0.5) == 1 / 2  # both defectives or none


def test_a_budget_that_is_a_whole_number_of_images_is_used_up() -> None:
    scores, is_defect = split([number / 100 for number in range(100)], [0.285])
    assert overkill_at_budget(scores, is_defect, 0.29) == 1.0  # 0.29 · 100 is a little below 29
    assert overkill_at_budget(scores, is_defect, 0.28) == 0.0


def test_the_objective_reads_its_budget() -> None:
    # defect mass 0.2 and 0.6 of the goods, 0.5 and 0.9 of the defectives; a quarter of two may not escape
    assert score("overkill_at_budget", FOUR, [0, 0, 2, 1]) == 1 / 2
    wide = Objective(name="overkill_at_budget", escape_budget=0.5, escape_cost=1.0, defect_rate=None)
    given = {"classes": CLASSES, "good_classes": ("good",)}
    assert objective_score(wide, np.log(FOUR), np.array([0, 0, 2, 1]), **given) == 1.0


def test_a_budget_is_needed() -> None:
    objective = Objective(name="overkill_at_budget", escape_budget=None, escape_cost=1.0, defect_rate=None)
    with pytest.raises(ValueError, match="needs an escape budget"):
        objective_score(objective, np.log(FOUR), np.array([0, 0, 2, 1]), classes=CLASSES, good_classes=("good",))


# --- cost


def test_the_cost_is_that_of_the_best_threshold_as_a_share_of_doing_without() -> None:
    """Three defectives of ten, an escape costs 3: accepting all costs 0.9 a part, rejecting all 0.7.

    The best threshold is 0.7: one of three escapes, 0.3 · 3 / 3, and no good is rejected. At 0.2, the next best, none
    escapes and five of seven goods are rejected, 0.7 · 5 / 7.
    """
    scores, is_defect = split([0.2, 0.7, 0.9], [0.1, 0.15, 0.3, 0.3, 0.4, 0.5, 0.6])
    assert saved_cost(scores, is_defect, escape_cost=3, defect_rate=None) == pytest.approx(1 - 0.3 / 0.7)


def test_the_rate_of_the_line_weighs_escapes_and_overkills() -> None:
    """At 0.1: an escape of three costs 0.1 · 3 / 3, an overkill of seven 0.9 / 7; accepting all costs 0.3."""
    scores, is_defect = split([0.2, 0.7, 0.9], [0.1, 0.15, 0.3, 0.3, 0.4, 0.5, 0.8])
    # at 0.7: one escape and one overkill; at 0.9: two escapes and no overkill
    expected = 1 - min(0.1 + 0.9 / 7, 0.2) / 0.3
    assert saved_cost(scores, is_defect, escape_cost=3, defect_rate=0.1) == pytest.approx(expected)


@pytest.mark.parametrize("escape_cost", [0.1, 1.0, 10.0])
def test_scores_that_say_nothing_save_nothing(escape_cost: float) -> None:
    assert saved_cost(*split([0.5, 0.5], [0.5, 0.5, 0.5]), escape_cost=escape_cost, defect_rate=None) == 0.0
    assert saved_cost(*split([0.1, 0.2], [0.8, 0.9]), escape_cost=escape_cost, defect_rate=None) == 0.0


@pytest.mark.parametrize("escape_cost", [0.1, 1.0, 10.0])
def test_a_perfect_ranking_saves_everything(escape_cost: float) -> None:
    assert saved_cost(*split([0.8, 0.9], [0.1, 0.2, 0.7]), escape_cost=escape_cost, defect_rate=0.01) == 1.0


def test_the_best_of_all_thresholds_is_found() -> None:
    generator = np.random.default_rng(0)
    for _ in range(20):
        scores, is_defect = generator.integers(0, 12, 40) / 12, generator.random(40) < 0.4
        costs = [
            0.2 * 5 * (scores[is_defect] < cut).mean() + 0.8 * (scores[~is_defect] >= cut).mean()
            for cut in np.linspace(-0.04, 1.04, 28)
        ]
        expected = 1 - min(costs) / 0.8  # rejecting all costs 0.8, accepting all 1
        assert saved_cost(scores, is_defect, escape_cost=5, defect_rate=0.2) == pytest.approx(expected)


def test_the_objective_reads_its_cost_and_its_rate() -> None:
    # goods 0.2 and 0.6, defectives 0.5 and 0.9: at 0.5 half of the goods are rejected, at 0.9 half escape
    assert score("cost", FOUR, [0, 0, 2, 1]) == pytest.approx(1 - 0.25 / 0.5)  # 3 · 0.5 of an escape is more
    rare = Objective(name="cost", escape_budget=None, escape_cost=3.0, defect_rate=0.1)
    found = objective_score(rare, np.log(FOUR), np.array([0, 0, 2, 1]), classes=CLASSES, good_classes=("good",))
    assert found == pytest.approx(1 - 0.15 / 0.3)  # an escape of two: 0.1 · 3 / 2; an overkill of two: 0.45


# --- metrics of the likeliest class


def test_decisions_are_those_of_the_likeliest_class() -> None:
    # good, crack, stain; logits say: good, crack (right), stain for a crack (still a defect), good for a stain
    logits = np.log(np.array([[0.8, 0.1, 0.1], [0.1, 0.8, 0.1], [0.1, 0.2, 0.7], [0.6, 0.1, 0.3], [0.3, 0.4, 0.3]]))
    labels = np.array([0, 1, 1, 2, 0])
    found = decision_metrics(logits, labels, classes=("good", "crack", "stain"), good_classes=("good",))
    assert found["accuracy"] == pytest.approx(2 / 5)
    assert found["balanced_accuracy"] == pytest.approx((1 / 2 + 1 / 2 + 0) / 3)
    assert found["sensitivity"] == pytest.approx(2 / 3)
    assert found["specificity"] == pytest.approx(1 / 2)
    # defect scores: goods .2 and .7; defects .9, .9, .4; five of the six pairs are in order
    assert found["auroc"] == pytest.approx(5 / 6)


def test_defect_types_without_a_good_class_have_accuracies_only() -> None:
    found = decision_metrics(np.eye(2), np.array([0, 1]), classes=("a", "b"), good_classes=())
    assert found == {"accuracy": 1.0, "balanced_accuracy": 1.0}


def test_what_cannot_be_measured_is_nan() -> None:
    kinds = {"classes": ("good", "bad"), "good_classes": ("good",)}
    blown_up = decision_metrics(np.array([[0.0, math.inf]]), np.array([0]), **kinds)
    assert set(blown_up) == {"accuracy", "balanced_accuracy", "sensitivity", "specificity", "auroc"}
    assert all(math.isnan(value) for value in blown_up.values())
    one_class = decision_metrics(np.array([[1.0, 0.0]]), np.array([0]), **kinds)
    known = {name: value for name, value in one_class.items() if not math.isnan(value)}
    assert known == {"accuracy": 1.0, "specificity": 1.0}
