"""Metrics for a server that may be away: their order, their repetition, and what becomes of errors."""

import itertools
import threading
import time
from types import SimpleNamespace

import pytest

from components import metric_writer as module
from components.metric_writer import MetricWriter, QueuedWriter, RetryQueue


class Away(Exception):  # noqa: N818
    """The server does not answer."""


class Server:
    """Takes calls, but is away for some of them."""

    def __init__(self, away_for: int = 0) -> None:
        self.taken: list[object] = []
        self.attempts = 0
        self._away_for = away_for

    def take(self, what: object) -> None:
        self.attempts += 1
        if self._away_for:
            self._away_for -= 1
            raise Away("no answer")
        self.taken.append(what)

    def leave(self, times: int) -> None:
        self._away_for = times


@pytest.fixture(autouse=True)
def quick(monkeypatch) -> None:
    monkeypatch.setattr(module, "FIRST_WAIT", 0.01)
    monkeypatch.setattr(module, "LONGEST_WAIT", 0.04)


@pytest.fixture
def told() -> list[str]:
    return []


@pytest.fixture
def opened(told):
    def make(*, patience: float = 30.0) -> RetryQueue:
        return RetryQueue(
            patience=patience,
            away=lambda error: isinstance(error, Away),
            on_away=lambda error: told.append(str(error)),
        )

    return make


def test_calls_are_made_in_their_order_by_one_thread(opened) -> None:
    made: list[tuple[int, str]] = []
    with opened() as box:
        for number in range(50):
            box.put(lambda number=number: made.append((number, threading.current_thread().name)))
    assert made == [(number, "retry queue") for number in range(50)]


def test_whoever_puts_a_call_does_not_wait_for_it(opened) -> None:
    go, made = threading.Event(), []
    with opened() as box:
        box.put(go.wait)
        box.put(lambda: made.append("after"))
        assert made == []
        go.set()  # which a put that waits would never come to
    assert made == ["after"]


def test_flush_waits_until_all_is_made(opened) -> None:
    made: list[int] = []
    with opened() as box:
        box.put(lambda: time.sleep(0.1))
        box.put(lambda: made.append(1))
        box.flush()
        assert made == [1]
        box.put(lambda: made.append(2))
        box.flush()
        assert made == [1, 2]


def test_a_call_is_made_again_until_the_server_is_back_and_those_after_it_wait(opened, told) -> None:
    server = Server(away_for=4)
    with opened() as box:
        for what in "abc":
            box.put(lambda what=what: server.take(what))
    assert server.taken == ["a", "b", "c"]
    assert server.attempts == 7
    assert told == ["no answer"]


def test_each_outage_is_told_once(opened, told) -> None:
    server = Server(away_for=3)
    with opened() as box:
        box.put(lambda: server.take("a"))
        box.flush()
        server.leave(2)
        box.put(lambda: server.take("b"))
        box.put(lambda: server.take("c"))
    assert told == ["no answer", "no answer"]
    assert server.taken == ["a", "b", "c"]


def test_attempts_come_ever_more_seldom_up_to_the_longest_wait(opened, monkeypatch) -> None:
    server, waits = Server(away_for=6), []
    with opened() as box:
        monkeypatch.setattr(box._given_up, "wait", lambda timeout: waits.append(timeout))
        box.put(lambda: server.take("a"))
    assert waits == [0.01, 0.02, 0.04, 0.04, 0.04, 0.04]
    assert server.taken == ["a"]


def test_after_its_patience_the_error_is_raised(opened, monkeypatch) -> None:
    server = Server(away_for=10**6)
    monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: 10.0 * server.attempts))
    with pytest.raises(Away), opened(patience=25) as box:
        box.put(lambda: server.take("a"))
    assert server.attempts == 3


def test_another_error_is_raised_by_the_next_put_and_nothing_is_made_after_it(opened, told, waiting) -> None:
    made: list[str] = []

    def wrong() -> None:
        raise ValueError("no such run")

    with pytest.raises(ValueError, match="no such run"), opened() as box:  # noqa: PT012
        box.put(wrong)
        box.put(lambda: made.append("after"))
        waiting(lambda: box._failure is not None)
        box.put(lambda: made.append("later"))
        raise AssertionError("the put should have raised")
    assert (made, told) == ([], [])


