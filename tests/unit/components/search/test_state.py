"""The state of a search: what is ordered next, what ends it, and that an interruption changes neither."""

from pathlib import Path

import numpy as np
import pytest

from components.search.journal import Journal
from components.search.state import Limits, SearchState, unstopped_numbers
from components.search.trial import Suggestion, TrialRecord

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
    """A state over the journal of the test; a second call goes on with the first one's search."""

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
        enough=lambda records: "",
    ) -> SearchState:
        limits = Limits(num_trials=num_trials, seconds=seconds, gpu_seconds=gpu_seconds, failure_limit=failure_limit)
        return SearchState(
            Journal(journal),
            sampler or Following(),
            limits,
            defaults=DEFAULTS,
            concurrent=concurrent,
            gpus_per_trial=gpus,
            unstopped_fraction=unstopped,
            seed=0,
            clock=clock,
            enough=enough,
        )

    return make


def trial_of(state: SearchState) -> TrialRecord:
    trial = state.next_trial()
    assert isinstance(trial, TrialRecord), trial
    return trial


def finish(state: SearchState, number: int, score: float = 0.5, *, seconds: float = 1.0) -> None:
    state.scored(number, 3, score, seconds=seconds)
    state.ended(number, "completed", seconds=seconds)


# --- trials


def test_the_defaults_come_first_and_then_what_the_sampler_suggests(begin) -> None:
    state = begin()
    first, second = trial_of(state), trial_of(state)
    assert (first.number, first.suggestion, first.unstopped) == (0, DEFAULTS, True)
    assert (second.number, second.unstopped, second.checkpoint) == (1, False, None)
    assert second.suggestion.overrides == Following().suggest(1, []).overrides
    assert state.running == {0, 1}


def test_it_waits_at_the_number_of_trials_at_a_time(begin) -> None:
    state = begin(concurrent=2)
    trial_of(state), trial_of(state)
    assert state.next_trial() == "wait"
    finish(state, 1)
    assert state.running == {0}
    assert trial_of(state).number == 2
    assert state.next_trial() == "wait"


def test_without_that_number_it_gives_as_many_as_are_asked_for(begin) -> None:
    state = begin(concurrent=None)
    assert [trial_of(state).number for _ in range(6)] == list(range(6))
    assert state.next_trial() == "wait"


def test_it_is_done_when_all_trials_are_given_out(begin) -> None:
    state = begin(num_trials=2, concurrent=2)
    trial_of(state), trial_of(state)
    finish(state, 0)
    assert state.next_trial() == "wait"  # the other one may be held, and let go on
    finish(state, 1)
    assert state.next_trial() == "done"
    assert len(state.records) == 2


@pytest.mark.parametrize("word", ["wait", "done"])
def test_a_sampler_may_have_it_wait_or_say_that_nothing_is_left(begin, word: str) -> None:
    state = begin(sampler=Saying(word))
    finish(state, trial_of(state).number)
    assert state.next_trial() == word
    assert len(state.records) == 1


def test_a_trial_that_is_held_takes_no_place_and_runs_again_before_others_when_it_is_released(begin) -> None:
    state = begin(num_trials=3, concurrent=1)
    trial_of(state)
    state.scored(0, 1, 0.5, seconds=1.0)
    state.hold(0)
    assert trial_of(state).number == 1
    state.release(0)
    assert state.next_trial() == "wait"  # one at a time
    finish(state, 1)
    assert [trial_of(state).number, state.next_trial()] == [0, "wait"]
    finish(state, 0)
    assert trial_of(state).number == 2
    state.hold(2)
    assert state.next_trial() == "wait"  # not done: it may be released
    state.ended(2, "stopped")
    assert state.next_trial() == "done"


def test_it_begins_no_further_trial_where_it_has_had_enough(begin) -> None:
    state = begin(num_trials=3, concurrent=1, enough=lambda records: "enough" if len(records) == 2 else "")
    for _ in range(2):
        finish(state, trial_of(state).number)
    assert state.next_trial() == "done"
    assert (len(state.records), state.enough()) == (2, "enough")


# --- budgets and failures


