"""The start of a classifier for fine-tuning: a linear classifier that was fitted to frozen features.

Fine-tuning from such a start keeps more of what the backbone knows than from a random one (Kumar et al. 2022,
arXiv 2202.10054: linear probing, then fine-tuning).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors.numpy import load_file, save_file
from torch import nn

from components.models.catalogue import classifier_names

HEADS_FILE = "heads.safetensors"


@dataclass(frozen=True)
class HeadStart:
    """Weights of a classifier of F pooled features, K classes. weight: (K, F) float32; bias: (K,) float32."""

    weight: np.ndarray
    bias: np.ndarray


#: By backbone, and by the fold that it was fitted without; None: fitted to all that a training without a fold uses.
Heads = Mapping[tuple[str, int | None], HeadStart]


def save_heads(folder: Path, heads: Heads) -> None:
    """Write all of them to one file in the folder, which `read_heads` finds there."""
    tensors = {}
    for (backbone, fold), head in heads.items():
        for name, values in (("weight", head.weight), ("bias", head.bias)):
            tensors[_key(backbone, fold, name)] = np.ascontiguousarray(values, np.float32)
    save_file(tensors, folder / HEADS_FILE)


def read_heads(folder: Path) -> Heads:
    """What `save_heads` wrote to a folder; nothing where there is no such file."""
    path = folder / HEADS_FILE
    if not path.is_file():
        return {}
    tensors, found = load_file(path), {}
    for key in {name.rpartition("|")[0] for name in tensors}:
        backbone, _, fold = key.rpartition("|")
        head = HeadStart(tensors[f"{key}|weight"], tensors[f"{key}|bias"])
        found[backbone, None if fold == "all" else int(fold)] = head
    return found


def start_classifier(model: nn.Module, backbone: str, head: HeadStart) -> None:
    """Give the classifier of a timm model these weights, in place. Raises ValueError: it is of another shape."""
    modules = dict(model.named_modules())
    for name in classifier_names(backbone):
        layer = modules.get(name)
        if not isinstance(layer, nn.Linear | nn.Conv2d) or layer.bias is None:
            continue
        if layer.weight.numel() != head.weight.size or len(layer.bias) != len(head.bias):
            shapes = f"{tuple(layer.weight.shape)}, its start {head.weight.shape}"
            raise ValueError(f"{backbone}: the classifier is {shapes}")
        with torch.no_grad():
            layer.weight.copy_(torch.from_numpy(head.weight).view_as(layer.weight))
            layer.bias.copy_(torch.from_numpy(head.bias))


def _key(backbone: str, fold: int | None, name: str) -> str:
    return f"{backbone}|{'all' if fold is None else fold}|{name}"
