"""The Lipschitz bandit over the learning rate."""

import numpy as np
import pytest

from components.errors import InputError
from components.search.samplers import build_sampler, winner
from components.search.samplers.lipschitz import best_arm
from components.search.space import Choice, Condition, Interval
from components.search.trial import Suggestion

RATE = "recipe.lr"


def cliff(s: Suggestion) -> float | None:
    """A bump at 0.6 that ends in divergence at 0.8, with noise that depends on the seed alone."""
    u = s.point[RATE]
    noise = 0.01 * float(np.random.default_rng([s.seed, int(u * 1e6)]).standard_normal())
    return None if u > 0.8 else 0.9 - 0.8 * (u - 0.6) ** 2 + noise


def flat(s: Suggestion) -> float:
    """Hardly better in the middle than elsewhere: what there is to find out takes repetitions."""
    return 0.9 - 0.02 * (s.point[RATE] - 0.5) ** 2


def test_it_finds_the_bump_beside_the_cliff(lab) -> None:
    for seed in range(5):
        settings = lab.settings(lab.space(lab.rate), 12, seed=seed)
        history = lab.search("lipschitz", settings, cliff)
        found = history[winner("lipschitz", history)].suggestion.point[RATE]
        assert abs(found - 0.6) < 0.15


def test_a_search_that_goes_on_is_the_same_search(lab) -> None:
    settings = lab.settings(lab.space(lab.rate), 12)
    assert lab.search("lipschitz", settings, cliff) == lab.search("lipschitz", settings, cliff, rebuilt=True)


def test_a_repetition_is_the_same_point_from_a_seed_that_it_has_not_had(lab) -> None:
    history = lab.search("lipschitz", lab.settings(lab.space(lab.rate), 24), flat)
    seeds: dict[float, list[int]] = {}
    for record in history:
        seeds.setdefault(record.suggestion.point[RATE], []).append(record.suggestion.seed)
        if record.number:
            assert record.suggestion.phase == ("repeat" if record.suggestion.seed else "zoom")
    assert max(map(len, seeds.values())) > 1
    assert all(tried == list(range(len(tried))) for tried in seeds.values())


def test_the_defaults_are_an_arm_like_others_and_may_be_repeated(lab) -> None:
    settings = lab.settings(lab.space(lab.rate), 8)
    others = [lab.record(i, {RATE: i / 8}, 0.9) for i in (1, 2, 3, 5, 6, 7)]
    suggestion = build_sampler("lipschitz", settings).suggest(7, [lab.record(0, {RATE: 0.5}, 0.91), *others])
    assert (suggestion.point, suggestion.seed, suggestion.phase) == ({RATE: 0.5}, 1, "repeat")


def test_a_failed_trial_is_no_score_but_its_seed_is_used_up(lab) -> None:
    settings = lab.settings(lab.space(lab.rate), 8)
    failed = build_sampler("lipschitz", settings).suggest(1, [lab.record(0, {})])
    history = [lab.record(0, {}, status="failed"), lab.record(1, failed.point, status="failed")]
    again = build_sampler("lipschitz", settings).suggest(2, history)
    assert (failed.point, failed.seed) == ({RATE: 0.5}, 0)
    assert (again.point, again.seed) == ({RATE: 0.5}, 1)


def test_only_final_scores_count(lab) -> None:
    settings = lab.settings(lab.space(lab.rate), 8)
    complete = [lab.record(0, {RATE: 0.5}, 0.8), lab.record(1, {RATE: 0.1}, 0.6)]
    stopped = lab.record(2, {RATE: 0.9}, 0.99, status="stopped", at=1)
    with_it = build_sampler("lipschitz", settings).suggest(3, [*complete, stopped])
    assert with_it.point == build_sampler("lipschitz", settings).suggest(3, complete).point


