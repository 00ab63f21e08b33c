"""Calls to a server that may be away for a while: done in order by a thread, again until they succeed.

So a search goes on while its tracking server is down, and what it had to say arrives when the server is back.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from types import TracebackType

#: From one attempt to the next: doubled each time up to the longest.
FIRST_WAIT, LONGEST_WAIT = 0.5, 15.0
#: How long an interrupted sender may take for the call that it is at.
LAST_CALL_SECONDS = 5.0


class Outbox:
    """A context: leaving it waits until all is sent; leaving it by an exception drops what is not.

    patience: seconds for which a call is tried again. away: whether an error means that the server is away for now; any
    other is raised by the next `put`, or at the end. on_away: told once for each outage, in the sender's thread.
    """

    def __init__(
        self, *, patience: float, away: Callable[[Exception], bool], on_away: Callable[[Exception], None]
    ) -> None:
        self._patience, self._away, self._on_away = patience, away, on_away
        self._calls: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._failure: Exception | None = None
        self._given_up = threading.Event()
        self._thread = threading.Thread(target=self._send_all, name="outbox", daemon=True)

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

    def __enter__(self) -> Outbox:
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
