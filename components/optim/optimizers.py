"""The optimizers: how each is built, and its learning rate when nothing has been measured yet.

The constants are the usual ones: momentum 0.9, Nesterov's or heavy-ball (Sutskever et al. 2013), Adam's betas (Kingma &
Ba 2015), decoupled decay for AdamW (Loshchilov & Hutter 2019), RMSProp's decay 0.9 (Hinton's lecture 6e), and
Schedule-Free's own (Defazio et al., arXiv 2405.15682; its warmup stays 0, because the schedule has one). `weight_decay`
is decoupled for adamw, part of the gradient at y for the schedule-free ones, and an L2 term in the gradient for the
others, as in torch. Any other name is timm's.
"""

import difflib
import importlib.util
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import torch
from schedulefree import AdamWScheduleFree, SGDScheduleFree
from timm.optim import create_optimizer_v2, get_optimizer_info, list_optimizers
from torch import nn

from components.errors import InputError
from components.optim.layerwise import LayerRates, parameter_groups

ParameterGroups = list[dict[str, Any]]
Family = Literal["sgd", "adaptive"]


@dataclass(frozen=True, kw_only=True)
class OptimizerSpec:
    """One optimizer. Rates are those of a group whose ratio is 1; intervals are (low, high).

    family: `sgd` if its rate is proportional to the batch size, `adaptive` if to the square root of it. schedule_free:
    whether it averages its own weights and takes no schedule. ramp: of the range test.
    """

    name: str
    family: Family
    schedule_free: bool
    default_lr: float
    default_bounds: tuple[float, float]
    ramp: tuple[float, float]
    build: Callable[[ParameterGroups], torch.optim.Optimizer]


def _spec(
    name: str,
    family: Family,
    build: Callable[[ParameterGroups], torch.optim.Optimizer],
    rates: tuple[float, float, float, float],
) -> OptimizerSpec:
    """Return the record; rates: default, its lower and upper bound, lowest of the ramp.

    The ramps span six decades around the default bounds, so that both ends of the useful range show.
    """
    default, low, high, start = rates
    return OptimizerSpec(
        name=name,
        family=family,
        schedule_free=name.startswith("schedulefree_"),
        default_lr=default,
        default_bounds=(low, high),
        ramp=(start, start * 1e6),
        build=build,
    )


def _fused(
    kind: Callable[..., torch.optim.Optimizer], groups: ParameterGroups, **settings: object
) -> torch.optim.Optimizer:
    """Build it with one kernel for the whole step, which leaves out a failed step by itself.

    On a CPU the kernel takes a third of the time: of an EfficientNet-Lite0 9 ms less, of a training step some 4 %.
    """
    kinds = {weight.device.type for group in groups for weight in group["params"]}
    return kind(groups, fused=True if kinds <= {"cpu", "cuda"} else None, **settings)


_nesterov = partial(_fused, torch.optim.SGD, momentum=0.9, nesterov=True)
_momentum = partial(_fused, torch.optim.SGD, momentum=0.9)
_sgd_plain = partial(_fused, torch.optim.SGD)
_adam = partial(_fused, torch.optim.Adam, betas=(0.9, 0.999), eps=1e-8)
_adamw = partial(_fused, torch.optim.AdamW, betas=(0.9, 0.999), eps=1e-8)
_rmsprop = partial(torch.optim.RMSprop, alpha=0.9, eps=1e-8, momentum=0.0)
_adagrad = partial(_fused, torch.optim.Adagrad, eps=1e-10)
_free_adamw = partial(AdamWScheduleFree, betas=(0.9, 0.999), eps=1e-8, warmup_steps=0)
_free_sgd = partial(SGDScheduleFree, momentum=0.9, warmup_steps=0)

OPTIMIZERS: dict[str, OptimizerSpec] = {
    "sgd": _spec("sgd", "sgd", _nesterov, (1e-2, 1e-3, 3e-1, 1e-5)),
    "momentum": _spec("momentum", "sgd", _momentum, (1e-2, 1e-3, 3e-1, 1e-5)),
    "sgd_plain": _spec("sgd_plain", "sgd", _sgd_plain, (1e-1, 1e-2, 3e0, 1e-4)),
    "adam": _spec("adam", "adaptive", _adam, (1e-3, 3e-5, 1e-2, 1e-6)),
    "adamw": _spec("adamw", "adaptive", _adamw, (1e-3, 3e-5, 1e-2, 1e-6)),
    "rmsprop": _spec("rmsprop", "adaptive", _rmsprop, (3e-4, 1e-5, 3e-3, 1e-6)),
    "adagrad": _spec("adagrad", "adaptive", _adagrad, (1e-2, 1e-3, 1e-1, 1e-5)),
    "schedulefree_adamw": _spec("schedulefree_adamw", "adaptive", _free_adamw, (2.5e-3, 1e-4, 3e-2, 1e-6)),
    "schedulefree_sgd": _spec("schedulefree_sgd", "sgd", _free_sgd, (3e-1, 3e-2, 1e1, 1e-4)),
}
ScheduleFree = AdamWScheduleFree | SGDScheduleFree

