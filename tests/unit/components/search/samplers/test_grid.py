"""The grid, coarse to fine, and its cross-validation."""

from itertools import pairwise

import pytest

from components.errors import InputError
from components.search.samplers import build_sampler, winner
from components.search.samplers.grid import points_per_interval
from components.search.samplers.points import choice_points
from components.search.space import Choice, Condition, Interval

RATE = "recipe.lr"
MOMENTUM = Interval("recipe.momentum", 0.5, 0.9, log=False, when=(Condition("recipe.optimizer", ("sgd",)),))


def best_at(u: float):
    return lambda s: 0.9 - abs(s.point.get(RATE, 0.5) - u)


def of_phase(history, phase: str) -> list:
    return [record for record in history if record.suggestion.phase == phase]


@pytest.mark.parametrize(
    ("most", "counts"),
    [
        (0, {RATE: 1, "recipe.weight_decay": 1}),
        (3, {RATE: 1, "recipe.weight_decay": 1}),
        (4, {RATE: 2, "recipe.weight_decay": 1}),  # two optimizers: 2 · 2
        (8, {RATE: 2, "recipe.weight_decay": 2}),
        (12, {RATE: 3, "recipe.weight_decay": 2}),
        (18, {RATE: 3, "recipe.weight_decay": 3}),
    ],
)
def test_the_rate_has_as_many_points_as_the_other_intervals_or_one_more(lab, most: int, counts) -> None:
    space = lab.space(lab.decay, lab.optimizer, lab.rate)
    assert points_per_interval(space, choice_points(space), most=most) == counts


def test_an_interval_counts_only_where_its_condition_holds(lab) -> None:
    space = lab.space(MOMENTUM, lab.optimizer, **{"recipe.momentum": 0.9})
    # one trial with AdamW, the others with SGD
    assert points_per_interval(space, choice_points(space), most=5) == {"recipe.momentum": 4}


def test_the_first_level_has_two_thirds_of_the_trials_in_the_middle_of_equal_cells(lab) -> None:
    history = lab.search("grid", lab.settings(lab.space(lab.rate, **{RATE: 1.0}), 10), best_at(0.4))
    rates = [record.suggestion.point[RATE] for record in of_phase(history, "grid 1")]
    assert rates == pytest.approx([1 / 12, 3 / 12, 5 / 12, 7 / 12, 9 / 12, 11 / 12])


def test_later_levels_halve_the_step_around_the_best_so_far(lab) -> None:
    history = lab.search("grid", lab.settings(lab.space(lab.rate, **{RATE: 1.0}), 10), best_at(0.45))
    # the best of the first level is 5/12, a step is 1/6; then 5/12 still; there is one trial left for the third level
    levels = [[r.suggestion.point[RATE] for r in of_phase(history, f"grid {level}")] for level in (2, 3)]
    assert levels == [pytest.approx([4 / 12, 6 / 12]), pytest.approx([9 / 24])]


def test_with_more_trials_a_step_is_divided_into_more_parts(lab) -> None:
    history = lab.search("grid", lab.settings(lab.space(lab.rate, **{RATE: 1.0}), 31), best_at(0.51))
    assert len(of_phase(history, "grid 1")) == 20
    # 10 left, two thirds of them are 6: three to each side
    rates = sorted(record.suggestion.point[RATE] for record in of_phase(history, "grid 2"))
    assert rates == pytest.approx([21 / 40 + part / 80 for part in (-3, -2, -1, 1, 2, 3)])


def test_of_one_point_the_next_level_goes_half_way_to_both_ends(lab) -> None:
    history = lab.search("grid", lab.settings(lab.space(lab.rate, **{RATE: 1.0}), 4), best_at(0.9))
    assert [record.suggestion.point[RATE] for record in history[1:]] == [0.25, 0.75, 0.5]  # and no end
    few = lab.search("grid", lab.settings(lab.space(lab.optimizer, lab.rate, **{RATE: 1.0}), 5), best_at(0.9))
    assert [record.suggestion.point[RATE] for record in few[1:]] == [0.5, 0.5, 0.25, 0.75]


def test_points_that_change_least_come_first_where_trials_are_few(lab) -> None:
    space = lab.space(lab.decay, lab.rate, **{RATE: 1.0})
    history = lab.search("grid", lab.settings(space, 7), best_at(0.3))  # four cells, and two more
    assert [r.suggestion.point for r in of_phase(history, "grid 2")] == [
        {"recipe.weight_decay": 0.25, RATE: 0.5},
        {"recipe.weight_decay": 0.5, RATE: 0.25},
    ]


def test_around_the_defaults_points_of_the_grid_are_not_tried_again(lab) -> None:
    # the defaults at 0.5, between the best of six points: half a step from it are 5/12 and 7/12, which have been tried
    history = lab.search("grid", lab.settings(lab.space(lab.rate), 10), best_at(0.5))
    assert [r.suggestion.point[RATE] for r in history[7:]] == pytest.approx([11 / 24, 13 / 24, 23 / 48])


def test_the_defaults_are_a_point_like_others_and_not_tried_again(lab) -> None:
    # the middle of the rate's bounds, which is a point of the grid of three
    history = lab.search("grid", lab.settings(lab.space(lab.rate), 6), best_at(0.5))
    assert [record.suggestion.point[RATE] for record in history] == pytest.approx(
        [0.5, 1 / 6, 5 / 6, 1 / 3, 2 / 3, 5 / 12]
    )


