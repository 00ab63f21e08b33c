"""The trainable that Tune runs in a worker: a step is an epoch, and a worker runs one trial after another.

An exception, a loss that is not finite, or a timeout in an epoch is reported as the result of the trial and does not
end the worker. Tune itself handles lost workers and nodes, and checkpoints that cannot be written.
"""

from __future__ import annotations

import math
import os
import time
import traceback
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any, Protocol, TypeVar

from ray.tune import Checkpoint, Trainable

from components.search.rungs import EPOCH, SCORE, WORST_SCORE
from components.search.trial import Suggestion

T = TypeVar("T")

MESSAGE_CHARS = 300


class Session(Protocol):
    """One trial in progress, inside a worker."""

    def next_epoch(self) -> Mapping[str, Any]:
        """Train one epoch; its `epoch` (from 1), `score` (to maximise), `diverged` and `metrics`."""
        ...

    def save(self, folder: Path) -> None: ...

    def load(self, folder: Path) -> None: ...

    def close(self) -> None: ...


OpenSession = Callable[[Suggestion], Session]


class EpochTrainable(Trainable):
    """Opens a session for each trial, and trains an epoch at each step."""

    def setup(  # type: ignore[override]  # tune.with_parameters adds the keywords
        self,
        config: dict[str, Any],
        *,
        open_session: OpenSession,
        checkpoint_epochs: tuple[int, ...],
        timeout: float,
    ) -> None:
        # `mlflow run` passes its run by a variable that workers inherit; nothing here may resume that run.
        os.environ.pop("MLFLOW_RUN_ID", None)
        self._open, self._checkpoint_epochs, self._timeout = open_session, checkpoint_epochs, timeout
        # One thread runs all training, so that the worker can time out; torch keeps its settings by thread.
        self._thread = _new_thread()
        self._session: Session | None = None
        self._from: str | None = None
        #: After a timeout or a CUDA error this process cannot run another epoch.
        self._broken = False
        self._begin(config["trial"])

    def step(self) -> dict[str, Any]:
        if self._broken:
            _end_this_process()  # Tune restarts this trial, which follows the fatal one, in another process
        started = time.perf_counter()
        try:
            reported = dict(self._await(self._next_epoch))
        except _EpochTimeoutError as timeout:
            self._session = None  # its thread still uses it
            return self._ended("failed", started, message=str(timeout))
        except Exception as error:  # noqa: BLE001 - reported as the result of the trial
            self._broken = self._broken or "CUDA error" in str(error)
            text = f"{type(error).__name__}: {' '.join(str(error).split())}"
            return self._ended("failed", started, message=text[:MESSAGE_CHARS], trace=traceback.format_exc())
        if reported["diverged"] or not math.isfinite(reported[SCORE]):
            return self._ended("diverged", started, reported=reported)
        epoch = int(reported[EPOCH])
        self._last_epoch = epoch
        done = epoch >= self._suggestion.epochs
        saves = done or epoch in self._checkpoint_epochs
        return {"metrics": {}, **reported} | {
            "outcome": "scored",
            "seconds": time.perf_counter() - started,
            "done": done,
            "should_checkpoint": saves,
        }

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        session = self._session
        if session is not None:
            self._await(lambda: session.save(Path(checkpoint_dir)))

    def load_checkpoint(self, checkpoint_dir: str | None) -> None:  # type: ignore[override]
        assert checkpoint_dir is not None
        self._await(lambda: self._opened().load(Path(checkpoint_dir)))
        self._from = None  # Tune's checkpoint is newer than that of the configuration

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        self._close()
        self._begin(new_config["trial"])
        return True

    def cleanup(self) -> None:
        if self._broken:
            _end_this_process()  # the thread that timed out would block a normal exit
        self._close()
        self._thread.shutdown(wait=False)

    def _begin(self, trial: dict[str, Any]) -> None:
        self._suggestion = Suggestion(**trial["suggestion"])
        self._from = trial["checkpoint"]
        self._last_epoch = 0

    def _next_epoch(self) -> Mapping[str, Any]:
        session = self._opened()
        if self._from is not None:
            with Checkpoint(self._from).as_directory() as folder:
                session.load(Path(folder))
            self._from = None
        return session.next_epoch()

    def _opened(self) -> Session:
        """The session; it is opened in the first epoch, so that a failure is a result of the trial."""
        if self._session is None:
            self._session = self._open(self._suggestion)
        return self._session

    def _close(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            self._await(session.close)

    def _await(self, work: Callable[[], T]) -> T:
        future = self._thread.submit(work)
        if not wait([future], timeout=self._timeout).done:
            self._thread, self._broken = _new_thread(), True
            minutes = self._timeout / 60
            raise _EpochTimeoutError(f"no end of an epoch within {minutes:g} minutes (search.epoch_timeout_minutes)")
        return future.result()

    def _ended(
        self,
        outcome: str,
        started: float,
        *,
        message: str = "",
        trace: str = "",
        reported: dict[str, Any] | None = None,
    ) -> dict[str, Any]:
        return {"metrics": {}, **(reported or {})} | {
            "outcome": outcome,
            EPOCH: self._last_epoch + 1,
            SCORE: WORST_SCORE,
            "diverged": outcome == "diverged",
            "message": message,
            "trace": trace,
            "seconds": time.perf_counter() - started,
            "done": True,
            "should_checkpoint": False,
        }


class _EpochTimeoutError(Exception):
    """An epoch took too long."""


def _new_thread() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(max_workers=1, thread_name_prefix="trial")


def _end_this_process() -> None:
    os._exit(1)
