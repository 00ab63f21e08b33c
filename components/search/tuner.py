"""Runs the trials of a search with Ray Tune.

A trial is a session that trains one epoch at a time. Tune keeps a worker between trials (`reuse_actors`), so that torch
is imported and the images are opened once per worker. Results are reported to the state and to observers in the driver,
which logs the runs: workers do not use MLflow.

A search resumes from the journal, not from Tune's own state, which is older by up to its period and lacks the scores of
the scheduler: each session is a new experiment, whose unfinished trials start from their checkpoints. Within an
experiment Tune restarts the trials of a lost node on another one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from ray import tune
from ray.tune import Callback, CheckpointConfig, Stopper
from ray.tune.experiment import Trial
from ray.tune.schedulers import FIFOScheduler, TrialScheduler
from ray.tune.search import Searcher, SearchGenerator

from components.home import environment
from components.search.checkpoints import Quota, remote_path
from components.search.rungs import EPOCH, SCORE, WORST_SCORE, StoppingRule
from components.search.state import SearchState
from components.search.trainable import EpochTrainable, OpenSession
from components.search.trial import Status, TrialRecord, best_trial

#: How often a trial is restarted from its last checkpoint after its worker or node was lost.
MAX_LOST_WORKERS = 3


class Observer(Protocol):
    """Gets the events of trials in the driver, after the state."""

    def started(self, record: TrialRecord) -> None:
        """A trial started, also after an interruption or the loss of its worker."""

    def reported(self, record: TrialRecord, result: dict[str, Any]) -> None: ...

    def ended(self, record: TrialRecord, trace: str) -> None:
        """trace: the traceback of the exception that ended the trial; empty for none."""


@dataclass(frozen=True, kw_only=True)
class TuneSettings:
    """How Tune runs the trials.

    storage: a folder or URI for checkpoints, which every worker can write. checkpoint_epochs: after which a trial is
    saved, besides its last. timeout: seconds for one epoch; the first includes opening the session. quota_bytes: for
    the checkpoints of ended trials. best: the number of the best trial so far, whose checkpoint is never removed.
    """

    storage: str
    checkpoint_epochs: tuple[int, ...]
    cpus_per_trial: float
    gpus_per_trial: float
    timeout: float
    quota_bytes: float
    best: Callable[[Sequence[TrialRecord]], int | None] = best_trial


def run_trials(
    state: SearchState,
    open_session: OpenSession,
    observers: Sequence[Observer],
    settings: TuneSettings,
    *,
    rule: StoppingRule | None,
    tick: Callable[[], None] = lambda: None,
) -> None:
    """Run the trials of the state until it has no more, in a Ray session. The same call resumes an interrupted search.

    open_session: called in a worker, for each trial. tick: called repeatedly while trials run.
    """
    if rule is not None:
        rule.replay(state.records)
        hold_waiting(state, rule)
    callback = TuneCallback(state, observers, rule, settings, tick)
    with environment(_SWITCHES):
        tune.run(
            tune.with_parameters(
                EpochTrainable,
                open_session=open_session,
                checkpoint_epochs=settings.checkpoint_epochs,
                timeout=settings.timeout,
            ),
            name=f"tune-{state.session}",  # Tune would resume an experiment of the same name
            storage_path=settings.storage,
            resources_per_trial={"cpu": settings.cpus_per_trial, "gpu": settings.gpus_per_trial},
            search_alg=_UnsavedSearch(_StateSearcher(state)),
            num_samples=2**31,  # the state decides when the search ends
            scheduler=_RuleScheduler(rule, state),
            stop=_BudgetStopper(state),
            checkpoint_config=CheckpointConfig(num_to_keep=2),  # Tune removes one before the journal records the next
            callbacks=[callback],
            max_failures=MAX_LOST_WORKERS,
            reuse_actors=True,
            raise_on_failed_trial=False,
            trial_dirname_creator=_folder_name,
            verbose=0,
        )
    callback.end_remaining()


def number_of(trial: Trial) -> int:
    """The number of a trial of Tune in the search."""
    return int(trial.config["trial"]["number"])


def hold_waiting(state: SearchState, rule: StoppingRule) -> None:
    """Of the trials of an interrupted search those wait that waited when it was interrupted."""
    for record in state.records:
        if not record.ended and record.checkpoint_epoch == record.epochs and rule.verdict(record) is None:
            state.hold(record.number)


def _folder_name(trial: Trial) -> str:
    """A trial that goes on after it has waited is another one to Tune, with a folder of its own."""
    return f"trial-{number_of(trial)}" + ("-resumed" if trial.config["trial"]["checkpoint"] else "")


#: Settings that Tune reads from the environment.
_SWITCHES = {
    "TUNE_GLOBAL_CHECKPOINT_S": "3600",  # its own snapshots are not used, and cost more with each trial
    # Tune's handler would end an interrupted search as if it were complete.
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_MAX_PENDING_TRIALS_PG": "1",
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
}


class _StateSearcher(Searcher):
    """Takes the next trial from the state whenever Tune has room for one."""

    def __init__(self, state: SearchState) -> None:
        super().__init__(metric=SCORE, mode="max")
        self._state = state

    def suggest(self, trial_id: str) -> Any:  # noqa: ANN401 - a configuration, None, or Searcher.FINISHED
        record = self._state.next_trial()
        if isinstance(record, str):
            return None if record == "wait" else Searcher.FINISHED
        suggestion = record.suggestion.to_dict()
        return {"trial": {"number": record.number, "suggestion": suggestion, "checkpoint": record.checkpoint}}

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """The callback reports to the state, with more detail."""


class _UnsavedSearch(SearchGenerator):
    """Writes no searcher state, since nothing reads it, and Tune 2.60 may copy such a file while it is renamed."""

    def save_to_dir(self, dirpath: str, session_str: str) -> None: ...  # type: ignore[override] # as in its base


class _RuleScheduler(FIFOScheduler):
    """Asks the stopping rule at every result; trials start in the order of their numbers."""

    def __init__(self, rule: StoppingRule | None, state: SearchState) -> None:
        super().__init__()  # type: ignore[no-untyped-call] # Ray's has no types
        self._rule, self._state = rule, state

    def on_trial_result(self, tune_controller: Any, trial: Trial, result: dict[str, Any]) -> str:  # noqa: ANN401
        if self._rule is None or EPOCH not in result:
            return TrialScheduler.CONTINUE
        number = number_of(trial)
        unstopped = self._state.records[number].unstopped
        continues = self._rule.continues(number, result[EPOCH], result[SCORE], unstopped=unstopped)
        return TrialScheduler.CONTINUE if continues else TrialScheduler.STOP

    def on_trial_complete(self, tune_controller: Any, trial: Trial, result: dict[str, Any]) -> None:  # noqa: ANN401
        # The callback reports a trial that ended without a score, since it knows the last epoch.
        if self._rule is not None and result.get("outcome") == "scored":
            self._rule.ended(number_of(trial), result[EPOCH], result[SCORE])


class _BudgetStopper(Stopper):
    """Ends all trials when a budget is spent, or when too many have failed."""

    def __init__(self, state: SearchState) -> None:
        self._state = state

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        return False

    def stop_all(self) -> bool:
        return bool(self._state.spent_budget() or self._state.common_failure())


@dataclass
class TuneCallback(Callback):
    """Reports the events of Tune's trials to the state, then to the observers in their order."""

    state: SearchState
    observers: Sequence[Observer]
    rule: StoppingRule | None
    settings: TuneSettings
    tick: Callable[[], None]

    def __post_init__(self) -> None:
        self._quota = Quota(self.state, self.settings.quota_bytes, best=self.settings.best)
        self._fault: Exception | None = None

    def on_step_end(self, iteration: int, trials: list[Trial], **info: Any) -> None:  # noqa: ANN401
        if self._fault is not None:
            raise self._fault
        for number in sorted(self.state.waiting):
            self._settle(self.state.records[number])
        self.tick()

    def on_trial_start(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:  # noqa: ANN401
        for observer in self.observers:
            observer.started(self._record(trial))

    def on_trial_result(
        self,
        iteration: int,
        trials: list[Trial],
        trial: Trial,
        result: dict[str, Any],
        **info: Any,  # noqa: ANN401
    ) -> None:
        record = self._record(trial)
        if result["outcome"] == "scored":
            self.state.scored(
                record.number,
                int(result[EPOCH]),
                float(result[SCORE]),
                seconds=record.seconds + result["seconds"],
                metrics=result["metrics"],
            )
        for observer in self.observers:
            observer.reported(record, result)

    def on_trial_save(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:  # noqa: ANN401
        manager = trial.run_metadata.checkpoint_manager
        saved = manager.latest_checkpoint_result if manager is not None else None
        if saved is not None and EPOCH in saved.metrics:
            place = remote_path(saved.checkpoint, self.settings.storage)
            self.state.saved(number_of(trial), int(saved.metrics[EPOCH]), place)

    def on_trial_complete(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:  # noqa: ANN401
        record, result = self._record(trial), trial.last_result or {}
        if record.ended:
            return
        try:
            if result.get("outcome") in ("diverged", "failed"):
                seconds = record.seconds + result["seconds"]
                self._end(
                    record, result["outcome"], result.get("message", ""), result.get("trace", ""), seconds=seconds
                )
            elif _ending(record) == "completed":
                self._end(record, "completed", "", "", seconds=None)
            else:
                self.state.hold(record.number)
                self._settle(record)
        except Exception as fault:  # noqa: BLE001 - Tune would ignore it here and never end; raised in on_step_end
            self._fault = fault

    def on_trial_error(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:  # noqa: ANN401
        record = self._record(trial)
        self._end(record, "failed", *_why_lost(trial), seconds=None)

    def end_remaining(self) -> None:
        """End the trials that Tune stopped all at once, without a callback. Raises where there is no reason for that.

        After too many failures they are not ended: a resumed search continues them.
        """
        reason = self.state.spent_budget()
        if not reason and self.state.common_failure():
            return
        # Also trials of an earlier session that were not resumed.
        left = [record.number for record in self.state.records if not record.ended]
        if left and not reason:
            raise RuntimeError(f"Ray Tune stopped before trials {left} were complete; the same command resumes them")
        for number in left:
            record = self.state.records[number]
            self._end(record, _ending(record), reason, "", seconds=None)

    def _settle(self, record: TrialRecord) -> None:
        """End a trial that the rule has stopped, let it go on, or let it wait for others."""
        verdict = False if self.rule is None else self.rule.verdict(record)
        if verdict:
            self.state.release(record.number)
        elif verdict is False:
            self._end(record, "stopped", "", "", seconds=None)

    def _end(self, record: TrialRecord, status: Status, message: str, trace: str, *, seconds: float | None) -> None:
        self.state.ended(record.number, status, message=message, seconds=seconds)
        if self.rule is not None and status in ("diverged", "failed"):
            self.rule.ended(record.number, record.epochs + 1, WORST_SCORE)
        for observer in self.observers:
            observer.ended(record, trace)
        self._quota.enforce()

    def _record(self, trial: Trial) -> TrialRecord:
        return self.state.records[number_of(trial)]


def _ending(record: TrialRecord) -> Status:
    """The status of a trial that ended without a failure."""
    return "completed" if record.epochs >= record.suggestion.epochs else "stopped"


def _why_lost(trial: Trial) -> tuple[str, str]:
    """Why a worker was lost: a message, and the full error."""
    path = trial.error_file
    if not path or not Path(path).is_file():
        return "its worker was lost for an unknown reason", ""
    text = Path(path).read_text(encoding="utf-8")
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    what = "its worker was lost" if "DiedError" in text or not lines else "it could not be resumed"
    return (f"{what}: {lines[-1]}" if lines else what), text
