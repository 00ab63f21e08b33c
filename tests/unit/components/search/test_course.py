"""The course of a search: what is ordered next, what ends it, and that an interruption changes neither."""

from pathlib import Path

import numpy as np
import pytest

from components.search.course import Course, Limits, Order, unstopped_numbers
from components.search.journal import Journal
from components.search.trial import Suggestion

DEFAULTS = Suggestion(point={}, overrides={}, epochs=3, phase="defaults")


class Clock:
    """Seconds that a test moves."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Following:
    """Suggests a little more than the best score so far, so that what it suggests depends on the whole history."""

    def suggest(self, number: int, history) -> Suggestion:
        best = max((record.score for record in history if record.ended and record.score is not None), default=0.0)
        drawn = float(np.random.default_rng([7, number]).random())
        return Suggestion(point={"u": best + drawn}, overrides={"recipe.lr": best + drawn}, epochs=3)


class Saying:
    """Says one thing, whatever it is asked."""

    def __init__(self, word: str) -> None:
        self.word = word

    def suggest(self, number: int, history) -> str:
        return self.word


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def path(tmp_path) -> Path:
    return tmp_path / "journal.jsonl"


@pytest.fixture
def begin(path, clock):
    """A course over the journal of the test; a second call goes on with the first one's search."""

    def make(
        *,
        sampler=None,
        num_trials: int = 6,
        seconds: float | None = None,
        gpu_seconds: float | None = None,
        failure_limit: float = 0.5,
        concurrent: int | None = 2,
        gpus: float = 0.0,
        unstopped: float = 0.0,
        journal: Path | None = path,
    ) -> Course:
        limits = Limits(num_trials=num_trials, seconds=seconds, gpu_seconds=gpu_seconds, failure_limit=failure_limit)
        return Course(
            Journal(journal),
            sampler or Following(),
            limits,
            defaults=DEFAULTS,
            concurrent=concurrent,
            gpus_per_trial=gpus,
            unstopped_fraction=unstopped,
            seed=0,
            clock=clock,
        )

    return make


def order_of(course: Course) -> Order:
    order = course.next_order()
    assert isinstance(order, Order), order
    return order


def finish(course: Course, number: int, score: float = 0.5, *, seconds: float = 1.0) -> None:
    course.scored(number, 3, score, seconds=seconds)
    course.ended(number, "completed", seconds=seconds)


# --- orders


def test_the_defaults_come_first_and_then_what_the_sampler_suggests(begin) -> None:
    course = begin()
    first, second = order_of(course), order_of(course)
    assert (first.number, first.suggestion, first.unstopped) == (0, DEFAULTS, True)
    assert (second.number, second.unstopped, second.checkpoint) == (1, False, None)
    assert second.suggestion.overrides == Following().suggest(1, []).overrides
    assert course.under_way == {0, 1}


def test_it_waits_at_the_number_of_trials_at_a_time(begin) -> None:
    course = begin(concurrent=2)
    order_of(course), order_of(course)
    assert course.next_order() == "wait"
    finish(course, 1)
    assert course.under_way == {0}
    assert order_of(course).number == 2
    assert course.next_order() == "wait"


def test_without_that_number_it_gives_as_many_as_are_asked_for(begin) -> None:
    course = begin(concurrent=None)
    assert [order_of(course).number for _ in range(6)] == list(range(6))
    assert course.next_order() == "done"


def test_it_is_done_when_all_trials_are_given_out(begin) -> None:
    course = begin(num_trials=2, concurrent=2)
    order_of(course), order_of(course)
    finish(course, 0)
    assert course.next_order() == "done"
    assert len(course.records) == 2


@pytest.mark.parametrize("word", ["wait", "done"])
def test_a_sampler_may_have_it_wait_or_say_that_nothing_is_left(begin, word: str) -> None:
    course = begin(sampler=Saying(word))
    order_of(course)
    assert course.next_order() == word
    assert len(course.records) == 1


# --- budgets and failures


def test_it_is_done_when_its_time_is_over(begin, clock) -> None:
    course = begin(seconds=60.0)
    order_of(course)
    clock.now += 59.9
    assert course.spent_budget() == ""
    clock.now += 0.1
    assert course.spent_budget() == "the time budget of 1 minutes is spent"
    assert course.next_order() == "done"


