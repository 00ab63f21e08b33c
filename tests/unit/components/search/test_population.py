"""What a member of a population goes on with: settings near those of its donor, drawn by the seed."""

import random
from types import SimpleNamespace

import numpy as np
import pytest

from components.search import population
from components.search.course import Course, Limits
from components.search.journal import Journal
from components.search.population import MOVED, changed
from components.search.space import Choice, Condition, Interval, Space
from components.search.trial import Suggestion
from components.search.tuner import number_of

DEFAULTS = {
    "model.backbone": "net",
    "recipe.optimizer": "sgd",
    "recipe.batch_size": 8,
    "recipe.lr": 0.01,
    "recipe.loss": "focal",
    "recipe.focal_gamma": 2.0,
    "recipe.label_smoothing": 0.1,
}
SPACE = Space(
    (
        Interval("recipe.lr", 1e-4, 1.0, log=True),
        Choice("recipe.label_smoothing", (0.0, 0.1, 0.2, 0.3)),
        Interval("recipe.focal_gamma", 0.0, 4.0, log=False, when=(Condition("recipe.loss", ("focal",)),)),
    ),
    DEFAULTS,
)
POINT = {"recipe.lr": 0.5, "recipe.label_smoothing": 1, "recipe.focal_gamma": 0.95}


def drawn(point: dict, count: int = 500) -> list[dict]:
    generator = np.random.default_rng(0)
    return [changed(SPACE, point, generator) for _ in range(count)]


def test_every_coordinate_stays_in_its_bounds() -> None:
    for corner in ({"recipe.lr": 0.0, "recipe.label_smoothing": 0}, {"recipe.lr": 1.0, "recipe.label_smoothing": 3}):
        for point in drawn(corner):
            assert 0.0 <= point["recipe.lr"] <= 1.0
            assert point["recipe.label_smoothing"] in range(4)
            SPACE.overrides(point)


def test_a_number_moves_by_a_fifth_at_most_or_is_drawn_anew_one_time_in_four() -> None:
    moves = np.array([point["recipe.lr"] - 0.5 for point in drawn(POINT, 4000)])
    near = np.abs(moves) <= MOVED
    # three in four are moved, and of the quarter that is drawn anew two in five fall as near
    assert near.mean() == pytest.approx(0.75 + 0.25 * 0.4, abs=0.02)
    assert moves[near].mean() == pytest.approx(0.0, abs=0.01)
    assert np.abs(moves).max() == pytest.approx(0.5, abs=0.01)


def test_a_choice_goes_to_one_beside_it_or_is_drawn_anew() -> None:
    places = np.bincount([point["recipe.label_smoothing"] for point in drawn(POINT, 4000)], minlength=4) / 4000
    # from 1: half of three quarters to either side, and of the rest a quarter each
    assert places == pytest.approx([0.4375, 0.0625, 0.4375, 0.0625], abs=0.02)


def test_a_choice_at_the_edge_may_stay_there() -> None:
    places = {point["recipe.label_smoothing"] for point in drawn({"recipe.label_smoothing": 0})}
    assert places == {0, 1, 2, 3}


def test_what_the_point_does_not_hold_is_not_made_up() -> None:
    assert set(drawn({"recipe.lr": 0.2}, 1)[0]) == {"recipe.lr"}


def test_values_are_plain_and_the_generator_draws_them() -> None:
    first, second = (changed(SPACE, POINT, np.random.default_rng(3)) for _ in range(2))
    assert first == second
    assert changed(SPACE, POINT, np.random.default_rng(4)) != first
    assert [type(value) for value in first.values()] == [float, int, float]


# --- the exchange


def member(number: int, point: dict, overrides: dict) -> SimpleNamespace:
    return SimpleNamespace(config={"order": {"number": number, "point": point, "overrides": overrides}})


def exchange(seed: int = 0, *, first: int = 1) -> population._Exchange:
    return population._Exchange(SPACE, interval=1, first=first, seed=seed)


def test_members_that_are_behind_catch_up_before_the_first_exchange() -> None:
    late = exchange(first=9)
    told = {"epoch": 8, "score": 0.5}
    assert late.on_trial_result(None, None, told) == "CONTINUE"  # its state is not even asked for


def test_a_copy_keeps_its_number_and_takes_settings_near_its_donors() -> None:
    own, donor = member(3, {"recipe.lr": 0.0}, {}), member(5, {"recipe.lr": 1.0}, {"recipe.lr": 1.0})
    config, _ = exchange()._get_new_config(own, donor)
    order = config["order"]
    assert order["number"] == 3
    assert order["overrides"] == SPACE.overrides(order["point"])
    assert own.config["order"]["point"] == {"recipe.lr": 0.0}  # as it was
    assert donor.config["order"]["point"] == {"recipe.lr": 1.0}


def test_of_a_donor_outside_the_space_the_settings_are_taken_as_they_are() -> None:
    config, _ = exchange()._get_new_config(member(3, {"recipe.lr": 0.0}, {}), member(0, {}, {"recipe.lr": 7.0}))
    assert config["order"]["point"] == {}
    assert config["order"]["overrides"] == {"recipe.lr": 7.0}


