"""Whether the process behind a run still lives: by host, process id and start here, by its heartbeat elsewhere."""

from __future__ import annotations

import os
import platform
import socket
import time
from collections.abc import Mapping

import psutil

HEARTBEAT_SECONDS = 30
#: A run on another host is taken for dead after this long without a heartbeat.
DEAD_AFTER_SECONDS = 20 * HEARTBEAT_SECONDS

TAG_HOST, TAG_PID, TAG_STARTED = "escapement.host", "escapement.pid", "escapement.process_started"
TAG_HEARTBEAT = "escapement.heartbeat"


def process_tags() -> dict[str, str]:
    """What a run says of the process that made it."""
    return {
        TAG_HOST: socket.gethostname(),
        TAG_PID: str(os.getpid()),
        TAG_STARTED: f"{psutil.Process().create_time():.2f}",
        TAG_HEARTBEAT: f"{time.time():.0f}",
        "escapement.platform": platform.platform(),
    }


def is_dead(tags: Mapping[str, str]) -> bool:
    """Whether the process that a run names is gone. A run on another host is judged by its last heartbeat."""
    if tags.get(TAG_HOST) != socket.gethostname():
        return time.time() - float(tags.get(TAG_HEARTBEAT, 0)) > DEAD_AFTER_SECONDS
    try:
        started = psutil.Process(int(tags[TAG_PID])).create_time()
    except psutil.NoSuchProcess:
        return True
    return abs(started - float(tags[TAG_STARTED])) > 1  # the pid now belongs to somebody else