def test_it_is_done_when_its_time_is_over(begin, clock) -> None:
    state = begin(seconds=60.0)
    trial_of(state)
    clock.now += 59.9
    assert state.spent_budget() == ""
    clock.now += 0.1
    assert state.spent_budget() == "the time budget of 1 minutes is spent"
    assert state.next_trial() == "done"


def test_the_time_of_earlier_sessions_counts_and_that_of_the_interruption_does_not(begin, clock) -> None:
    state = begin(seconds=60.0)
    trial_of(state)
    clock.now += 40.0
    state.scored(0, 1, 0.5, seconds=30.0)
    clock.now += 5.0  # what was done after the last event is not known to the next session
    clock.now += 9999.0
    again = begin(seconds=60.0)
    assert again.elapsed == pytest.approx(40.0)
    clock.now += 19.0
    assert again.spent_budget() == ""
    clock.now += 1.0
    assert again.spent_budget()


def test_gpu_time_is_that_of_all_trials_times_the_share_of_each(begin) -> None:
    state = begin(gpu_seconds=3600.0, gpus=0.5, concurrent=None)
    trial_of(state), trial_of(state)
    state.scored(0, 1, 0.5, seconds=3000.0)
    state.scored(1, 1, 0.5, seconds=4000.0)
    assert state.spent_budget() == ""  # 3500 of 3600
    state.scored(1, 2, 0.5, seconds=4200.0)
    assert state.spent_budget() == "the budget of 1 GPU hours is spent"
    assert state.next_trial() == "done"
    assert begin(gpu_seconds=3600.0, gpus=0.5).spent_budget()


def test_the_seconds_of_a_trial_count_once_however_often_it_tells_of_them(begin) -> None:
    state = begin(gpu_seconds=100.0, gpus=1.0)
    trial_of(state)
    for epoch, seconds in ((1, 30.0), (2, 60.0), (3, 90.0)):
        state.scored(0, epoch, 0.5, seconds=seconds)
    state.ended(0, "completed", seconds=90.0)
    assert state.spent_budget() == ""
    trial_of(state)
    state.ended(1, "failed", message="x", seconds=10.0)
    assert state.spent_budget()


def test_many_failures_end_it_with_what_most_have_in_common(begin) -> None:
    state = begin(num_trials=9, concurrent=None, failure_limit=0.5)
    for _ in range(6):
        trial_of(state)
    for number, message in enumerate(["no lens", "too dark", "no lens"]):
        state.ended(number, "failed", message=message)
    assert state.common_failure() == ""  # three say nothing yet
    finish(state, 3)
    assert state.common_failure() == "3 of 4 trials failed, 2 of them with: no lens"
    assert state.next_trial() == "done"
    finish(state, 4)
    finish(state, 5)
    assert state.common_failure() == ""  # three of six are half, and no more


def test_what_diverged_has_not_failed(begin) -> None:
    state = begin(concurrent=None, failure_limit=0.1)
    for number in range(5):
        trial_of(state)
        state.ended(number, "diverged")
    assert state.common_failure() == ""


def test_a_search_that_goes_on_counts_its_failures_anew(begin) -> None:
    state = begin(num_trials=9, concurrent=None)
    for number in range(4):
        trial_of(state)
        state.ended(number, "failed", message="no lens")
    assert state.next_trial() == "done"
    again = begin(num_trials=9, concurrent=None)
    assert again.common_failure() == ""
    for number in range(4, 8):
        assert trial_of(again).number == number
        again.ended(number, "failed", message="too dark")
    assert again.common_failure() == "4 of 4 trials failed, 4 of them with: too dark"


# --- after an interruption


def test_interrupted_trials_come_first_with_their_checkpoints(begin) -> None:
    state = begin(concurrent=None)
    trials = [trial_of(state) for _ in range(4)]
    finish(state, 0)
    state.scored(1, 1, 0.3, seconds=4.0)
    state.saved(1, 1, "there/1")
    state.scored(1, 2, 0.4, seconds=7.0)
    state.ended(3, "stopped")

    again = begin(concurrent=None)
    first, second, third = (trial_of(again) for _ in range(3))
    assert (first.number, first.checkpoint) == (1, "there/1")
    assert first.suggestion == trials[1].suggestion
    assert (second.number, second.checkpoint) == (2, None)
    assert second.suggestion == trials[2].suggestion
    assert third.number == 4
    assert again.session == 2


