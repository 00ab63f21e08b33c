"""Who is dead: by the process where it can be looked for, else by a heartbeat that has stopped."""

import os
import time

import pytest

from components import liveness
from components.liveness import DEAD_AFTER_SECONDS, TAG_HEARTBEAT, TAG_HOST, TAG_MACHINE, TAG_PID, TAG_STARTED, is_dead


def beat(seconds_ago: float) -> dict[str, str]:
    return {TAG_HEARTBEAT: f"{time.time() - seconds_ago:.0f}"}


@pytest.fixture
def gone() -> dict[str, str]:
    """A run of this machine whose process has ended: the id of one that was forked and waited for."""
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)
    return liveness.process_tags() | {TAG_PID: str(pid)}


def test_a_process_that_is_gone_is_dead_whatever_its_last_beat(gone) -> None:
    assert is_dead(gone | beat(0))


def test_a_living_process_is_alive_however_long_it_was_silent() -> None:
    assert not is_dead(liveness.process_tags() | beat(10 * DEAD_AFTER_SECONDS))


def test_a_process_that_ended_and_was_not_waited_for_is_dead() -> None:
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    try:
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
        assert is_dead(liveness.process_tags() | {TAG_PID: str(pid)})
    finally:
        os.waitpid(pid, 0)


def test_a_process_id_that_somebody_else_has_now_is_dead() -> None:
    assert is_dead(liveness.process_tags() | {TAG_STARTED: "1"})


@pytest.mark.parametrize(
    "change",
    [
        {TAG_MACHINE: "another boot/4026531836"},
        {TAG_MACHINE: None},  # a run of an earlier release, or of a machine that tells nothing
        {TAG_HOST: "elsewhere"},
        {TAG_PID: "many"},
        {TAG_PID: "-1"},
    ],
)
def test_where_the_process_cannot_be_looked_for_the_heartbeat_decides(gone, change: dict[str, str | None]) -> None:
    tags = {key: value for key, value in (gone | change).items() if value is not None}
    assert not is_dead(tags | beat(DEAD_AFTER_SECONDS - 60))
    assert not is_dead(tags | beat(-3600))  # the other machine's clock is ahead
    assert is_dead(tags | beat(DEAD_AFTER_SECONDS + 60))


@pytest.mark.parametrize("heartbeat", [None, "", "soon", "nan", "-inf", "inf"])
def test_a_heartbeat_that_is_not_there_or_not_readable_is_no_death(gone, heartbeat: str | None) -> None:
    tags = gone | {TAG_HOST: "elsewhere", TAG_HEARTBEAT: heartbeat}
    assert not is_dead({key: value for key, value in tags.items() if value is not None})


def test_nothing_said_is_no_death() -> None:
    assert not is_dead({})
