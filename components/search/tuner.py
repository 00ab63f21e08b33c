"""Ray Tune with ASHA (Li et al. 2018) over trials that are known beforehand. The only `ray.tune` of the project.

A trial is a session that trains one epoch at a time. The class trainable keeps its worker between trials
(`reuse_actors`), so that torch is imported and the images are opened once per worker. What happens to trials is told to
an observer in the driver, which is where runs are logged: workers know nothing of MLflow.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

from ray import tune
from ray.tune import Callback, CheckpointConfig, Trainable
from ray.tune.experiment import Trial
from ray.tune.schedulers import AsyncHyperBandScheduler

#: Tune keeps its own state this often, so that a killed driver loses at most so much.
STATE_SECONDS = "1"
#: The folder that Tune makes below the storage.
EXPERIMENT = "tune"
#: What ASHA has seen, beside Tune's own state: that brings back the trials, but not their scheduler.
RUNGS_FILE = "rungs.pkl"
#: The score of each trial after each epoch: Tune itself keeps the last one alone.
SCORES_FILE = "scores.json"
SCORE = "score"
#: What a diverged trial tells ASHA, which would let a NaN go on; its result has no score.
WORST_SCORE = 0.0

TrialStatus = Literal["completed", "stopped", "diverged", "failed"]


class Session(Protocol):
    """One trial in progress, inside a worker."""

    def next_epoch(self) -> Mapping[str, Any]:
        """Train one epoch; numbers to report, `score` (to maximise) and `diverged` among them."""

    def save(self, path: Path) -> None: ...

    def load(self, path: Path) -> None: ...


class Observer(Protocol):
    """Told in the driver what happens to the trials, each by its index."""

    def started(self, index: int) -> None: ...

    def reported(self, index: int, result: Mapping[str, Any]) -> None: ...

    def ended(self, index: int, status: TrialStatus, message: str) -> None: ...


@dataclass(frozen=True, kw_only=True)
class TrialResult:
    """How a trial ended, and the message of a failure.

    epochs: run, a diverged one among them. score: the last one; None if the trial failed or diverged.
    scores: after each epoch, those in which a trial diverged or failed left out.
    """

    index: int
    status: TrialStatus
    epochs: int
    score: float | None
    scores: tuple[float, ...]
    seconds: float
    message: str


@dataclass(frozen=True, kw_only=True)
class TuneSettings:
    """Everything Tune needs to know beside the trials."""

    storage: Path
    max_epochs: int
    grace_epochs: int
    reduction_factor: int
    concurrent: int
    cpus_per_trial: float
    gpus_per_trial: float


def run_trials(
    num_trials: int, open_session: Callable[[int], Session], observer: Observer, settings: TuneSettings
) -> list[TrialResult]:
    """Run trials 0 … num_trials − 1 under ASHA; go on where an interrupted search stopped.

    `open_session` is called in a worker. Ray must be up. Results come back in the order of the trials.
    """
    os.environ["TUNE_GLOBAL_CHECKPOINT_S"] = STATE_SECONDS
    # Tune's own handler would end an interrupted search as if it were complete.
    os.environ["TUNE_DISABLE_SIGINT_HANDLER"] = "1"
    rungs = rung_epochs(settings)
    # Asked to resume where there is nothing to resume, Tune writes a traceback to the terminal.
    begun = any((settings.storage / EXPERIMENT).glob("experiment_state-*.json"))
    scheduler = AsyncHyperBandScheduler(
        time_attr="training_iteration",
        metric=SCORE,
        mode="max",
        max_t=settings.max_epochs,
        grace_period=settings.grace_epochs,
        reduction_factor=settings.reduction_factor,
    )
    seen = settings.storage / RUNGS_FILE
    if begun and seen.is_file():
        scheduler.restore(str(seen))
    scores = _KeepScores(settings.storage / SCORES_FILE, begun=begun)
    trainable = tune.with_parameters(_EpochTrainable, open_session=open_session, rungs=rungs)
    analysis = tune.run(
        trainable,
        name=EXPERIMENT,
        config={"trial": tune.grid_search(list(range(num_trials)))},
        storage_path=str(settings.storage),
        resources_per_trial={"cpu": settings.cpus_per_trial, "gpu": settings.gpus_per_trial},
        scheduler=scheduler,
        stop={"training_iteration": settings.max_epochs},
        checkpoint_config=CheckpointConfig(num_to_keep=1),
        callbacks=[scores, _Relay(observer, settings.max_epochs), _KeepRungs(scheduler, seen)],
        max_concurrent_trials=settings.concurrent,
        reuse_actors=True,
        raise_on_failed_trial=False,
        resume="AUTO" if begun else False,
        verbose=0,
    )
    unfinished = [trial.config["trial"] for trial in analysis.trials if not trial.is_finished()]
    if unfinished:
        raise RuntimeError(f"Ray Tune stopped before trials {unfinished} were done; the same command goes on with them")
    results = (_result(trial, settings.max_epochs, scores.of(trial)) for trial in analysis.trials)
    return sorted(results, key=lambda result: result.index)


def rung_epochs(settings: TuneSettings) -> tuple[int, ...]:
    """Epochs at which ASHA compares, and at which a checkpoint is kept."""
    rungs, epoch = [], settings.grace_epochs
    while epoch < settings.max_epochs:
        rungs.append(epoch)
        epoch *= settings.reduction_factor
    return (*rungs, settings.max_epochs)


class _EpochTrainable(Trainable):
    """Tune's face of a session: a step is an epoch."""

    def setup(  # type: ignore[override]  # tune.with_parameters adds the keywords
        self, config: dict[str, Any], *, open_session: Callable[[int], Session], rungs: tuple[int, ...]
    ) -> None:
        # `mlflow run` hands its run over by a variable that workers inherit; nothing here may resume that run.
        os.environ.pop("MLFLOW_RUN_ID", None)
        self._open, self._rungs = open_session, rungs
        self._session = open_session(config["trial"])

    def step(self) -> dict[str, Any]:
        result = dict(self._session.next_epoch())
        diverged = bool(result["diverged"]) or not math.isfinite(result[SCORE])
        if diverged:
            result |= {SCORE: WORST_SCORE, "done": True}
        epoch = self.iteration + 1
        return result | {"diverged": diverged, "should_checkpoint": not diverged and epoch in self._rungs}

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        self._session.save(Path(checkpoint_dir) / "session.pt")

    def load_checkpoint(self, checkpoint_dir: str | None) -> None:  # type: ignore[override]
        assert checkpoint_dir is not None
        self._session.load(Path(checkpoint_dir) / "session.pt")

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        self._session = self._open(new_config["trial"])
        return True


