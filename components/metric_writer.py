"""Where the metrics of a training go: to a run of the tracker, to a queue in front of one, or nowhere.

The queue makes its calls in order in a thread, again until they succeed. So a search continues while its tracking
server is away, and its metrics arrive when the server is back, each once.
"""

from __future__ import annotations

import functools
import queue
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

Status = Literal["FINISHED", "FAILED", "KILLED", "RUNNING"]
Rows = Sequence[tuple[int, Mapping[str, float | int | None]]]

#: From one attempt to the next, s: doubled each time up to the longest.
FIRST_WAIT, LONGEST_WAIT = 0.5, 15.0
#: How long an interrupted sender may take for the call that it is at.
LAST_CALL_SECONDS = 5.0


def now_ms() -> int:
    """The time as MLflow counts it: ms since 1970."""
    return int(time.time() * 1000)


class MetricWriter:
    """What a training says of itself. This one keeps nothing; `components.tracking.Run` logs to MLflow."""

    def log_params(self, params: Mapping[str, Any]) -> None: ...

    def log_metrics(self, metrics: Mapping[str, float | int | None], *, step: int = 0) -> None:
        """Log the metrics that have a value, in one call."""
        self.log_history([(step, metrics)])

    def log_history(self, rows: Rows, *, time_ms: int | None = None) -> None:
        """Log many steps at once: (step, metrics) pairs, all of one time (ms since 1970; None: now)."""

    def set_tags(self, tags: Mapping[str, Any]) -> None: ...

    def log_artifact(self, path: Path, folder: str | None = None) -> None: ...

    def log_text(self, text: str, name: str) -> None: ...

    def finish(self, status: Status = "FINISHED") -> None: ...

    def logged_steps(self, metric: str) -> set[int]:
        """The steps at which a metric is logged already."""
        return set()


def _queued(name: str) -> Any:  # noqa: ANN401 - a method of the signature of the one that it queues
    def method(self: QueuedWriter, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401
        self.call(lambda writer: getattr(writer, name)(*args, **kwargs))

    return method


class QueuedWriter(MetricWriter):
    """Passes all on to a writer through a retry queue; `open_writer` is called in the queue's thread.

    It can tell nothing of what is logged: `call` does what has to ask first.
    """

    def __init__(self, retries: RetryQueue, open_writer: Callable[[], MetricWriter]) -> None:
        self._retries, self._opened = retries, functools.cache(open_writer)  # of a call that fails, nothing is kept

    def call(self, use: Callable[[Any], None]) -> None:
        """Have a function called with the writer, after what was logged before."""
        self._retries.put(lambda: use(self._opened()))

    def log_history(self, rows: Rows, *, time_ms: int | None = None) -> None:
        # The store takes a point of the same time once: a call whose answer was lost may be made again.
        time_ms = time_ms or now_ms()
        self.call(lambda writer: writer.log_history(rows, time_ms=time_ms))

    log_params, set_tags, finish = _queued("log_params"), _queued("set_tags"), _queued("finish")
    log_artifact, log_text = _queued("log_artifact"), _queued("log_text")


class RetryQueue:
    """A context: leaving it waits until all calls are made; leaving it by an exception drops those that are not.

    patience: seconds for which a call is tried again. away: whether an error means that the server is away for now; any
    other is raised by the next `put`, or at the end. on_away: told once for each outage, in the queue's thread.
    """

    def __init__(
        self, *, patience: float, away: Callable[[Exception], bool], on_away: Callable[[Exception], None]
    ) -> None:
        self._patience, self._away, self._on_away = patience, away, on_away
        self._calls: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._failure: Exception | None = None
        self._given_up = threading.Event()
        self._thread = threading.Thread(target=self._send_all, name="retry queue", daemon=True)

    def put(self, call: Callable[[], None]) -> None:
        """Have a call made, after those before it. Raises what an earlier one has failed with."""
        self._raise_failure()
        self._calls.put(call)

    def flush(self) -> None:
        """Wait until all calls so far are made. Raises what one of them has failed with."""
        done = threading.Event()
        self._calls.put(done.set)
        while not done.wait(timeout=0.2):  # in slices, so that an interrupt is heard
            self._raise_failure()
        self._raise_failure()

    def __enter__(self) -> RetryQueue:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if error is None:
                self.flush()
        finally:
            self._given_up.set()
            self._calls.put(None)
            self._thread.join(timeout=LAST_CALL_SECONDS)

    def _raise_failure(self) -> None:
        if self._failure is not None:
            raise self._failure

    def _send_all(self) -> None:
        while (call := self._calls.get()) is not None:
            if self._given_up.is_set() or self._failure is not None:
                continue
            try:
                self._send(call)
            except Exception as failure:  # noqa: BLE001 - raised where calls are put
                self._failure = failure

    def _send(self, call: Callable[[], None]) -> None:
        until, wait = time.monotonic() + self._patience, 0.0
        while True:
            try:
                return call()
            except Exception as error:
                if self._given_up.is_set() or not self._away(error) or time.monotonic() > until:
                    raise
                if not wait:
                    self._on_away(error)
                wait = min(max(FIRST_WAIT, 2 * wait), LONGEST_WAIT)
                self._given_up.wait(timeout=wait)
