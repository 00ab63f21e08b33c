"""What Optuna is told: scores of different lengths stay apart."""

from typing import Any

import optuna
import pytest
from optuna.distributions import BaseDistribution
from optuna.samplers import RandomSampler
from optuna.trial import FrozenTrial, TrialState

from components.search.samplers.study import HistoryStudy


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


def seen(study: HistoryStudy) -> list[FrozenTrial]:
    """The trials as a sampler sees them, without those that were only asked for."""
    looking = Looking()
    study.ask(looking)
    return [trial for trial in looking.trials if trial.state != TrialState.FAIL]


@pytest.fixture
def study(lab) -> HistoryStudy:
    return HistoryStudy(lab.space(lab.optimizer, lab.rate), max_epochs=9)


def point(u: float) -> dict[str, float]:
    return {"recipe.optimizer": 1, "recipe.lr": u}


def test_a_trial_of_full_length_is_complete_with_its_last_score(lab, study) -> None:
    record = lab.record(1, point(0.25), 0.9)
    record.scores = {1: 0.95, 9: 0.9}
    assert study.follow([record]) == 1
    (trial,) = seen(study)
    assert (trial.state, trial.value, trial.params) == (TrialState.COMPLETE, 0.9, point(0.25))


def test_a_stopped_trial_is_pruned_with_its_scores_by_epoch(lab, study) -> None:
    record = lab.record(1, point(0.25), status="stopped")
    record.scores = {1: 0.8, 3: 0.85}
    study.follow([record])
    (trial,) = seen(study)
    assert (trial.state, trial.intermediate_values) == (TrialState.PRUNED, {1: 0.8, 3: 0.85})


def test_a_trial_that_was_meant_to_be_shorter_is_not_complete(lab, study) -> None:
    study.follow([lab.record(1, point(0.25), 0.99, epochs=3)])
    (trial,) = seen(study)
    assert (trial.state, trial.intermediate_values) == (TrialState.PRUNED, {3: 0.99})


def test_a_diverged_trial_is_pruned_without_a_score_and_marked(lab, study) -> None:
    record = lab.record(1, point(0.25), 0.9, status="diverged", at=3)
    assert study.follow([record]) == 1
    (trial,) = seen(study)
    assert (trial.state, trial.intermediate_values) == (TrialState.PRUNED, {})
    assert trial.user_attrs == {"diverged": True}


def test_nothing_is_learnt_from_a_failure_or_from_a_stop_before_the_first_score(lab, study) -> None:
    failed, stopped = lab.record(1, point(0.1), 0.9, status="failed"), lab.record(2, point(0.2), status="stopped")
    assert study.follow([failed, stopped]) == 0
    assert seen(study) == []


def test_a_running_trial_is_running_until_it_ends(lab, study) -> None:
    record = lab.record(1, point(0.25), 0.7, status="running", at=1)
    assert study.follow([record]) == 0
    assert [trial.state for trial in seen(study)] == [TrialState.RUNNING]
    record.status, record.scores = "completed", {1: 0.7, 9: 0.8}
    assert study.follow([record]) == 1
    assert [(trial.state, trial.value) for trial in seen(study)] == [(TrialState.COMPLETE, 0.8)]


def test_defaults_outside_the_space_are_left_out(lab, study) -> None:
    assert study.follow([lab.record(0, {}, 0.9), lab.record(1, point(0.5), 0.8)]) == 1
    assert [trial.params for trial in seen(study)] == [point(0.5)]


def test_another_history_is_begun_anew(lab, study) -> None:
    study.follow([lab.record(1, point(0.1), 0.1), lab.record(2, point(0.2), 0.2)])
    assert study.follow([lab.record(1, point(0.3), 0.3)]) == 1
    assert [trial.value for trial in seen(study)] == [0.3]
    # the same trial with another end
    assert study.follow([lab.record(1, point(0.3), 0.4)]) == 1
    assert [trial.value for trial in seen(study)] == [0.4]


def test_what_was_asked_for_leaves_nothing_behind(study) -> None:
    suggested = study.ask(RandomSampler(seed=1))
    assert set(suggested) == {"recipe.optimizer", "recipe.lr"}
    assert seen(study) == []


def test_optuna_is_silent(lab, capfd) -> None:
    study = HistoryStudy(lab.space(lab.optimizer, lab.rate), max_epochs=9)
    statuses = ("completed", "stopped", "diverged", "failed", "running")
    study.follow([lab.record(i, point(i / 9), 0.5, status=status) for i, status in enumerate(statuses)])
    study.ask(RandomSampler(seed=1))
    assert capfd.readouterr() == ("", "")
