"""What Optuna is told: scores of different lengths stay apart."""

from typing import Any

import optuna
import pytest
from optuna.distributions import BaseDistribution
from optuna.samplers import RandomSampler
from optuna.trial import FrozenTrial, TrialState

from components.search.samplers.study import ask, is_informative
from components.search.trial import TrialRecord


class Looking(RandomSampler):
    """Keeps the trials that Optuna shows a sampler."""

    def __init__(self) -> None:
        super().__init__(seed=0)
        self.trials: list[FrozenTrial] = []

    def sample_independent(
        self, study: optuna.Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        self.trials = [t for t in study.get_trials() if t.number != trial.number]
        return super().sample_independent(study, trial, param_name, param_distribution)


@pytest.fixture
def seen(lab):
    """The trials of a history as a sampler sees them."""

    def look(*history: TrialRecord) -> list[FrozenTrial]:
        looking = Looking()
        ask(lab.space(lab.optimizer, lab.rate), history, looking, max_epochs=9)
        return looking.trials

    return look


def point(u: float) -> dict[str, float]:
    return {"recipe.optimizer": 1, "recipe.lr": u}


def test_a_trial_of_full_length_is_complete_with_its_last_score(lab, seen) -> None:
    record = lab.record(1, point(0.25), 0.9)
    record.scores = {1: 0.95, 9: 0.9}
    assert is_informative(record)
    (trial,) = seen(record)
    assert (trial.state, trial.value, trial.params) == (TrialState.COMPLETE, 0.9, point(0.25))


def test_a_stopped_trial_is_pruned_with_its_scores_by_epoch(lab, seen) -> None:
    record = lab.record(1, point(0.25), status="stopped")
    record.scores = {1: 0.8, 3: 0.85}
    (trial,) = seen(record)
    assert (trial.state, trial.intermediate_values) == (TrialState.PRUNED, {1: 0.8, 3: 0.85})


def test_a_trial_that_was_meant_to_be_shorter_is_not_complete(lab, seen) -> None:
    (trial,) = seen(lab.record(1, point(0.25), 0.99, epochs=3))
    assert (trial.state, trial.intermediate_values) == (TrialState.PRUNED, {3: 0.99})


def test_a_diverged_trial_is_pruned_without_a_score(lab, seen) -> None:
    record = lab.record(1, point(0.25), 0.9, status="diverged", at=3)
    assert is_informative(record)
    (trial,) = seen(record)
    assert (trial.state, trial.intermediate_values) == (TrialState.PRUNED, {})


def test_nothing_is_learnt_from_a_failure_or_from_a_stop_before_the_first_score(lab, seen) -> None:
    failed, stopped = lab.record(1, point(0.1), 0.9, status="failed"), lab.record(2, point(0.2), status="stopped")
    assert not is_informative(failed)
    assert not is_informative(stopped)
    assert seen(failed, stopped) == []


def test_a_running_trial_is_running_until_it_ends(lab, seen) -> None:
    record = lab.record(1, point(0.25), 0.7, status="running", at=1)
    assert not is_informative(record)
    assert [trial.state for trial in seen(record)] == [TrialState.RUNNING]
    record.status, record.scores = "completed", {1: 0.7, 9: 0.8}
    assert [(trial.state, trial.value) for trial in seen(record)] == [(TrialState.COMPLETE, 0.8)]


def test_defaults_outside_the_space_are_left_out(lab, seen) -> None:
    defaults = lab.record(0, {}, 0.9)
    assert not is_informative(defaults)
    assert [trial.params for trial in seen(defaults, lab.record(1, point(0.5), 0.8))] == [point(0.5)]


def test_optuna_is_silent(lab, seen, capfd) -> None:
    statuses = ("completed", "stopped", "diverged", "failed", "running")
    seen(*(lab.record(i, point(i / 9), 0.5, status=status) for i, status in enumerate(statuses)))
    assert capfd.readouterr() == ("", "")