class _Relay(Callback):
    """Hands Tune's events to the observer."""

    def __init__(self, observer: Observer, max_epochs: int) -> None:
        self._observer, self._max_epochs = observer, max_epochs

    def on_trial_start(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:  # noqa: ANN401
        self._observer.started(trial.config["trial"])

    def on_trial_result(
        self,
        iteration: int,
        trials: list[Trial],
        trial: Trial,
        result: dict[str, Any],
        **info: Any,  # noqa: ANN401
    ) -> None:
        self._observer.reported(trial.config["trial"], result)

    def on_trial_complete(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:  # noqa: ANN401
        result = _result(trial, self._max_epochs, ())
        self._observer.ended(result.index, result.status, result.message)

    def on_trial_error(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:  # noqa: ANN401
        result = _result(trial, self._max_epochs, ())
        self._observer.ended(result.index, "failed", result.message)


class _KeepScores(Callback):
    """Writes down every score, so that a search that goes on knows those of the trials that ended before."""

    def __init__(self, path: Path, *, begun: bool) -> None:
        self._path = path
        self._scores: dict[str, list[float]] = {}
        if begun and path.is_file():
            self._scores = json.loads(path.read_text(encoding="utf-8"))

    def of(self, trial: Trial) -> tuple[float, ...]:
        return tuple(self._scores.get(str(trial.config["trial"]), ()))

    def on_trial_result(
        self,
        iteration: int,
        trials: list[Trial],
        trial: Trial,
        result: dict[str, Any],
        **info: Any,  # noqa: ANN401
    ) -> None:
        key, epoch = str(trial.config["trial"]), int(result["training_iteration"])
        # A trial that goes on from a checkpoint, or begins anew, replaces what it told before of these epochs.
        before = self._scores.get(key, [])[: epoch - 1]
        self._scores[key] = before if result["diverged"] else [*before, float(result[SCORE])]
        temporary = self._path.with_name(self._path.name + ".tmp")
        temporary.write_text(json.dumps(self._scores), encoding="utf-8")
        temporary.replace(self._path)


class _KeepRungs(Callback):
    """Writes down what ASHA has seen, so that a search that goes on stops the trials that it would have stopped."""

    def __init__(self, scheduler: AsyncHyperBandScheduler, path: Path) -> None:
        self._scheduler, self._path = scheduler, path

    def on_trial_complete(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:  # noqa: ANN401
        temporary = self._path.with_name(self._path.name + ".tmp")
        self._scheduler.save(str(temporary))
        temporary.replace(self._path)


def _result(trial: Trial, max_epochs: int, scores: tuple[float, ...]) -> TrialResult:
    last = trial.last_result or {}
    epochs = int(last.get("training_iteration", 0))
    message = ""
    status: TrialStatus
    if trial.status == Trial.ERROR:
        status, message = "failed", _last_line(trial)
    elif last.get("diverged"):
        status = "diverged"
    else:
        status = "completed" if epochs >= max_epochs else "stopped"
    return TrialResult(
        index=trial.config["trial"],
        status=status,
        epochs=epochs,
        score=None if status in ("failed", "diverged") else last.get(SCORE),
        scores=scores,
        seconds=float(last.get("time_total_s", 0.0)),
        message=message,
    )


def _last_line(trial: Trial) -> str:
    """The message of the exception that ended a trial, without its traceback."""
    path = trial.error_file
    if not path or not Path(path).is_file():
        return "failed without a message"
    lines = [line.strip() for line in Path(path).read_text(encoding="utf-8").splitlines() if line.strip()]
    return lines[-1] if lines else "failed without a message"