def test_the_time_of_earlier_sessions_counts_and_that_of_the_interruption_does_not(begin, clock) -> None:
    course = begin(seconds=60.0)
    order_of(course)
    clock.now += 40.0
    course.scored(0, 1, 0.5, seconds=30.0)
    clock.now += 5.0  # what was done after the last event is not known to the next session
    clock.now += 9999.0
    again = begin(seconds=60.0)
    assert again.elapsed == pytest.approx(40.0)
    clock.now += 19.0
    assert again.spent_budget() == ""
    clock.now += 1.0
    assert again.spent_budget()


def test_gpu_time_is_that_of_all_trials_times_the_share_of_each(begin) -> None:
    course = begin(gpu_seconds=3600.0, gpus=0.5, concurrent=None)
    order_of(course), order_of(course)
    course.scored(0, 1, 0.5, seconds=3000.0)
    course.scored(1, 1, 0.5, seconds=4000.0)
    assert course.spent_budget() == ""  # 3500 of 3600
    course.scored(1, 2, 0.5, seconds=4200.0)
    assert course.spent_budget() == "the budget of 1 GPU hours is spent"
    assert course.next_order() == "done"
    assert begin(gpu_seconds=3600.0, gpus=0.5).spent_budget()


def test_the_seconds_of_a_trial_count_once_however_often_it_tells_of_them(begin) -> None:
    course = begin(gpu_seconds=100.0, gpus=1.0)
    order_of(course)
    for epoch, seconds in ((1, 30.0), (2, 60.0), (3, 90.0)):
        course.scored(0, epoch, 0.5, seconds=seconds)
    course.ended(0, "completed", seconds=90.0)
    assert course.spent_budget() == ""
    order_of(course)
    course.ended(1, "failed", message="x", seconds=10.0)
    assert course.spent_budget()


def test_many_failures_end_it_with_what_most_have_in_common(begin) -> None:
    course = begin(num_trials=9, concurrent=None, failure_limit=0.5)
    for _ in range(6):
        order_of(course)
    for number, message in enumerate(["no lens", "too dark", "no lens"]):
        course.ended(number, "failed", message=message)
    assert course.common_failure() == ""  # three say nothing yet
    finish(course, 3)
    assert course.common_failure() == "3 of 4 trials failed, 2 of them with: no lens"
    assert course.next_order() == "done"
    finish(course, 4)
    finish(course, 5)
    assert course.common_failure() == ""  # three of six are half, and no more


def test_what_diverged_has_not_failed(begin) -> None:
    course = begin(concurrent=None, failure_limit=0.1)
    for number in range(5):
        order_of(course)
        course.ended(number, "diverged")
    assert course.common_failure() == ""


def test_a_search_that_goes_on_counts_its_failures_anew(begin) -> None:
    course = begin(num_trials=9, concurrent=None)
    for number in range(4):
        order_of(course)
        course.ended(number, "failed", message="no lens")
    assert course.next_order() == "done"
    again = begin(num_trials=9, concurrent=None)
    assert again.common_failure() == ""
    for number in range(4, 8):
        assert order_of(again).number == number
        again.ended(number, "failed", message="too dark")
    assert again.common_failure() == "4 of 4 trials failed, 4 of them with: too dark"


# --- after an interruption


def test_interrupted_trials_come_first_with_their_checkpoints(begin) -> None:
    course = begin(concurrent=None)
    orders = [order_of(course) for _ in range(4)]
    finish(course, 0)
    course.scored(1, 1, 0.3, seconds=4.0)
    course.saved(1, 1, "there/1")
    course.scored(1, 2, 0.4, seconds=7.0)
    course.ended(3, "stopped")

    again = begin(concurrent=None)
    first, second, third = (order_of(again) for _ in range(3))
    assert (first.number, first.checkpoint) == (1, "there/1")
    assert first.suggestion == orders[1].suggestion
    assert (second.number, second.checkpoint) == (2, None)
    assert second.suggestion == orders[2].suggestion
    assert third.number == 4
    assert again.session == 2


def test_also_interrupted_trials_wait_for_their_turn(begin) -> None:
    course = begin(concurrent=None)
    for _ in range(3):
        order_of(course)
    again = begin(concurrent=1)
    assert order_of(again).number == 0
    assert again.next_order() == "wait"
    again.ended(0, "stopped")
    assert order_of(again).number == 1