@pytest.mark.parametrize("flushes", [True, False])
def test_another_error_is_raised_at_the_end_or_by_a_flush(opened, flushes: bool) -> None:
    def wrong() -> None:
        raise ValueError("no such run")

    with pytest.raises(ValueError, match="no such run"), opened() as box:  # noqa: PT012
        box.put(wrong)
        if flushes:
            box.flush()
            raise AssertionError("the flush should have raised")


def test_its_thread_ends_with_it_also_after_an_error(opened) -> None:
    def wrong() -> None:
        raise ValueError("no such run")

    box = opened()
    with box:
        box.put(lambda: None)
    assert not box._thread.is_alive()
    box = opened()
    with pytest.raises(ValueError, match="no such run"), box:
        box.put(wrong)
    assert not box._thread.is_alive()


@pytest.mark.parametrize("kind", [KeyboardInterrupt, RuntimeError])
def test_left_by_an_exception_it_drops_the_rest_and_returns_soon(opened, kind: type[BaseException]) -> None:
    server, made = Server(away_for=10**6), []
    with pytest.raises(kind), opened() as box:  # noqa: PT012
        box.put(lambda: server.take("a"))
        box.put(lambda: made.append("b"))
        raise kind
    assert (server.taken, made) == ([], [])
    assert not box._thread.is_alive()


def test_left_by_an_exception_it_waits_no_longer_for_a_call_than_its_limit(opened, monkeypatch) -> None:
    monkeypatch.setattr(module, "LAST_CALL_SECONDS", 0.2)
    go, called = threading.Event(), threading.Event()

    def call() -> None:
        called.set()
        go.wait()

    with pytest.raises(RuntimeError, match="left"), opened() as box:  # noqa: PT012
        box.put(call)
        called.wait()
        raise RuntimeError("left")
    assert box._thread.is_alive()  # still in the call
    go.set()


def test_an_error_of_whoever_is_told_of_an_outage_is_raised_too(told) -> None:
    def complain(error: Exception) -> None:
        raise LookupError("nobody to tell")

    server = Server(away_for=1)
    box = RetryQueue(patience=30, away=lambda error: isinstance(error, Away), on_away=complain)
    with pytest.raises(LookupError), box:
        box.put(lambda: server.take("a"))


# --- a writer behind the queue


class Writer(MetricWriter):
    """Notes what it is given, as a call of its name."""

    def __init__(self) -> None:
        self.said: list[tuple] = []

    def log_params(self, params) -> None:
        self.said.append(("params", params))

    def log_history(self, rows, *, time_ms=None) -> None:
        self.said.append(("history", rows, time_ms))

    def finish(self, status="FINISHED") -> None:
        self.said.append(("finish", status))


def test_a_queued_writer_passes_all_on_in_order_and_opens_what_is_behind_it_once(opened) -> None:
    server, behind, openings = Server(away_for=2), Writer(), []

    def open_writer() -> Writer:
        server.take("open")
        openings.append(1)
        return behind

    with opened() as box:
        writer = QueuedWriter(box, open_writer)
        writer.log_params({"lr": 0.1})
        writer.log_metrics({"loss": 1.0}, step=3)
        writer.call(lambda run: run.said.append("asked"))
        writer.finish("FAILED")
        writer.log_text("nobody listens", "error.txt")
    logged, at = behind.said[1][:2], behind.said[1][2]
    assert behind.said == [("params", {"lr": 0.1}), (*logged, at), "asked", ("finish", "FAILED")]
    assert logged == ("history", [(3, {"loss": 1.0})])
    assert (server.attempts, openings) == (3, [1])


def test_a_metric_whose_answer_was_lost_is_sent_again_with_its_time(opened, monkeypatch) -> None:
    clock = itertools.count(1000)
    monkeypatch.setattr(module, "now_ms", lambda: next(clock))
    server = Server(away_for=2)

    class AnswerLost(Writer):
        def log_history(self, rows, *, time_ms=None) -> None:
            super().log_history(rows, time_ms=time_ms)
            server.take("answer")

    behind = AnswerLost()
    with opened() as box:
        QueuedWriter(box, lambda: behind).log_metrics({"loss": 1.0}, step=3)
    assert behind.said == [("history", [(3, {"loss": 1.0})], 1000)] * 3


def test_the_plain_writer_keeps_nothing() -> None:
    writer = MetricWriter()
    writer.log_history([(1, {"loss": 1.0})])
    assert writer.logged_steps("loss") == set()