#: Rates (as in `_spec`) of timm's optimizers by their class; those of SGD and of Adam for all others.
_TIMM_RATES: dict[str, tuple[float, float, float, float]] = {
    "Lars": (1e0, 1e-1, 3e1, 1e-3),
    "Adadelta": (1e0, 1e-1, 1e1, 1e-3),
    "Lion": (1e-4, 3e-6, 1e-3, 1e-7),
    "Lion8bit": (1e-4, 3e-6, 1e-3, 1e-7),
    "Lamb": (3e-3, 1e-4, 3e-2, 1e-6),
    "FusedLAMB": (3e-3, 1e-4, 3e-2, 1e-6),
}
_SGD_LIKE = ("SGD", "SGDP", "SGDW", "Lars", "SGD8bit", "FusedSGD")
_FAMILY_RATES = {"sgd": (1e-2, 1e-3, 3e-1, 1e-5), "adaptive": (1e-3, 3e-5, 1e-2, 1e-6)}


def optimizer_spec(name: str) -> OptimizerSpec:
    """Return the record of one of ours, or of timm's.

    Raises InputError: an unknown name, with similar ones; or one of timm's that this training cannot use, with the
    reason.
    """
    if name in OPTIMIZERS:
        return OPTIMIZERS[name]
    reason = _refusal(name)
    if reason:
        raise InputError(f"recipe.optimizer={name}: {reason}")
    found = get_optimizer_info(name).opt_class
    cls = found.rpartition(".")[2] if isinstance(found, str) else found.__name__
    family: Family = "sgd" if cls in _SGD_LIKE else "adaptive"
    return _spec(name, family, partial(_build_timm, name), _TIMM_RATES.get(cls, _FAMILY_RATES[family]))


def batch_factor(optimizer: str, *, batch_size: int, measured: int) -> float:
    """Return what a rate that was measured at one batch size is multiplied by at another.

    Linear for SGD (Goyal et al., arXiv 1706.02677), the square root for the adaptive optimizers (Malladi et al.,
    2205.10287). Raises InputError: an unknown optimizer.
    """
    ratio = batch_size / measured
    return ratio if optimizer_spec(optimizer).family == "sgd" else math.sqrt(ratio)


def build_optimizer(
    model: nn.Module, *, name: str, lr: float, weight_decay: float, layers: LayerRates
) -> torch.optim.Optimizer:
    """Build the optimizer over the model's trainable parameters, in the groups of `parameter_groups`.

    model: its parameters that require no gradient are left out. name: one of OPTIMIZERS, or of timm's. lr: rate of a
    group whose ratio is 1, positive. weight_decay: at least 0; norms and biases get none. layers: how the rates of the
    layers relate. Raises InputError: an unknown name.
    """
    groups = parameter_groups(model, lr=lr, weight_decay=weight_decay, layers=layers)
    return optimizer_spec(name).build(groups)


def _build_timm(name: str, groups: ParameterGroups) -> torch.optim.Optimizer:
    lr = max(group["lr"] for group in groups)
    # Without it, kron draws from the global generator.
    own: dict[str, Any] = {"deterministic": True} if name.startswith("kron") else {}
    optimizer: torch.optim.Optimizer = create_optimizer_v2(groups, opt=name, lr=lr, weight_decay=0.0, **own)
    for group in optimizer.param_groups:
        # Corrected weight decay refers to the peak of the group, which timm takes from the optimizer as a whole.
        if group.get("max_lr_snapshot") is not None:
            group["max_lr_snapshot"] = group["lr"]
    return optimizer


def _refusal(name: str) -> str:
    """Return why a name that is not ours cannot be used, and what to do; empty where it can."""
    if name.startswith("lookahead_"):
        return "keeps its slow weights apart from the checkpoint; use an optimizer without lookahead"
    known = [str(other) for other in list_optimizers()]
    if name not in known:
        near = difflib.get_close_matches(name, dict.fromkeys([*OPTIMIZERS, *known]), n=3)
        asked = f"; did you mean {' or '.join(near)}?" if near else ""
        return f"unknown; use one of {', '.join(OPTIMIZERS)}, or any of timm's such as lamb, lion or nadam{asked}"
    info = get_optimizer_info(name)
    if info.second_order:
        return "needs second-order gradients, which the training does not compute; use adamw"
    if isinstance(info.opt_class, str):
        package = info.opt_class.partition(".")[0]
        if importlib.util.find_spec(package) is None:
            return f"needs the package {package}, which is not installed; install it, or use adamw"
        if not torch.cuda.is_available():
            return "needs a CUDA device, and there is none; use adamw"
    return ""
