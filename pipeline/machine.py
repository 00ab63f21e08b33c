"""What this machine offers, asked without importing torch."""

from __future__ import annotations

import os


def cpu_count() -> int:
    """Cores that this process may use (a container or a batch system may allow fewer than there are)."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
