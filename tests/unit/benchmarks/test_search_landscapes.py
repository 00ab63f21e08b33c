"""Problems with a known best, and recorded curves between recorded rates."""

import json
import math

import numpy as np
import pytest
from search_curves import SETTINGS as CURVE_SETTINGS
from search_curves import write
from search_landscapes import FLOOR, WINDOW, Bump, FineTuning, Recorded, recordings

from components.search.space import LR

SEEDS = range(5)


def points(problem, count, *, seed=0):
    draw = np.random.default_rng(seed)
    return [problem.space.from_cube(draw.random(len(problem.space.dimensions))) for _ in range(count)]


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("make", [lambda s: FineTuning(epochs=9, seed=s), lambda s: Bump(seed=s)])
def test_no_point_is_better_than_the_best(make, seed):
    problem = make(seed)
    truths = [problem.truth(point) for point in points(problem, 500)]
    assert problem.best >= max(truths)
    assert problem.best - max(truths) < 0.03


@pytest.mark.parametrize("seed", SEEDS)
def test_the_best_of_the_rate_alone_is_that_of_a_fine_grid(seed):
    problem = FineTuning(epochs=9, seed=seed, searched=[LR])
    finest = max(problem.truth({LR: place}) for place in np.linspace(0, 1, 5001))
    assert problem.best == pytest.approx(finest, abs=1e-5)


def test_every_seed_draws_another_problem_and_the_same_seed_the_same():
    assert FineTuning(epochs=9, seed=1).best == FineTuning(epochs=9, seed=1).best
    assert len({FineTuning(epochs=9, seed=seed).best for seed in SEEDS}) == len(SEEDS)


@pytest.mark.parametrize("make", [lambda: FineTuning(epochs=9, seed=0), lambda: Bump(seed=0)])
def test_trainings_score_on_average_what_is_held_to_be_true(make):
    problem = make()
    point = dict(problem.defaults().point)
    finals = [problem.train(point, seed=seed).scores[-1] for seed in range(400)]
    assert all(final is not None for final in finals)
    assert np.mean(finals) == pytest.approx(problem.truth(point), abs=4 * np.std(finals) / 20)


def test_the_same_luck_gives_the_same_training():
    problem = FineTuning(epochs=9, seed=0)
    point = problem.defaults().point
    assert problem.train(point, seed=3) == problem.train(point, seed=3)
    assert problem.train(point, seed=3) != problem.train(point, seed=4)


def test_curves_cross_a_higher_rate_leads_early_and_loses():
    crossings = 0
    for seed in range(20):
        problem = FineTuning(epochs=27, seed=seed, searched=[LR])
        early = FineTuning(epochs=27, seed=seed, searched=[LR])
        early.epochs = 1
        places = np.linspace(0, 1, 101)
        first = max(places, key=lambda place: early.truth({LR: place}))
        last = max(places, key=lambda place: problem.truth({LR: place}))
        crossings += first > last
    assert crossings == 20


def test_far_above_the_cliff_trainings_diverge_and_far_below_none_does():
    beyond = 0
    for seed in range(20):
        problem = FineTuning(epochs=9, seed=seed)
        low, high = ({**problem.defaults().point, LR: place} for place in (0.0, 1.0))
        assert not any(None in problem.train(low, seed=luck).scores for luck in range(20))
        diverged = sum(None in problem.train(high, seed=luck).scores for luck in range(20))
        if diverged == 20:
            beyond += 1
            assert problem.truth(high) < FLOOR + 0.05
    assert beyond >= 5  # the cliff's place is drawn


def test_the_bump_is_as_high_as_it_says_at_its_peak():
    problem = Bump(seed=2)
    assert max(problem.truth({LR: place}) for place in np.linspace(0, 1, 2001)) == pytest.approx(problem.best, abs=1e-3)


# Three rates, a decade and a half apart, so that the window of 2.5 decades leaves half a decade for its place.
RATES = np.array([1e-5, 10**-3.5, 1e-2])
SCORES = np.array([
    [[0.2, 0.3], [0.1, 0.5]],
    [[0.6, 0.9], [0.4, 0.7]],
    [[0.5, np.nan], [0.5, 0.4]],
])  # fmt: skip


