"""Global rate, its neighbourhood, and the ratios between layers: three levels, each with its length of training."""

import pytest

from components.errors import InputError
from components.search.samplers import build_sampler, winner
from components.search.space import Choice, Condition, Interval

RATE, DECAY, LAYERS, BATCH = "recipe.lr", "recipe.weight_decay", "recipe.layer_decay", "recipe.batch_size"
RATIOS = Choice(LAYERS, (0.75, 1.0, 0.9))
BATCHES = Choice(BATCH, (16, 32))


def best_at(u: float, **preferred: float):
    """Best at one place of the rate, and better by a little with each preferred coordinate."""

    def score(suggestion) -> float:
        point = suggestion.point
        return (
            0.9 - 0.1 * abs(point[RATE] - u) + 0.01 * sum(point.get(f"recipe.{k}") == v for k, v in preferred.items())
        )

    return score


def level(history, number: int) -> list:
    return [record.suggestion for record in history if record.suggestion.phase == f"level {number}"]


def test_each_level_trains_longer_than_the_one_before(lab) -> None:
    history = lab.search("hierarchical", lab.settings(lab.space(lab.rate, lab.decay, RATIOS, BATCHES)), best_at(0.4))
    assert [{s.epochs for s in level(history, i)} for i in (1, 2, 3)] == [{3}, {6}, {9}]
    # 15 trials: two fifths, the rest, three ratios and two more
    assert [len(level(history, i)) for i in (1, 2, 3)] == [6, 4, 5]


def test_no_level_is_shorter_than_the_grace_period(lab) -> None:
    history = lab.search("hierarchical", lab.settings(lab.space(lab.rate), 16, grace_epochs=7), best_at(0.4))
    assert [{s.epochs for s in level(history, i)} for i in (1, 2, 3)] == [{7}, {7}, {9}]


def test_the_first_level_is_a_grid_of_rates_for_each_batch_size_and_leaves_the_rest_at_the_defaults(lab) -> None:
    history = lab.search("hierarchical", lab.settings(lab.space(lab.rate, lab.decay, RATIOS, BATCHES)), best_at(0.4))
    first = level(history, 1)
    assert [(s.point[BATCH], s.point[RATE]) for s in first] == [
        (batch, pytest.approx(u)) for batch in (0, 1) for u in (1 / 6, 1 / 2, 5 / 6)
    ]
    assert {s.overrides[LAYERS] for s in first} == {1.0}
    assert [s.overrides[DECAY] for s in first] == pytest.approx([1e-3] * 6)


def test_a_default_that_its_dimension_does_not_hold_is_left_alone_at_first(lab) -> None:
    space = lab.space(lab.rate, lab.decay, **{DECAY: 0.0})
    history = lab.search("hierarchical", lab.settings(space, 31), lambda s: best_at(0.4)(s) if s.point else 0.1)
    assert all(DECAY not in s.overrides for s in level(history, 1))
    assert 0.5 in [s.point.get(DECAY) for s in level(history, 2)]


def test_the_second_level_comes_closer_from_half_a_decade_to_an_eighth(lab) -> None:
    # two decades of rates, 30 trials: 12 rates; 12 trials for the second level, of which it needs 8; the rest
    history = lab.search("hierarchical", lab.settings(lab.space(lab.rate, **{RATE: 1e-5}), 31), best_at(0.39))
    assert [s.point[RATE] for s in level(history, 1)] == pytest.approx([(i + 0.5) / 12 for i in range(12)])
    best = 4.5 / 12
    assert [s.point[RATE] for s in level(history, 2)] == pytest.approx(
        [best, 5.5 / 12, best - 1 / 4, best + 1 / 4, best - 1 / 8, best + 1 / 8, best - 1 / 16, best + 1 / 16]
    )


def test_the_weight_decay_moves_with_the_rate(lab) -> None:
    history = lab.search("hierarchical", lab.settings(lab.space(lab.rate, lab.decay), 31), best_at(0.375))
    second = [(s.point[RATE], s.point[DECAY]) for s in level(history, 2)]
    best = max(level(history, 1), key=best_at(0.375)).point[RATE]
    assert second[2:6] == [
        (pytest.approx(best - 0.25), 0.5),
        (pytest.approx(best + 0.25), 0.5),
        (best, 0.25),
        (best, 0.75),
    ]


def test_choices_of_the_weight_decay_are_tried_one_by_one(lab) -> None:
    choices = Choice(DECAY, (1e-4, 1e-3, 1e-2))
    history = lab.search("hierarchical", lab.settings(lab.space(lab.rate, choices), 31), best_at(0.4, weight_decay=2))
    assert {s.point[DECAY] for s in level(history, 1)} == {1}
    assert {s.point[DECAY] for s in level(history, 2)} == {0, 1, 2}
    assert {s.point[DECAY] for s in level(history, 3)} == {2}