def test_a_level_waits_for_the_one_before_it_and_for_the_defaults(lab) -> None:
    sampler = build_sampler("grid", lab.settings(lab.space(lab.rate), 10))
    history = [lab.record(0, {RATE: 0.5}, status="running")]
    while (suggestion := sampler.suggest(len(history), history)) != "wait":
        history.append(lab.record(len(history), suggestion.point, 0.5))
        assert suggestion.phase == "grid 1"
    assert len(history) == 7
    history[0], history[3].status = lab.record(0, {RATE: 0.5}, 0.9), "running"
    assert sampler.suggest(7, history) == "wait"
    history[3].status = "failed"
    assert sampler.suggest(7, history).phase == "grid 2"


def test_a_search_that_goes_on_is_the_same_search(lab) -> None:
    settings = lab.settings(lab.space(lab.optimizer, lab.rate, lab.decay), 40, folds=3)
    assert lab.search("grid", settings, best_at(0.3)) == lab.search("grid", settings, best_at(0.3), rebuilt=True)


def test_every_trial_is_used_and_none_repeated(lab) -> None:
    settings = lab.settings(lab.space(lab.optimizer, lab.rate, lab.decay), 40, folds=2)
    history = lab.search("grid", settings, best_at(0.3))
    assert len(history) == 40
    made = [(tuple(sorted(r.suggestion.point.items())), r.suggestion.fold) for r in history]
    assert len(set(made)) == 40
    assert all(0 < r.suggestion.point[RATE] < 1 for r in history)


def test_choices_alone_end_with_their_combinations(lab) -> None:
    space = lab.space(lab.optimizer, Choice("recipe.layer_decay", (1.0, 0.9)))
    history = lab.search("grid", lab.settings(space, 16), lambda s: 0.5)
    assert len(history) == 4  # the defaults are one of them
    assert build_sampler("grid", lab.settings(space, 16)).suggest(4, history) == "done"


def test_conditional_intervals_are_refined_only_where_they_are_searched(lab) -> None:
    space = lab.space(MOMENTUM, lab.optimizer, **{"recipe.momentum": 0.9})
    history = lab.search("grid", lab.settings(space, 10), lambda s: 0.5 + 0.1 * s.point["recipe.optimizer"])
    assert [record.suggestion.point for record in history if record.suggestion.point["recipe.optimizer"] == 0] == [
        {"recipe.optimizer": 0}
    ]
    assert all("recipe.momentum" in record.suggestion.point for record in history[1:])


def test_a_search_in_which_everything_diverged_ends_after_its_first_level(lab) -> None:
    history = lab.search("grid", lab.settings(lab.space(lab.rate), 16), lambda s: None)
    assert {record.suggestion.phase for record in history[1:]} == {"grid 1"}
    assert len(history) == 11
    assert winner("grid", history) is None


def test_the_best_two_points_and_the_defaults_are_tried_on_every_fold(lab) -> None:
    settings = lab.settings(lab.space(lab.rate, **{RATE: 1.0}), 16, folds=3)  # 6 points, and 9 trials on folds
    history = lab.search("grid", settings, best_at(0.4))
    assert [record.suggestion.fold for record in history[:7]] == [None] * 7
    on_folds = history[7:]
    assert [record.suggestion.fold for record in on_folds] == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    assert [record.suggestion.phase for record in on_folds[::3]] == ["fold 1", "fold 2", "fold 3"]
    assert {record.suggestion.seed for record in on_folds} == {0}
    tried = [record.suggestion.point.get(RATE) for record in on_folds]
    best = sorted(history[1:7], key=lambda record: -record.score)[:2]
    assert tried == [*(record.suggestion.point[RATE] for record in best), None] * 3


def test_the_folds_wait_for_the_last_level_and_then_run_side_by_side(lab) -> None:
    settings = lab.settings(lab.space(lab.rate, **{RATE: 1.0}), 16, folds=3)
    history = lab.search("grid", settings, best_at(0.4))[:7]
    sampler = build_sampler("grid", settings)
    history[6].status = "running"
    assert sampler.suggest(7, history) == "wait"
    history[6].status = "completed"
    for number in range(7, 16):
        suggestion = sampler.suggest(number, history)
        history.append(lab.record(number, suggestion.point, status="running", fold=suggestion.fold))
    assert {a.number - b.number for b, a in pairwise(history)} == {1}
    assert sampler.suggest(16, history) == "done"


def test_defaults_that_diverged_are_not_cross_validated(lab) -> None:
    settings = lab.settings(lab.space(lab.rate, **{RATE: 1.0}), 16, folds=3)
    history = lab.search("grid", settings, lambda s: 0.5 if s.point else None)
    assert [record.suggestion.fold for record in history[7:]] == [0, 0, 1, 1, 2, 2]


@pytest.mark.parametrize(
    ("num_trials", "folds", "needed"),
    [(2, 0, 3), (12, 5, 18), (17, 5, 18)],  # the defaults, two optimizers, and 5 · 3
)
def test_too_few_trials_are_refused_with_the_number_that_is_needed(lab, num_trials, folds, needed) -> None:
    space = lab.space(lab.optimizer, lab.rate)
    message = rf"search\.num_trials={num_trials} is too few .* set search\.num_trials to {needed} at least"
    with pytest.raises(InputError, match=message):
        build_sampler("grid", lab.settings(space, num_trials, folds=folds))
    build_sampler("grid", lab.settings(space, needed, folds=folds))


def test_choices_without_end_are_refused(lab) -> None:
    names = [f"k{i}" for i in range(6)]
    space = lab.space(*(Choice(name, tuple(range(10))) for name in names), **dict.fromkeys(names, 0))
    with pytest.raises(InputError, match="more than 100000 combinations of the choices; take choices out"):
        build_sampler("grid", lab.settings(space))


def test_a_search_of_the_defaults_alone_needs_no_grid(lab) -> None:
    assert build_sampler("grid", lab.settings(lab.space(lab.optimizer), 1, folds=5)).suggest(1, []) == "done"
