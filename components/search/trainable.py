"""The trainable that Tune runs in a worker: a step is an epoch, and a worker runs one trial after the other.

A fault in an epoch is a result of the trial and does not end the worker: an exception, a loss that is not finite, an
epoch that does not end. Tune's own handling of failures covers lost workers and nodes, and checkpoints that cannot be
written.
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
        """Train one epoch; numbers to report: `epoch` (from 1), `score` (to maximise), `diverged` among them.

        `metrics` are kept with the trial, see `TrialRecord`.
        """
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
        # `mlflow run` hands its run over by a variable that workers inherit; nothing here may resume that run.
        os.environ.pop("MLFLOW_RUN_ID", None)
        self._open, self._checkpoint_epochs, self._timeout = open_session, checkpoint_epochs, timeout
        # One thread does all of a worker's training, so that it can be waited for; torch keeps its settings by thread.
        self._thread = _new_thread()
        self._session: Session | None = None
        self._from: str | None = None
        #: With a hung thread, or a broken CUDA context, this process cannot run another epoch.
        self._broken = False
        self._begin(config["trial"])

    def step(self) -> dict[str, Any]:
        if self._broken:
            _end_this_process()  # Tune begins the trial, the one after the fatal one, again in another process
        started = time.perf_counter()
        try:
            reported = dict(self._await(self._next_epoch))
        except _Hung as hung:
            self._session = None  # its thread holds it
            return self._ended("failed", started, message=str(hung))
        except Exception as error:  # noqa: BLE001 - it is the trial's result, and reported
            self._broken = self._broken or "CUDA error" in str(error)
            trace = traceback.format_exc()
            return self._ended("failed", started, message=_one_line(error), trace=trace)
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
        self._from = None  # what Tune brings is newer than what the configuration names

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        self._close()
        self._begin(new_config["trial"])
        return True

    def cleanup(self) -> None:
        if self._broken:
            _end_this_process()  # a hung thread would keep it from ending
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
        """The session, opened where a failure to open it is a result of the trial's."""
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
            raise _Hung(f"no end of an epoch within {minutes:g} minutes (search.epoch_timeout_minutes)")
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


class _Hung(Exception):  # noqa: N818 - not a fault of the code that raises it
    """What was waited for did not end in time."""


def _new_thread() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(max_workers=1, thread_name_prefix="trial")


def _end_this_process() -> None:
    os._exit(1)


def _one_line(error: Exception) -> str:
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}"[:MESSAGE_CHARS]
