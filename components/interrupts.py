"""Ctrl-C and requests to end, so that they neither tear a write apart nor are heard twice.

Python raises in the main thread, between any two of its instructions: also between a database's commit and the release
of its lock, which then stays until the interrupted frames are gone. (Of writes to a SQLite store that were interrupted
at random, one in seven left it locked for the call that was to end the run.)
"""

from __future__ import annotations

import contextlib
import functools
import signal
import threading
import time
from collections.abc import Iterator, Mapping
from types import FrameType
from typing import Any, TypeVar, cast

T = TypeVar("T")

STOPPING = (signal.SIGINT, signal.SIGTERM)
#: Under `mlflow run` one Ctrl-C arrives twice: from the terminal, and as the launcher's SIGTERM soon after it.
ECHO_SECONDS = 5.0


def interrupt_once_per_request() -> None:
    """Have either signal raise `KeyboardInterrupt`, and what follows within seconds be ignored as its echo.

    A later one interrupts again: Python drops an interrupt that strikes in a destructor.
    """
    heard = -ECHO_SECONDS

    def interrupt(number: int, frame: FrameType | None) -> None:
        nonlocal heard
        now = time.monotonic()
        if now - heard >= ECHO_SECONDS:
            heard = now
            raise KeyboardInterrupt

    for number in STOPPING:
        signal.signal(number, interrupt)


@contextlib.contextmanager
def ignored() -> Iterator[None]:
    """Ignore the signals while the block runs: it ends what an interrupt has begun to end."""
    with _handled_by(signal.SIG_IGN):
        yield


@contextlib.contextmanager
def held_back() -> Iterator[None]:
    """Let the block finish before a signal is heard."""
    received: list[int] = []
    try:
        with _handled_by(lambda number, frame: received.append(number)):
            yield
    finally:
        if received:
            signal.raise_signal(received[0])


def with_whole_calls(target: T) -> T:
    """The same object, but for this: none of its methods is interrupted before it has returned."""
    return cast(T, _WholeCalls(target))


class _WholeCalls:
    def __init__(self, target: object) -> None:
        self._target = target

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - whatever the target has
        found = getattr(self._target, name)
        if not callable(found):
            return found

        @functools.wraps(found)
        def whole(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401
            with held_back():
                return found(*args, **kwargs)

        return whole


@contextlib.contextmanager
def _handled_by(handler: Any) -> Iterator[None]:  # noqa: ANN401 - what `signal.signal` takes
    if threading.current_thread() is not threading.main_thread():
        yield  # signals are heard in the main thread only
        return
    own = {number: signal.getsignal(number) or signal.SIG_DFL for number in STOPPING}
    try:
        _handle(dict.fromkeys(STOPPING, handler))
        yield
    finally:
        try:
            _handle(own)
        except BaseException:  # the first is back and has interrupted; what follows is its echo
            _handle(own)
            raise


def _handle(handlers: Mapping[signal.Signals, Any]) -> None:
    for number, handler in handlers.items():
        signal.signal(number, handler)
