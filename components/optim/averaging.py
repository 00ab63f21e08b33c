"""Another state of the same model for a while: snapshot, new norm statistics, and everything back bit for bit.

Recalibration is that of stochastic weight averaging (Izmailov et al., arXiv 1803.05407): averaged weights have met no
batch, so the statistics of their norms have to be taken anew. torch's own `update_bn` leaves dropout and stochastic
depth on, whose draws would make the score of a resumed training differ; here they rest.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import nn
from torch.nn.modules.batchnorm import _NormBase


@contextmanager
def unchanged(model: nn.Module) -> Iterator[None]:
    """Give every parameter, buffer and mode of the model back at the end, whatever happens meanwhile."""
    tensors = [*model.parameters(), *model.buffers()]
    copies = [tensor.detach().clone() for tensor in tensors]
    modes = [(module, module.training) for module in model.modules()]
    try:
        yield
    finally:
        with torch.no_grad():
            for tensor, copy in zip(tensors, copies, strict=True):
                tensor.copy_(copy)
        for module, training in modes:
            module.training = training


def recalibrate(model: nn.Module, norms: Sequence[_NormBase], batches: Iterable[torch.Tensor]) -> None:
    """Set the running statistics of these norms to their plain mean over the batches; leave the model in eval mode.

    Args:
        model: everything but the norms runs in eval mode.
        norms: some of the model's; with none, no batch is asked for.
        batches: normalised inputs (B, 3, H, W) on the model's device.

    Raises:
        ValueError: no batch.
    """
    model.eval()
    if not norms:
        return
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # torch's word for a cumulative mean
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
        raise ValueError("the calibration gave no batch, and the norms have no statistics without one")
