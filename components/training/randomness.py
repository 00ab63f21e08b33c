"""A random state of one's own, beside the caller's: what runs inside draws from it and leaves the global ones alone."""

import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch


class OwnRandomness:
    """The states of Python's, NumPy's and torch's global generators, current only inside `active()`.

    For a generator function, which is left at every yield: it draws inside `active()`, and between two steps, at its
    end, after an error or where it is abandoned, the caller's states are what they were.
    """

    def __init__(self, seed: int, device: torch.device) -> None:
        """Start from the seed, at least 0; `device`: the GPU that has a state as well, or a CPU."""
        self._device = device if device.type == "cuda" else None
        self._own = _States(
            python=random.Random(seed).getstate(),
            numpy=np.random.RandomState(seed).get_state(),
            cpu=torch.Generator().manual_seed(seed).get_state(),
            gpu=None if self._device is None else torch.Generator(self._device).manual_seed(seed).get_state(),
        )

    @contextmanager
    def active(self) -> Iterator[None]:
        """Swap the states in, and back out with what has been drawn since remembered."""
        callers = self._current()
        self._set(self._own)
        try:
            yield
        finally:
            self._own = self._current()
            self._set(callers)

    def _current(self) -> "_States":
        return _States(
            python=random.getstate(),
            numpy=np.random.get_state(),  # noqa: NPY002 - the global state is what is kept apart
            cpu=torch.get_rng_state(),
            gpu=None if self._device is None else torch.cuda.get_rng_state(self._device),
        )

    def _set(self, states: "_States") -> None:
        random.setstate(states.python)
        np.random.set_state(states.numpy)  # noqa: NPY002
        torch.set_rng_state(states.cpu)
        if self._device is not None and states.gpu is not None:
            torch.cuda.set_rng_state(states.gpu, self._device)


@dataclass(frozen=True)
class _States:
    python: tuple[Any, ...]
    numpy: Any  # NumPy's own type of it is one of two
    cpu: torch.Tensor
    gpu: torch.Tensor | None