def test_each_member_and_each_seed_draws_for_itself() -> None:
    donor = member(5, POINT, {})
    points = [exchange(seed)._get_new_config(member(number, {}, {}), donor)[0]["order"]["point"]
              for seed, number in ((0, 3), (0, 3), (0, 4), (1, 3))]  # fmt: skip
    assert points[0] == points[1]
    assert points[0] != points[2]
    assert points[0] != points[3]


def test_the_defaults_take_nothing_over_and_may_be_a_donor(monkeypatch) -> None:
    members = [member(number, {}, {}) for number in range(8)]
    parent = population.PopulationBasedTraining
    monkeypatch.setattr(parent, "_quantiles", lambda self: (members[:2], members[6:]))
    lower, upper = exchange()._quantiles()
    assert lower == [members[1]]
    monkeypatch.setattr(parent, "_quantiles", lambda self: (members[2:4], members[:2]))
    lower, upper = exchange()._quantiles()
    assert (lower, upper) == (members[2:4], members[:2])


def test_the_donor_is_drawn_by_the_seed_and_pythons_generator_is_left_as_it_was(monkeypatch) -> None:
    members = [member(number, {}, {}) for number in range(12)]
    lower, upper = members[:3], members[8:]
    handed = []
    monkeypatch.setattr(
        population.PopulationBasedTraining,
        "_checkpoint_or_exploit",
        lambda self, trial, controller, best, worst: handed.append(best),
    )

    def donors(seed: int) -> list[int]:
        del handed[:]
        for trial in lower * 10:
            exchange(seed)._checkpoint_or_exploit(trial, None, upper, lower)
        assert [len(best) for best in handed] == [1] * 30
        assert all(best[0] in upper for best in handed)
        return [number_of(best[0]) for best in handed]

    before = random.getstate()
    assert donors(0) == donors(0)
    assert len({tuple(donors(seed)) for seed in range(8)}) > 4
    assert random.getstate() == before
    exchange()._checkpoint_or_exploit(upper[0], None, upper, lower)
    assert handed[-1] == upper  # who is not of the lowest is saved among the best


# --- what goes into it


@pytest.fixture
def ran(monkeypatch) -> list[dict]:
    """The orders that were handed to Tune, instead of running them."""
    handed: list[dict] = []

    def run_tune(course, open_session, relay, settings, *, scheduler, kept_checkpoints, config) -> None:
        handed.extend(config["order"]["grid_search"])

    monkeypatch.setattr(population, "run_tune", run_tune)
    return handed


class Evenly:
    def suggest(self, number: int, history) -> Suggestion:
        point = {"recipe.lr": number / 4}
        return Suggestion(point=point, overrides=SPACE.overrides(point), epochs=4)


def course(path, *, seconds: float | None = None) -> Course:
    return Course(
        Journal(path),
        Evenly(),
        Limits(num_trials=4, seconds=seconds, gpu_seconds=None, failure_limit=1.0),
        defaults=Suggestion(point={}, overrides={}, epochs=4),
        concurrent=None,
        gpus_per_trial=0,
        unstopped_fraction=0,
        seed=0,
        clock=lambda: 0.0,
    )


def run(search: Course) -> None:
    settings = SimpleNamespace(quota_bytes=1e9, best=None)
    observer = SimpleNamespace(ended=lambda record, trace: None)
    population.run_population(search, lambda *a: None, observer, settings, space=SPACE, interval=1, seed=0)


def test_the_whole_population_is_there_at_the_start(tmp_path, ran) -> None:
    run(course(tmp_path / "journal"))
    assert [order["number"] for order in ran] == [0, 1, 2, 3]
    assert [order["point"] for order in ran] == [{}, {"recipe.lr": 0.25}, {"recipe.lr": 0.5}, {"recipe.lr": 0.75}]


def test_a_member_goes_on_from_where_it_had_come_to_in_the_space(tmp_path, ran) -> None:
    first = course(tmp_path / "journal")
    run(first)
    del ran[:]
    there = SPACE.overrides({"recipe.lr": 0.9})
    first.scored(1, 1, 0.5, seconds=1.0, changes=[{"epoch": 0, "overrides": {}}, {"epoch": 1, "overrides": there}])
    run(course(tmp_path / "journal"))
    assert ran[1]["overrides"] == there
    assert ran[1]["point"]["recipe.lr"] == pytest.approx(0.9)
    assert ran[2]["point"] == {"recipe.lr": 0.5}


def test_members_that_a_spent_budget_leaves_out_are_ended(tmp_path, ran) -> None:
    run(course(tmp_path / "journal"))
    over = course(tmp_path / "journal", seconds=0.0)
    run(over)
    assert [record.status for record in over.records] == ["stopped"] * 4
    assert over.records[1].message == "the time budget of 0 minutes is spent"