def test_a_trial_whose_last_epoch_was_saved_has_only_to_be_called_completed(begin) -> None:
    course = begin(concurrent=None)
    order_of(course), order_of(course)
    finish(course, 0)
    course.scored(1, 3, 0.7, seconds=4.0)
    course.saved(1, 3, "there/1")

    again = begin(concurrent=None)
    assert (again.records[1].status, again.records[1].score, again.records[1].seconds) == ("completed", 0.7, 4.0)
    assert order_of(again).number == 2
    assert begin().records[1].status == "completed"


def test_a_trial_whose_last_epoch_was_scored_and_not_saved_goes_on_from_its_checkpoint(begin) -> None:
    course = begin(concurrent=None)
    order_of(course)
    course.scored(0, 1, 0.5, seconds=1.0)
    course.saved(0, 1, "there/0")
    course.scored(0, 3, 0.7, seconds=4.0)
    again = order_of(begin())
    assert (again.number, again.checkpoint) == (0, "there/0")


@pytest.mark.parametrize("interrupted_after", range(1, 9))
def test_a_course_that_was_interrupted_suggests_what_an_undisturbed_one_would(
    begin, tmp_path, interrupted_after: int
) -> None:
    def play(path: Path, interruption: int | None) -> list[tuple]:
        """One trial at a time, each scored once and ended; the search is left and gone on with after so many steps."""
        course, steps = begin(concurrent=1, unstopped=0.3, journal=path), 0

        def step() -> None:
            nonlocal course, steps
            steps += 1
            if steps == interruption:
                course = begin(concurrent=1, unstopped=0.3, journal=path)

        while isinstance(order := course.next_order(), Order):
            step()
            if order.number not in course.under_way:
                continue  # ordered again by the session that goes on
            course.scored(order.number, 3, 0.1 * order.number, seconds=1.0)
            course.ended(order.number, "completed")
            step()
        return [(record.suggestion, record.unstopped, record.score) for record in course.records]

    undisturbed = play(tmp_path / "a.jsonl", None)
    assert len(undisturbed) == 6
    assert play(tmp_path / "b.jsonl", interrupted_after) == undisturbed


# --- trials that are never stopped


@pytest.mark.parametrize(("num_trials", "count"), [(1, 0), (2, 1), (16, 1), (21, 2), (101, 10), (1001, 100)])
def test_a_tenth_is_never_stopped_and_the_defaults_besides(num_trials: int, count: int) -> None:
    drawn = unstopped_numbers(num_trials, 0.1, seed=0)
    assert 0 in drawn
    assert len(drawn) == 1 + count
    assert max(drawn) < num_trials


@pytest.mark.parametrize("seed", range(5))
def test_each_block_of_ten_has_one(seed: int) -> None:
    drawn = sorted(unstopped_numbers(101, 0.1, seed=seed) - {0})
    assert [(number - 1) // 10 for number in drawn] == list(range(10))


def test_each_of_a_block_may_be_drawn() -> None:
    drawn = {min(unstopped_numbers(11, 0.1, seed=seed) - {0}) for seed in range(200)}
    assert drawn == set(range(1, 11))


def test_the_seed_draws_them() -> None:
    assert unstopped_numbers(101, 0.1, seed=3) == unstopped_numbers(101, 0.1, seed=3)
    assert unstopped_numbers(101, 0.1, seed=3) != unstopped_numbers(101, 0.1, seed=4)


def test_none_or_all_or_a_third_may_be_asked_for() -> None:
    assert unstopped_numbers(50, 0.0, seed=0) == {0}
    assert unstopped_numbers(50, 1.0, seed=0) == set(range(50))
    assert len(unstopped_numbers(31, 0.3, seed=0) - {0}) == 9


def test_a_search_gives_them_out_unstopped(begin) -> None:
    course = begin(num_trials=21, concurrent=None, unstopped=0.1)
    given = {order.number for _ in range(21) if (order := order_of(course)).unstopped}
    assert given == unstopped_numbers(21, 0.1, seed=0)
    assert {record.number for record in Journal(course._journal._path).records if record.unstopped} == given
