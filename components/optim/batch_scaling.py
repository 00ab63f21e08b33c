"""Scales a learning rate to another batch size: linearly for SGD (Goyal et al., arXiv 1706.02677), by the square root
for the adaptive optimizers (Malladi et al., 2205.10287).
"""

import math

from components.optim.optimizers import optimizer_spec


def batch_factor(optimizer: str, *, batch_size: int, measured: int) -> float:
    """Return what a rate that was measured at one batch size is multiplied by at another.

    Raises InputError: an unknown optimizer.
    """
    ratio = batch_size / measured
    return ratio if optimizer_spec(optimizer).family == "sgd" else math.sqrt(ratio)
