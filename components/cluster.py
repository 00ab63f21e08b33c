"""Starting and stopping Ray. The only `ray.init` of the project."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import threading
from collections.abc import Iterator

import ray

from components.errors import InputError


@contextlib.contextmanager
def ray_session(*, address: str | None, num_cpus: int, num_gpus: int) -> Iterator[None]:
    """Ray for the length of the block: a local one, or the cluster at `address`. Its log stays out of the terminal.

    Raises `InputError` when the cluster cannot be reached.
    """
    if ray.is_initialized():
        yield
        return
    os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    on_request_to_end = signal.getsignal(signal.SIGTERM)
    try:
        if address is None:
            ray.init(
                address="local",  # without it, RAY_ADDRESS or a Ray that runs on this machine would be joined
                num_cpus=num_cpus,
                num_gpus=num_gpus,
                include_dashboard=False,
                log_to_driver=False,
                logging_level=logging.ERROR,
            )
        else:
            ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
    except (ConnectionError, TimeoutError, ValueError, RuntimeError) as error:
        where = address if address is not None else "a local Ray"
        raise InputError(
            f"compute.ray_address={address}: {where} cannot be reached ({error}); "
            "start the cluster, or leave the key null to run on this machine"
        ) from error
    if threading.current_thread() is threading.main_thread() and on_request_to_end is not None:
        signal.signal(signal.SIGTERM, on_request_to_end)  # Ray has put its own in place
    try:
        yield
    finally:
        ray.shutdown()
