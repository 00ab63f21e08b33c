"""The optimizers: how each is built, and where its learning rate lies when nothing has been measured yet.

The constants are the usual ones: Nesterov momentum 0.9 (Sutskever et al. 2013), Adam's betas (Kingma & Ba
2015), decoupled decay for AdamW (Loshchilov & Hutter 2019), RMSProp's decay 0.9 (Hinton's lecture 6e).
`weight_decay` is decoupled for adamw and an L2 term in the gradient for the others, as torch has it.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import nn

from components.errors import InputError
from components.optim.layerwise import parameter_groups

ParameterGroups = list[dict[str, Any]]


@dataclass(frozen=True, kw_only=True)
class OptimizerSpec:
    """One optimizer. Rates are those of the group nearest the output; intervals are (low, high)."""

    name: str
    family: Literal["sgd", "adaptive"]
    default_lr: float
    default_bounds: tuple[float, float]
    ramp: tuple[float, float]
    build: Callable[[ParameterGroups], torch.optim.Optimizer]


def _sgd(groups: ParameterGroups) -> torch.optim.Optimizer:
    return torch.optim.SGD(groups, momentum=0.9, nesterov=True)


def _adam(groups: ParameterGroups) -> torch.optim.Optimizer:
    return torch.optim.Adam(groups, betas=(0.9, 0.999), eps=1e-8)


def _adamw(groups: ParameterGroups) -> torch.optim.Optimizer:
    return torch.optim.AdamW(groups, betas=(0.9, 0.999), eps=1e-8)


def _rmsprop(groups: ParameterGroups) -> torch.optim.Optimizer:
    return torch.optim.RMSprop(groups, alpha=0.9, eps=1e-8, momentum=0.0)


def _adagrad(groups: ParameterGroups) -> torch.optim.Optimizer:
    return torch.optim.Adagrad(groups, eps=1e-10)


# The ramps span six decades around the default bounds, so that both ends of the useful range show.
OPTIMIZERS: dict[str, OptimizerSpec] = {
    "sgd": OptimizerSpec(
        name="sgd",
        family="sgd",
        default_lr=1e-2,
        default_bounds=(1e-3, 3e-1),
        ramp=(1e-5, 1e1),
        build=_sgd,
    ),
    "adam": OptimizerSpec(
        name="adam",
        family="adaptive",
        default_lr=1e-3,
        default_bounds=(3e-5, 1e-2),
        ramp=(1e-6, 1e0),
        build=_adam,
    ),
    "adamw": OptimizerSpec(
        name="adamw",
        family="adaptive",
        default_lr=1e-3,
        default_bounds=(3e-5, 1e-2),
        ramp=(1e-6, 1e0),
        build=_adamw,
    ),
    "rmsprop": OptimizerSpec(
        name="rmsprop",
        family="adaptive",
        default_lr=3e-4,
        default_bounds=(1e-5, 3e-3),
        ramp=(1e-6, 1e0),
        build=_rmsprop,
    ),
    "adagrad": OptimizerSpec(
        name="adagrad",
        family="adaptive",
        default_lr=1e-2,
        default_bounds=(1e-3, 1e-1),
        ramp=(1e-5, 1e1),
        build=_adagrad,
    ),
}


def optimizer_spec(name: str) -> OptimizerSpec:
    """Return the optimizer's record. Raises InputError with the known names for another name."""
    if name not in OPTIMIZERS:
        raise InputError(f"recipe.optimizer={name!r} is unknown; use one of {', '.join(OPTIMIZERS)}")
    return OPTIMIZERS[name]


def build_optimizer(
    model: nn.Module, *, name: str, lr: float, weight_decay: float, layer_decay: float
) -> torch.optim.Optimizer:
    """Build the optimizer over the model's trainable parameters.

    Each group's `lr` is its effective rate, `lr_ratio` its ratio to the rate asked for: any torch schedule
    keeps it.

    Args:
        model: its parameters that require no gradient are left out.
        name: a key of OPTIMIZERS.
        lr: rate of the group nearest the output, positive.
        weight_decay: at least 0; norms and biases get none.
        layer_decay: in (0, 1]; 1 gives every layer the same rate.

    Raises:
        InputError: an unknown name, or a value outside these ranges.
    """
    spec = optimizer_spec(name)
    if not 0 < lr < float("inf"):
        raise InputError(f"recipe.lr={lr} must be a positive finite number; the default of {name} is {spec.default_lr}")
    if not 0 <= weight_decay < float("inf"):
        raise InputError(f"recipe.weight_decay={weight_decay} must be 0 or a positive finite number; use 0 for none")
    return spec.build(parameter_groups(model, lr=lr, weight_decay=weight_decay, layer_decay=layer_decay))
