"""TPE after a random start: what it learns from, and that a search that goes on is the same search."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from components.search.samplers import build_sampler
from components.search.space import Choice, Condition, Interval
from components.search.trial import Suggestion

RATE = "recipe.lr"
#: Searched with SGD alone.
MOMENTUM = Interval("recipe.momentum", 0.5, 0.99, log=False, when=(Condition("recipe.optimizer", ("sgd",)),))


def conditional(lab):
    return lab.space(MOMENTUM, lab.optimizer, lab.rate, **{"recipe.momentum": 0.9})


def near(u: float):
    """A score that is best at one place of the rate, with SGD."""
    return lambda s: 0.9 - (s.point[RATE] - u) ** 2 - 0.1 * (s.point.get("recipe.optimizer") == 0)


def rates_suggested(lab, history, *, first: int = 100, count: int = 20) -> np.ndarray:
    """Where the rate would be put next, from several draws."""
    settings = lab.settings(lab.space(lab.rate), 1000, startup_trials=1)
    sampler = build_sampler("tpe", settings)
    return np.array([sampler.suggest(number, history).point[RATE] for number in range(first, first + count)])


@pytest.mark.parametrize("name", ["tpe", "hybrid"])
def test_a_search_that_goes_on_is_the_same_search(lab, name: str) -> None:
    settings = lab.settings(conditional(lab), 18, seed=3)
    assert lab.search(name, settings, near(0.2)) == lab.search(name, settings, near(0.2), rebuilt=True)


def test_another_seed_is_another_search(lab) -> None:
    searches = [lab.search("tpe", lab.settings(conditional(lab), 14, seed=s), near(0.2)) for s in (0, 1)]
    assert [r.suggestion.point for r in searches[0][1:]] != [r.suggestion.point for r in searches[1][1:]]


@pytest.mark.slow
def test_the_hash_seed_of_python_does_not_matter() -> None:
    program = (
        "from components.search.samplers import SamplerSettings, build_sampler\n"
        "from components.search.space import *\n"
        "from components.search.trial import *\n"
        "when = (Condition('o', ('b',)),)\n"
        "space = Space((Choice('o', ('a', 'b')), *(Interval(k, 0.0, 1.0, log=False, when=when) for k in 'xyz'),\n"
        "               Interval('w', 0.0, 1.0, log=False)), {'model.backbone': 'net', 'recipe.optimizer': 'adamw',\n"
        "               'recipe.batch_size': 32, 'o': 'a', 'w': 0.5, 'x': 0.5, 'y': 0.5, 'z': 0.5})\n"
        "sampler = build_sampler('tpe', SamplerSettings(space=space, num_trials=30, max_epochs=9, grace_epochs=1,\n"
        "                        folds=0, startup_trials=6, seed=0))\n"
        "history = []\n"
        "for number in range(1, 16):\n"
        "    s = sampler.suggest(number, history)\n"
        "    history.append(TrialRecord(number=number, suggestion=s, unstopped=False, status='completed',\n"
        "                               scores={9: s.point['w']}))\n"
        "print([sorted(r.suggestion.point.items()) for r in history])\n"
    )
    root = str(Path(__file__).parents[5])
    outputs = {
        subprocess.run(
            [sys.executable, "-c", program],
            env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": root},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(outputs) == 1


@pytest.mark.parametrize(
    ("name", "num_trials", "startup", "random_trials"),
    [("tpe", 16, None, 10), ("tpe", 16, 4, 4), ("hybrid", 30, None, 10), ("hybrid", 9, None, 6), ("hybrid", 30, 7, 7)],
)
def test_it_adapts_after_the_trials_of_the_start(lab, name, num_trials, startup, random_trials) -> None:
    history = lab.search(name, lab.settings(conditional(lab), num_trials, startup_trials=startup), near(0.2))
    phases = [record.suggestion.phase for record in history[1:]]
    start = "latin hypercube" if name == "hybrid" else "random"
    assert phases == [start] * random_trials + ["tpe"] * (num_trials - 1 - random_trials)


def test_the_start_of_hybrid_uses_every_slice_of_the_rate_once(lab) -> None:
    history = lab.search("hybrid", lab.settings(conditional(lab), 16), near(0.2))
    assert sorted(int(record.suggestion.point[RATE] * 10) for record in history[1:11]) == list(range(10))


def test_hybrid_begins_with_the_portfolio_which_counts_among_the_trials_of_the_start(lab) -> None:
    portfolio = tuple(
        Suggestion(point={"recipe.lr": place}, overrides={}, epochs=9, phase=f"portfolio: {place}")
        for place in (0.25, 0.75)
    )
    settings = lab.settings(lab.space(lab.rate), 12, portfolio=portfolio)
    history = lab.search("hybrid", settings, near(0.2))
    phases = [record.suggestion.phase for record in history[1:]]
    assert phases[:2] == ["portfolio: 0.25", "portfolio: 0.75"]
    assert (phases.count("latin hypercube"), phases.count("tpe")) == (6, 3)
    alone = lab.search("hybrid", lab.settings(lab.space(lab.rate), 3, portfolio=portfolio), near(0.2))
    assert [record.suggestion.phase for record in alone[1:]] == phases[:2]


def test_a_start_longer_than_the_search_is_all_of_it(lab) -> None:
    history = lab.search("hybrid", lab.settings(conditional(lab), 4, startup_trials=50), near(0.2))
    assert [record.suggestion.phase for record in history[1:]] == ["latin hypercube"] * 3
    assert build_sampler("hybrid", lab.settings(conditional(lab), 4)).suggest(4, history) == "done"


def test_it_goes_where_the_scores_are_good(lab) -> None:
    history = [lab.record(i, {RATE: i / 20}, 0.9 - (i / 20 - 0.2) ** 2) for i in range(20)]
    assert abs(np.median(rates_suggested(lab, history)) - 0.2) < 0.1


def test_a_stopped_trial_with_a_high_score_at_a_rung_does_not_outrank_those_that_ran_to_their_end(lab) -> None:
    complete = [lab.record(i, {RATE: 0.15 + i / 100}, 0.8 + i / 1000) for i in range(10)]
    stopped = [lab.record(10 + i, {RATE: 0.8 + i / 100}, 0.99, status="stopped", at=1) for i in range(10)]
    assert rates_suggested(lab, [*complete, *stopped]).max() < 0.5
    # told as final scores they would win
    finals = [lab.record(10 + i, {RATE: 0.8 + i / 100}, 0.99) for i in range(10)]
    assert rates_suggested(lab, [*complete, *finals]).min() > 0.5


def test_of_stopped_trials_the_one_that_came_further_is_better_whatever_its_score(lab) -> None:
    early = [lab.record(i, {RATE: 0.8 + i / 100}, 0.99, status="stopped", at=1) for i in range(10)]
    late = [lab.record(10 + i, {RATE: 0.2 + i / 100}, 0.6, status="stopped", at=3) for i in range(10)]
    assert rates_suggested(lab, [*early, *late]).max() < 0.5


def test_it_keeps_away_from_where_trials_diverge(lab) -> None:
    diverged = [lab.record(i, {RATE: 0.7 + i / 50}, 0.99, status="diverged", at=5) for i in range(10)]
    stopped = [lab.record(10 + i, {RATE: 0.2 + i / 50}, 0.5, status="stopped", at=1) for i in range(10)]
    assert np.mean(rates_suggested(lab, [*diverged, *stopped]) > 0.65) < 0.1


def test_failures_say_nothing_about_their_place(lab) -> None:
    good = [lab.record(i, {RATE: 0.45 + i / 100}, 0.8) for i in range(10)]
    failed = [lab.record(10 + i, {RATE: 0.45 + i / 100}, status="failed") for i in range(10)]
    assert (rates_suggested(lab, good) == rates_suggested(lab, [*good, *failed])).all()


def test_running_trials_keep_others_from_the_same_place(lab) -> None:
    known = [lab.record(i, {RATE: i / 10}, 0.9 - (i / 10 - 0.5) ** 2) for i in range(10)]
    running = [lab.record(10 + i, {RATE: 0.45 + i / 100}, status="running") for i in range(10)]
    alone, beside = rates_suggested(lab, known), rates_suggested(lab, [*known, *running])
    assert np.mean(abs(beside - 0.5)) > np.mean(abs(alone - 0.5))


def test_as_long_as_hardly_any_trial_has_ended_the_draws_are_random(lab) -> None:
    history = [lab.record(i, {RATE: i / 20}, status="running") for i in range(12)]
    history[0] = lab.record(0, {RATE: 0.5}, 0.9)
    sampler = build_sampler("hybrid", lab.settings(lab.space(lab.rate), 30))
    assert sampler.suggest(12, history).phase == "random"
    for i in range(1, 4):
        history[i] = lab.record(i, {RATE: i / 20}, 0.8)
    assert sampler.suggest(12, history).phase == "tpe"


@pytest.mark.parametrize("name", ["tpe", "hybrid"])
def test_a_coordinate_is_suggested_only_where_its_condition_holds(lab, name: str) -> None:
    history = lab.search(name, lab.settings(conditional(lab), 30), near(0.2))
    optimizers = [record.suggestion.point["recipe.optimizer"] for record in history[1:]]
    assert {0, 1} == set(optimizers)
    assert [("recipe.momentum" in r.suggestion.point) for r in history[1:]] == [o == 1 for o in optimizers]
    assert all(r.suggestion.overrides.keys() == r.suggestion.point.keys() for r in history[1:])


@pytest.mark.parametrize("name", ["tpe", "hybrid"])
def test_in_a_space_of_choices_nothing_is_tried_twice_and_the_search_ends_with_them(lab, name: str) -> None:
    space = lab.space(lab.optimizer, Choice("recipe.layer_decay", (1.0, 0.9, 0.75)))
    history = lab.search(name, lab.settings(space, 40), lambda s: 0.5 + 0.1 * s.point["recipe.optimizer"])
    points = [tuple(sorted(record.suggestion.point.items())) for record in history]
    assert len(points) == len(set(points)) == 6


def test_a_history_is_not_told_twice(lab) -> None:
    settings = lab.settings(lab.space(lab.rate), 30, startup_trials=1)
    history = [lab.record(i, {RATE: i / 20}, 0.9 - (i / 20 - 0.2) ** 2) for i in range(12)]
    sampler = build_sampler("tpe", settings)
    first = sampler.suggest(12, history)
    assert sampler.suggest(12, history) == first
