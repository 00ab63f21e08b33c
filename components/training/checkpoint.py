"""Checkpoint files: written to a temporary name and renamed, so that each is complete; read without pickle."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch


def save_checkpoint(path: Path, state: Mapping[str, Any]) -> None:
    """Write tensors and plain values; an interruption leaves the earlier file as it was."""
    temporary = path.with_name(path.name + ".tmp")
    torch.save(dict(state), temporary)
    temporary.replace(path)


def load_checkpoint(path: Path, *, device: torch.device) -> dict[str, Any]:
    """Read what `save_checkpoint` wrote; `weights_only` refuses a file that would run code."""
    state: dict[str, Any] = torch.load(path, map_location=device, weights_only=True)
    return state


def on_cpu(value: Any) -> Any:  # noqa: ANN401 - a state: tensors, plain values and containers of these
    """A copy that later steps do not touch."""
    if isinstance(value, torch.Tensor):
        return value.detach().to("cpu", copy=True)
    if isinstance(value, Mapping):
        return {key: on_cpu(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(on_cpu(item) for item in value)
    return value