def test_it_keeps_away_from_where_trials_diverge(lab) -> None:
    settings = lab.settings(lab.space(lab.rate), 12)
    ends = [lab.record(0, {RATE: 0.5}, 0.9), lab.record(1, {RATE: 0.1}, 0.7), lab.record(2, {RATE: 0.9}, 0.85)]
    assert build_sampler("lipschitz", settings).suggest(3, ends).point[RATE] > 0.5
    ends[2] = lab.record(2, {RATE: 0.9}, status="diverged")  # counts as 0.7 − 0.05
    assert build_sampler("lipschitz", settings).suggest(3, ends).point[RATE] < 0.5


def test_running_trials_are_not_suggested_again(lab) -> None:
    sampler = build_sampler("lipschitz", lab.settings(lab.space(lab.rate), 12))
    history = [lab.record(0, {RATE: 0.5}, status="running")]
    for number in range(1, 5):
        history.append(lab.record(number, sampler.suggest(number, history).point, status="running"))
    assert len({record.suggestion.point[RATE] for record in history}) == 5


def test_it_ends_with_its_trials(lab) -> None:
    assert build_sampler("lipschitz", lab.settings(lab.space(lab.rate), 5)).suggest(5, []) == "done"


def test_more_than_one_interval_is_refused_with_what_there_is(lab) -> None:
    for dimensions in ((lab.rate, lab.decay), (lab.optimizer,), ()):
        with pytest.raises(InputError, match=r"sampler=lipschitz .* search\.space has .*; keep only recipe\.lr"):
            build_sampler("lipschitz", lab.settings(lab.space(*dimensions)))
    with pytest.raises(InputError, match=r"has recipe\.lr, recipe\.weight_decay;"):
        build_sampler("lipschitz", lab.settings(lab.space(lab.rate, lab.decay)))


def test_an_interval_whose_condition_does_not_hold_is_refused(lab) -> None:
    momentum = Interval("recipe.momentum", 0.5, 0.9, log=False, when=(Condition("recipe.optimizer", ("sgd",)),))
    with pytest.raises(InputError, match=r"`when` of recipe\.momentum does not hold"):
        build_sampler("lipschitz", lab.settings(lab.space(momentum, **{"recipe.momentum": 0.9})))


def test_the_best_arm_has_the_best_mean_and_is_told_by_its_first_trial(lab) -> None:
    history = [
        lab.record(0, {RATE: 0.5}, 0.90),
        lab.record(1, {RATE: 0.2}, 0.95),
        lab.record(2, {RATE: 0.8}, 0.91),
        lab.record(3, {RATE: 0.2}, 0.80, seed=1),  # mean 0.875
        lab.record(4, {RATE: 0.8}, 0.93, seed=1),  # mean 0.92
    ]
    assert best_arm(history) == 2
    assert winner("lipschitz", history) == 2


def test_of_equal_means_the_one_that_was_tried_more_often_is_best(lab) -> None:
    tried = [lab.record(0, {RATE: 0.5}, 0.75), lab.record(1, {RATE: 0.2}, 0.5), lab.record(2, {RATE: 0.2}, 1.0, seed=1)]
    assert best_arm(tried) == 1
    assert best_arm([*tried[:1], lab.record(1, {RATE: 0.2}, 0.75)]) == 0


def test_a_repetition_that_diverged_counts_against_its_arm(lab) -> None:
    history = [
        lab.record(0, {RATE: 0.5}, 0.90),
        lab.record(1, {RATE: 0.8}, 0.92),
        lab.record(2, {RATE: 0.8}, status="diverged", seed=1),  # 0.90 − 0.05, mean 0.885
    ]
    assert best_arm(history) == 0


def test_without_a_trial_that_ran_to_its_end_no_arm_is_best(lab) -> None:
    history = [lab.record(0, {}, status="diverged"), lab.record(1, {RATE: 0.1}, 0.9, status="stopped", at=3)]
    assert best_arm(history) is None
    assert winner("lipschitz", history) == 1


def test_a_choice_of_rates_is_no_interval(lab) -> None:
    with pytest.raises(InputError, match="searches one interval"):
        build_sampler("lipschitz", lab.settings(lab.space(Choice(RATE, (1e-4, 1e-3)))))