def test_the_third_level_tries_every_ratio_at_the_best_rate_and_then_the_rate_again(lab) -> None:
    history = lab.search("hierarchical", lab.settings(lab.space(lab.rate, RATIOS)), best_at(0.5, layer_decay=2))
    best = max(level(history, 2), key=best_at(0.5)).point[RATE]
    third = [(s.point[LAYERS], s.point[RATE]) for s in level(history, 3)]
    assert third[:3] == [(1, best), (0, best), (2, best)]
    assert third[3:] == [(2, pytest.approx(best - 0.125)), (2, pytest.approx(best + 0.125))]


def test_an_interval_of_ratios_is_tried_at_the_usual_ones_that_it_holds(lab) -> None:
    ratios = Interval(LAYERS, 0.7, 1.0, log=False)
    history = lab.search("hierarchical", lab.settings(lab.space(lab.rate, ratios)), best_at(0.5))
    assert [s.overrides[LAYERS] for s in level(history, 3)[:3]] == pytest.approx([1.0, 0.9, 0.75])


def test_a_dimension_is_not_searched_where_its_condition_does_not_hold(lab) -> None:
    ratios = Choice(LAYERS, (1.0, 0.9), when=(Condition(BATCH, (16,)),))
    space = lab.space(lab.rate, ratios, BATCHES)
    history = lab.search("hierarchical", lab.settings(space, 31), best_at(0.5, batch_size=1))
    assert all((LAYERS in r.suggestion.point) == (r.suggestion.point[BATCH] == 0) for r in history[1:])
    assert {s.point[BATCH] for s in level(history, 3)} == {1}


def test_a_level_waits_for_the_one_before_it(lab) -> None:
    settings = lab.settings(lab.space(lab.rate))
    history = lab.search("hierarchical", settings, best_at(0.4))[:7]
    sampler = build_sampler("hierarchical", settings)
    history[4].status = "running"
    assert sampler.suggest(7, history) == "wait"
    history[4].status = "failed"
    assert sampler.suggest(7, history).phase == "level 2"


def test_a_search_that_goes_on_is_the_same_search(lab) -> None:
    settings = lab.settings(lab.space(lab.rate, lab.decay, RATIOS, BATCHES), 24)
    searches = [lab.search("hierarchical", settings, best_at(0.4), rebuilt=rebuilt) for rebuilt in (False, True)]
    assert searches[0] == searches[1]


@pytest.mark.parametrize("max_epochs", [1, 2])
def test_where_levels_are_of_one_length_nothing_is_tried_twice(lab, max_epochs: int) -> None:
    settings = lab.settings(lab.space(lab.rate, lab.decay), 20, max_epochs=max_epochs)
    history = lab.search("hierarchical", settings, best_at(0.4))
    made = [(tuple(sorted(r.suggestion.point.items())), r.suggestion.epochs) for r in history]
    assert len(set(made)) == len(made)


def test_short_trials_never_win_whatever_their_score(lab) -> None:
    history = lab.search("hierarchical", lab.settings(lab.space(lab.rate)), lambda s: 0.9 - 0.05 * s.epochs)
    assert history[winner("hierarchical", history)].suggestion.epochs == 9


def test_a_search_in_which_everything_diverged_ends_after_its_first_level(lab) -> None:
    history = lab.search("hierarchical", lab.settings(lab.space(lab.rate)), lambda s: None)
    assert [r.suggestion.phase for r in history[1:]] == ["level 1"] * 6


def test_a_space_without_an_interval_for_the_rate_is_refused(lab) -> None:
    for dimensions in ((lab.decay,), (Choice(RATE, (1e-4, 1e-3)),)):
        with pytest.raises(InputError, match=r"searches recipe\.lr, and search\.space has no interval for it; add one"):
            build_sampler("hierarchical", lab.settings(lab.space(*dimensions)))


def test_other_dimensions_are_refused_by_name(lab) -> None:
    space = lab.space(lab.rate, lab.optimizer, Choice("recipe.loss", ("focal",)), **{"recipe.loss": "focal"})
    with pytest.raises(InputError, match=r"search\.space also has recipe\.loss, recipe\.optimizer; remove .* hybrid"):
        build_sampler("hierarchical", lab.settings(space))


def test_batch_sizes_have_to_be_choices(lab) -> None:
    with pytest.raises(InputError, match=r"recipe\.batch_size: .* needs choices of batch sizes"):
        build_sampler("hierarchical", lab.settings(lab.space(lab.rate, Interval(BATCH, 16, 64, log=True))))


@pytest.mark.parametrize(("batches", "needed"), [((), 5), ((16, 32, 64), 9)])
def test_too_few_trials_are_refused_with_the_number_that_is_needed(lab, batches, needed: int) -> None:
    space = lab.space(lab.rate, *([Choice(BATCH, batches)] if batches else []))
    with pytest.raises(InputError, match=rf"search\.num_trials={needed - 1} is too few .* set it to {needed} at least"):
        build_sampler("hierarchical", lab.settings(space, needed - 1))
    history = lab.search("hierarchical", lab.settings(space, needed), best_at(0.5))
    assert [len(level(history, i)) > 0 for i in (1, 2, 3)] == [True] * 3


def test_a_search_of_the_defaults_alone_is_done_at_once(lab) -> None:
    assert build_sampler("hierarchical", lab.settings(lab.space(lab.rate), 1)).suggest(1, []) == "done"
