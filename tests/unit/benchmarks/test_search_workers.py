"""Simulated workers: what they take, in what order, and what is known when."""

from dataclasses import dataclass, field

import pytest
import search_workers
from search_landscapes import Training, rate_space
from search_workers import Plan, simulate

from components.search.space import LR
from components.search.trial import Suggestion


@dataclass
class Toy:
    """Every epoch takes a second. The n-th training that begins scores 1 - n / 100, a little more each epoch."""

    epochs: int
    diverges: tuple[int, ...] = ()  # trainings that diverge in their second epoch
    seconds: float = 1.0
    best: float = 1.0
    space: object = field(default_factory=lambda: rate_space(1e-4, 1e-2))
    seeds: list[int] = field(default_factory=list)

    def train(self, point, *, seed):
        number = len(self.seeds)
        self.seeds.append(seed)
        scores = [1 - number / 100 + epoch / 10_000 for epoch in range(1, self.epochs + 1)]
        if number in self.diverges:
            scores[1:] = [None] * (self.epochs - 1)
        return Training(tuple(scores), self.seconds)

    def truth(self, point):
        return point[LR]

    def defaults(self):
        return Suggestion(point={LR: 0.5}, overrides={}, epochs=self.epochs)


def plan(**changes):
    values = {"sampler": "random", "scheduler": "none", "trials": 4, "workers": 1, "grace": 1}
    return Plan(**{**values, "unstopped_fraction": 0.0, "seed": 0, **changes})


@pytest.mark.parametrize(("workers", "seconds"), [(1, 8), (2, 4), (3, 4), (4, 2), (1000, 2)])
def test_four_trials_of_two_epochs_take_as_long_as_the_busiest_worker(workers, seconds):
    search = simulate(Toy(epochs=2), plan(workers=workers))
    assert search.simulated_seconds == seconds
    assert search.epochs == 8
    assert [record.status for record in search.records] == ["completed"] * 4


def test_a_worker_takes_the_next_trial_when_its_own_has_ended():
    search = simulate(Toy(epochs=3, diverges=(0,)), plan(workers=2))
    assert [record.epochs for record in search.records] == [1, 3, 3, 3]
    assert search.records[0].status == "diverged"
    # Worker A: the diverged one until 2, trial 2 until 5. Worker B: trial 1 until 3, trial 3 until 6.
    assert search.simulated_seconds == 6
    assert search.epochs == 2 + 3 * 3


def test_below_the_rung_a_trial_is_stopped_and_the_defaults_never():
    # Each trial scores less than all before it, so at epoch 1 all but the first lie below two thirds of the others.
    search = simulate(Toy(epochs=3), plan(scheduler="asha", trials=5))
    assert [record.status for record in search.records] == ["completed", *["stopped"] * 4]
    assert search.epochs == 3 + 4
    # Five suggestions; of the first two epochs of the defaults and the only one of the others the rule was asked.
    assert search.decisions == 5 + 2 + 4


def test_nothing_is_known_of_an_epoch_before_it_has_ended(monkeypatch):
    seen = []
    build = search_workers.build_sampler

    class Spy:
        def __init__(self, sampler):
            self._sampler = sampler

        def suggest(self, number, history):
            seen.append((number, sum(len(record.scores) for record in history)))
            return self._sampler.suggest(number, history)

    monkeypatch.setattr(search_workers, "build_sampler", lambda name, settings: Spy(build(name, settings)))
    simulate(Toy(epochs=2), plan(trials=5, workers=3))
    # Three begin at once. At second 2 trial 0 is the first to end, when its own two epochs and one of each other are
    # known; then trial 1. A sixth is asked for by nobody's need: five are all.
    assert seen[:4] == [(1, 0), (2, 0), (3, 4), (4, 5)]


def test_a_sampler_that_waits_is_asked_again_when_something_has_ended():
    # Level 2 of the grid needs the scores of all of level 1.
    search = simulate(Toy(epochs=1), plan(sampler="grid", trials=9, workers=1000))
    assert len(search.records) == 9
    assert search.simulated_seconds > 1


def test_on_the_way_it_would_choose_what_is_best_so_far():
    search = simulate(Toy(epochs=2), plan(trials=3), looks={1, 2, 4, 6})
    # No trial has ended after one epoch: the defaults. Then trial 0 stays ahead.
    assert search.chosen_at == {1: 0, 2: 0, 4: 0, 6: 0}
    problem = Toy(epochs=2)
    assert search.regret(problem) == 0.5
    assert search.regret(problem, after=2) == 0.5


def test_where_no_trial_comes_through_the_defaults_are_kept():
    search = simulate(Toy(epochs=2, diverges=(0, 1, 2)), plan(trials=3))
    assert search.chosen == 0
    assert {record.status for record in search.records} == {"diverged"}


def test_searches_of_one_seed_have_the_same_points_and_the_same_luck_whatever_stops_them():
    free, ruled, other = Toy(epochs=3), Toy(epochs=3), Toy(epochs=3)
    first = simulate(free, plan(trials=6, workers=2))
    second = simulate(ruled, plan(trials=6, workers=2, scheduler="asha"))
    simulate(other, plan(trials=6, workers=2, seed=1))
    assert free.seeds == ruled.seeds
    assert [r.suggestion.point for r in first.records] == [r.suggestion.point for r in second.records]
    assert not set(free.seeds) & set(other.seeds)


def test_the_journal_goes_to_a_file_where_one_is_named(tmp_path):
    path = tmp_path / "journal.jsonl"
    simulate(Toy(epochs=2), plan(), journal=path)
    # opened; 4 x (began, 2 scored, ended)
    assert len(path.read_text().splitlines()) == 1 + 4 * 4
