"""Temporary changes of a model: snapshot, new norm statistics, and restoration bit for bit.

Recalibration is that of stochastic weight averaging (Izmailov et al., arXiv 1803.05407): no batch has passed through
averaged weights, so the statistics of their norms have to be computed. torch's own `update_bn` leaves dropout and
stochastic depth on, which would change the score of a resumed training; here they are off.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import nn
from torch.nn.modules.batchnorm import _NormBase


@contextmanager
def eval_mode(model: nn.Module) -> Iterator[None]:
    """Evaluation mode in the block. The mode of each module is restored: a frozen body's norms train in eval mode."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


@contextmanager
def preserved(model: nn.Module) -> Iterator[None]:
    """Restore every parameter, buffer and mode of the model at the end of the block."""
    tensors = [*model.parameters(), *model.buffers()]
    copies = [tensor.detach().clone() for tensor in tensors]
    try:
        with eval_mode(model):
            yield
    finally:
        with torch.no_grad():
            for tensor, copy in zip(tensors, copies, strict=True):
                tensor.copy_(copy)


def recalibrate(model: nn.Module, norms: Sequence[_NormBase], batches: Iterable[torch.Tensor]) -> None:
    """Set the running statistics of these norms to their plain mean over the batches; leave the model in eval mode.

    model: everything but the norms runs in eval mode. norms: some of the model's; with none, no batch is asked for.
    batches: normalised inputs (B, 3, H, W) on the model's device. Raises ValueError: no batch.
    """
    model.eval()
    if not norms:
        return
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # torch then computes a cumulative mean
        norm.train()
    seen = 0
    try:
        with torch.no_grad():
            for images in batches:
                model(images)
                seen += 1
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
            norm.eval()
    if not seen:
        raise ValueError("the calibration gave no batch, so the norms have no statistics")