def recorded(*, seed=0):
    return Recorded(RATES, SCORES, seed=seed)


def place_of(problem, rate):
    low, high = problem.space.dimensions[0].limits(problem.space.defaults)
    return math.log(rate / low) / math.log(high / low)


def test_at_a_recorded_rate_a_trial_has_one_of_its_curves():
    problem = recorded()
    place = place_of(problem, 10**-3.5)
    curves = {tuple(round(s, 6) for s in problem.train({LR: place}, seed=seed).scores) for seed in range(40)}
    assert curves == {(0.6, 0.9), (0.4, 0.7)}
    assert problem.truth({LR: place}) == pytest.approx(0.8)


def test_halfway_between_two_rates_the_worse_of_one_meets_the_worse_of_the_other():
    problem = recorded()
    halfway = {LR: place_of(problem, 10**-4.25)}
    curves = {tuple(round(s, 6) for s in problem.train(halfway, seed=seed).scores) for seed in range(40)}
    # The worse: (0.2, 0.3) and (0.4, 0.7). The better: (0.1, 0.5) and (0.6, 0.9).
    assert curves == {(0.3, 0.5), (0.35, 0.7)}
    assert problem.truth(halfway) == pytest.approx((0.4 + 0.8) / 2)


def test_a_training_that_diverged_has_no_score_and_counts_as_the_worst_of_all():
    problem = recorded()
    nearly = {LR: place_of(problem, 10**-2.4)}
    curves = {problem.train(nearly, seed=seed).scores for seed in range(40)}
    assert (0.5, None) in curves  # the nearer of two between which there is nothing
    assert len(curves) == 2
    # At 1e-2: 0.4, and once the worst score of all, 0.1. A share of 1.1 / 1.5 of the way from 0.8.
    assert problem.truth(nearly) == pytest.approx(0.8 + 1.1 / 1.5 * (0.25 - 0.8))


def test_the_window_is_as_wide_as_it_says_within_the_recorded_rates_and_elsewhere_for_another_seed():
    lows = []
    for seed in range(20):
        low, high = recorded(seed=seed).space.dimensions[0].limits(recorded().space.defaults)
        assert math.log10(high / low) == pytest.approx(WINDOW)
        assert RATES[0] * 0.999 <= low < high <= RATES[-1] * 1.001
        lows.append(low)
    assert len(set(lows)) == 20


@pytest.mark.parametrize("seed", SEEDS)
def test_the_best_of_a_recording_is_that_of_a_fine_grid(seed):
    problem = recorded(seed=seed)
    assert problem.best == pytest.approx(max(problem.truth({LR: p}) for p in np.linspace(0, 1, 5001)), abs=1e-3)


def test_what_is_written_is_read_and_seeds_that_a_rate_lacks_are_left_out(tmp_path):
    curves = [{"lr": float(rate), "seed": seed, "scores": [0.1, 0.2 + seed]} for rate in RATES for seed in (0, 1)]
    path = tmp_path / "curves_toy.json"
    write(path, CURVE_SETTINGS["generated"], curves[:-1])
    values = json.loads(path.read_text())
    assert values["made_by"] == "python benchmarks/search_curves.py --setting generated"
    assert values["curves"] == curves[:-1]
    problem = Recorded.read(path, seed=0)
    assert problem.epochs == 2
    assert problem.best == pytest.approx(0.2)


@pytest.mark.parametrize("name", sorted(CURVE_SETTINGS))
def test_the_recordings_that_are_kept_are_whole_and_small(name):
    path, setting = recordings()[name], CURVE_SETTINGS[name]
    curves = json.loads(path.read_text())["curves"]
    assert {(c["lr"], c["seed"]) for c in curves} == {(r, s) for r in setting.rates for s in range(setting.seeds)}
    assert {len(curve["scores"]) for curve in curves} == {setting.epochs}
    assert path.stat().st_size < 300_000
