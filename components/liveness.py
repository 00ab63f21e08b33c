"""Whether the process behind a run still lives: by process id and start where it runs, by its heartbeat elsewhere.

Host names tell no machines apart: two containers may have the same one. A process id means something only within one
boot of one kernel and one pid namespace, so that is what a run names; where the two are not known to be the same, only
a heartbeat that has stopped is a death.
"""

from __future__ import annotations

import math
import os
import platform
import socket
import time
from collections.abc import Mapping
from pathlib import Path

HEARTBEAT_SECONDS = 30
#: Without a heartbeat for this long, a run whose process cannot be looked for is taken for dead. So many intervals
#: cover the usual difference between two machines' clocks, and a server that is away for some minutes.
DEAD_AFTER_SECONDS = 20 * HEARTBEAT_SECONDS

TAG_HOST, TAG_PID, TAG_STARTED = "escapement.host", "escapement.pid", "escapement.process_started"
TAG_MACHINE, TAG_HEARTBEAT = "escapement.machine", "escapement.heartbeat"


def process_tags() -> dict[str, str]:
    """What a run says of the process that made it."""
    tags = {
        TAG_HOST: socket.gethostname(),
        TAG_PID: str(os.getpid()),
        TAG_STARTED: _started(os.getpid()),
        TAG_MACHINE: _machine(),
        TAG_HEARTBEAT: f"{time.time():.0f}",
        "escapement.platform": platform.platform(),
    }
    return {key: value for key, value in tags.items() if value is not None}


def is_dead(tags: Mapping[str, str]) -> bool:
    """Whether the process that a run names is gone. What a run does not say, or not readably, is no death."""
    lives = _process_lives(tags)
    if lives is not None:
        return not lives
    try:
        silence = time.time() - float(tags[TAG_HEARTBEAT])
    except (KeyError, ValueError):
        return False
    return math.isfinite(silence) and silence > DEAD_AFTER_SECONDS


def _process_lives(tags: Mapping[str, str]) -> bool | None:
    """Whether the run's process is there; None where it cannot be looked for from here."""
    machine, pid = _machine(), tags.get(TAG_PID, "")
    here = (machine, socket.gethostname()) == (tags.get(TAG_MACHINE), tags.get(TAG_HOST))
    if machine is None or not here or not pid.isdecimal():
        return None
    try:
        os.kill(int(pid), 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        pass  # another user's
    started = _started(int(pid))
    return None if started is None or TAG_STARTED not in tags else started == tags[TAG_STARTED]


def _machine() -> str | None:
    """This boot of this kernel, and the namespace in which a process id names a process; None off Linux."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot}/{Path('/proc/self/ns/pid').stat().st_ino}"
    except OSError:
        return None


def _started(pid: int) -> str | None:
    """When a process started, in ticks since the boot: no change of the clock moves that.

    "ended" for one that has ended and only waits for its parent; None where that cannot be read.
    """
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
        return "ended" if fields[0] in "ZX" else fields[19]
    except (OSError, IndexError):
        return None
