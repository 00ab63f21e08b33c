"""The start of a classifier for fine-tuning: a linear classifier that was fitted to frozen features.

Fine-tuning from such a start keeps more of what the backbone knows than from a random one (Kumar et al. 2022,
arXiv 2202.10054: linear probing, then fine-tuning).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file, save_file

HEADS_FILE = "heads.safetensors"


@dataclass(frozen=True)
class HeadStart:
    """Weights of a classifier of F pooled features, K classes. weight: (K, F) float32; bias: (K,) float32."""

    weight: np.ndarray
    bias: np.ndarray


def save_heads(folder: Path, heads: Mapping[tuple[str, int | None], HeadStart]) -> None:
    """Write them, by backbone and by the fold that they were fitted without; None: fitted to all that may be used."""
    tensors = {}
    for (backbone, fold), head in heads.items():
        for name, values in (("weight", head.weight), ("bias", head.bias)):
            tensors[_key(backbone, fold, name)] = np.ascontiguousarray(values, np.float32)
    save_file(tensors, folder / HEADS_FILE)


def read_head(folder: Path, backbone: str, fold: int | None) -> HeadStart | None:
    """The start for a training of that backbone that leaves out that fold; None where there is none."""
    path = folder / HEADS_FILE
    if not path.is_file():
        return None
    tensors = load_file(path)
    weight, bias = (tensors.get(_key(backbone, fold, name)) for name in ("weight", "bias"))
    return None if weight is None or bias is None else HeadStart(weight, bias)


def _key(backbone: str, fold: int | None, name: str) -> str:
    return f"{backbone}|{'all' if fold is None else fold}|{name}"