def test_also_interrupted_trials_wait_for_their_turn(begin) -> None:
    state = begin(concurrent=None)
    for _ in range(3):
        trial_of(state)
    again = begin(concurrent=1)
    assert trial_of(again).number == 0
    assert again.next_trial() == "wait"
    again.ended(0, "stopped")
    assert trial_of(again).number == 1


def test_a_trial_whose_last_epoch_was_saved_has_only_to_be_called_completed(begin) -> None:
    state = begin(concurrent=None)
    trial_of(state), trial_of(state)
    finish(state, 0)
    state.scored(1, 3, 0.7, seconds=4.0)
    state.saved(1, 3, "there/1")

    again = begin(concurrent=None)
    assert (again.records[1].status, again.records[1].score, again.records[1].seconds) == ("completed", 0.7, 4.0)
    assert trial_of(again).number == 2
    assert begin().records[1].status == "completed"


def test_a_trial_whose_last_epoch_was_scored_and_not_saved_goes_on_from_its_checkpoint(begin) -> None:
    state = begin(concurrent=None)
    trial_of(state)
    state.scored(0, 1, 0.5, seconds=1.0)
    state.saved(0, 1, "there/0")
    state.scored(0, 3, 0.7, seconds=4.0)
    again = trial_of(begin())
    assert (again.number, again.checkpoint) == (0, "there/0")


@pytest.mark.parametrize("interrupted_after", range(1, 9))
def test_a_course_that_was_interrupted_suggests_what_an_undisturbed_one_would(
    begin, tmp_path, interrupted_after: int
) -> None:
    def play(path: Path, interruption: int | None) -> list[tuple]:
        """One trial at a time, each scored once and ended; the search is left and gone on with after so many steps."""
        state, steps = begin(concurrent=1, unstopped=0.3, journal=path), 0

        def step() -> None:
            nonlocal state, steps
            steps += 1
            if steps == interruption:
                state = begin(concurrent=1, unstopped=0.3, journal=path)

        while isinstance(trial := state.next_trial(), TrialRecord):
            step()
            if trial.number not in state.running:
                continue  # ordered again by the session that goes on
            state.scored(trial.number, 3, 0.1 * trial.number, seconds=1.0)
            state.ended(trial.number, "completed")
            step()
        return [(record.suggestion, record.unstopped, record.score) for record in state.records]

    undisturbed = play(tmp_path / "a.jsonl", None)
    assert len(undisturbed) == 6
    assert play(tmp_path / "b.jsonl", interrupted_after) == undisturbed


# --- trials that are never stopped


@pytest.mark.parametrize(("num_trials", "count"), [(1, 0), (2, 0), (40, 0), (41, 4), (101, 10), (1001, 100)])
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
    drawn = {min(unstopped_numbers(41, 0.1, seed=seed) - {0}) for seed in range(200)}
    assert drawn == set(range(1, 11))


def test_the_seed_draws_them() -> None:
    assert unstopped_numbers(101, 0.1, seed=3) == unstopped_numbers(101, 0.1, seed=3)
    assert unstopped_numbers(101, 0.1, seed=3) != unstopped_numbers(101, 0.1, seed=4)


def test_none_or_all_or_a_third_may_be_asked_for() -> None:
    assert unstopped_numbers(50, 0.0, seed=0) == {0}
    assert unstopped_numbers(50, 1.0, seed=0) == set(range(50))
    assert len(unstopped_numbers(31, 0.3, seed=0) - {0}) == 9


def test_a_search_gives_them_out_unstopped(begin) -> None:
    state = begin(num_trials=41, concurrent=None, unstopped=0.1)
    given = {trial.number for _ in range(41) if (trial := trial_of(state)).unstopped}
    assert given == unstopped_numbers(41, 0.1, seed=0)
    assert {record.number for record in Journal(state._journal._path).records if record.unstopped} == given
