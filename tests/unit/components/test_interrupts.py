"""What Ctrl-C may cut, and what not."""

import signal
import threading
from collections.abc import Iterator

import pytest

from components import interrupts
from components.interrupts import STOPPING, held_back, ignored, interrupt_once_per_request, with_whole_calls


@pytest.fixture(autouse=True)
def own_handlers() -> Iterator[None]:
    """Both signals interrupt, as the command line has it."""
    before = {number: signal.getsignal(number) for number in STOPPING}
    interrupt_once_per_request()
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", STOPPING)
def test_either_signal_interrupts(number) -> None:
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(number)


def test_the_echo_of_a_request_is_ignored_and_a_later_one_is_heard(monkeypatch) -> None:
    clock = [100.0]
    monkeypatch.setattr(interrupts.time, "monotonic", lambda: clock[0])
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)
    clock[0] += interrupts.ECHO_SECONDS / 2
    signal.raise_signal(signal.SIGTERM)  # ignored
    clock[0] += interrupts.ECHO_SECONDS
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)


def test_nothing_is_heard_where_signals_are_ignored() -> None:
    with ignored():
        signal.raise_signal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)


def test_a_signal_is_held_back_until_the_outermost_block_is_over() -> None:
    done = []

    def work() -> None:
        with held_back():
            with held_back():
                signal.raise_signal(signal.SIGINT)
                done.append("inner")
            done.append("outer")

    with pytest.raises(KeyboardInterrupt):
        work()
    assert done == ["inner", "outer"]


def test_a_signal_that_was_held_back_is_heard_also_where_the_block_fails() -> None:
    def fail() -> None:
        with held_back():
            signal.raise_signal(signal.SIGTERM)
            raise OSError("disk full")

    with pytest.raises(KeyboardInterrupt) as caught:
        fail()
    assert isinstance(caught.value.__context__, OSError)


def test_a_method_is_not_interrupted_before_it_has_returned() -> None:
    class Store:
        name = "store"

        def __init__(self) -> None:
            self.rows: list[int] = []

        def write(self, *, row: int) -> int:
            signal.raise_signal(signal.SIGINT)
            self.rows.append(row)
            return row

    store = with_whole_calls(Store())
    assert store.name == "store"
    with pytest.raises(KeyboardInterrupt):
        store.write(row=3)
    assert store.rows == [3]
    assert store.write(row=4) == 4  # the echo


@pytest.mark.parametrize("number", STOPPING)
@pytest.mark.parametrize("change", range(4))
def test_a_signal_between_two_changes_of_handlers_leaves_none_in_place(monkeypatch, number, change) -> None:
    own = {each: signal.getsignal(each) for each in STOPPING}
    changes, set_handler = [], signal.signal

    def interrupted(which, handler) -> None:
        changes.append(which)
        if len(changes) == change + 1:
            signal.raise_signal(number)
        set_handler(which, handler)

    monkeypatch.setattr(interrupts.signal, "signal", interrupted)
    with pytest.raises(KeyboardInterrupt), held_back():
        pass
    monkeypatch.undo()
    assert {each: signal.getsignal(each) for each in STOPPING} == own


def test_a_thread_other_than_the_main_one_holds_nothing_back() -> None:
    seen = []

    def work() -> None:
        with held_back():
            seen.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [signal.getsignal(signal.SIGINT)]
