"""The optimizers: how each is built, and where its learning rate lies when nothing has been measured yet.

The constants are the usual ones: momentum 0.9, Nesterov's or heavy-ball (Sutskever et al. 2013), Adam's betas (Kingma
& Ba 2015), decoupled decay for AdamW (Loshchilov & Hutter 2019), RMSProp's decay 0.9 (Hinton's lecture 6e), and
Schedule-Free's own (Defazio et al., arXiv 2405.15682; its warmup stays 0, for ours is in the schedule).
`weight_decay` is decoupled for adamw, part of the gradient at y for the schedule-free ones, and an L2 term in the
gradient for the others, as torch has it. Any other name is timm's.
"""

import difflib
import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import timm.optim
import torch
from schedulefree import AdamWScheduleFree, SGDScheduleFree
from torch import nn

from components.errors import InputError
from components.optim.layerwise import LayerRates, parameter_groups

ParameterGroups = list[dict[str, Any]]
Family = Literal["sgd", "adaptive"]


@dataclass(frozen=True, kw_only=True)
class OptimizerSpec:
    """One optimizer. Rates are those of a group whose ratio is 1; intervals are (low, high).

    family: how its rate goes with the batch size: linearly for `sgd`, by the square root for `adaptive`.
    schedule_free: averages its own weights and takes no schedule.
    """

    name: str
    family: Family
    schedule_free: bool
    default_lr: float
    default_bounds: tuple[float, float]
    ramp: tuple[float, float]
    build: Callable[[ParameterGroups], torch.optim.Optimizer]


def _fused(groups: ParameterGroups) -> bool | None:
    """Whether one kernel does the whole step: on a GPU, where it also leaves out a step that failed, unasked."""
    return True if all(weight.is_cuda for group in groups for weight in group["params"]) else None


def _sgd(groups: ParameterGroups) -> torch.optim.Optimizer:
    return torch.optim.SGD(groups, momentum=0.9, nesterov=True, fused=_fused(groups))


def _momentum(groups: ParameterGroups) -> torch.optim.Optimizer:
    return torch.optim.SGD(groups, momentum=0.9, fused=_fused(groups))


def _sgd_plain(groups: ParameterGroups) -> torch.optim.Optimizer:
    return torch.optim.SGD(groups, fused=_fused(groups))


def _adam(groups: ParameterGroups) -> torch.optim.Optimizer:
    return torch.optim.Adam(groups, betas=(0.9, 0.999), eps=1e-8, fused=_fused(groups))


def _adamw(groups: ParameterGroups) -> torch.optim.Optimizer:
    return torch.optim.AdamW(groups, betas=(0.9, 0.999), eps=1e-8, fused=_fused(groups))


def _rmsprop(groups: ParameterGroups) -> torch.optim.Optimizer:
    return torch.optim.RMSprop(groups, alpha=0.9, eps=1e-8, momentum=0.0)


def _adagrad(groups: ParameterGroups) -> torch.optim.Optimizer:
    return torch.optim.Adagrad(groups, eps=1e-10)


def _schedulefree_adamw(groups: ParameterGroups) -> torch.optim.Optimizer:
    return AdamWScheduleFree(groups, betas=(0.9, 0.999), eps=1e-8, warmup_steps=0)


def _schedulefree_sgd(groups: ParameterGroups) -> torch.optim.Optimizer:
    return SGDScheduleFree(groups, momentum=0.9, warmup_steps=0)


def _spec(
    name: str, family: Family, build: Callable[[ParameterGroups], torch.optim.Optimizer], *rates: float
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


OPTIMIZERS: dict[str, OptimizerSpec] = {
    "sgd": _spec("sgd", "sgd", _sgd, 1e-2, 1e-3, 3e-1, 1e-5),
    "momentum": _spec("momentum", "sgd", _momentum, 1e-2, 1e-3, 3e-1, 1e-5),
    "sgd_plain": _spec("sgd_plain", "sgd", _sgd_plain, 1e-1, 1e-2, 3e0, 1e-4),
    "adam": _spec("adam", "adaptive", _adam, 1e-3, 3e-5, 1e-2, 1e-6),
    "adamw": _spec("adamw", "adaptive", _adamw, 1e-3, 3e-5, 1e-2, 1e-6),
    "rmsprop": _spec("rmsprop", "adaptive", _rmsprop, 3e-4, 1e-5, 3e-3, 1e-6),
    "adagrad": _spec("adagrad", "adaptive", _adagrad, 1e-2, 1e-3, 1e-1, 1e-5),
    "schedulefree_adamw": _spec("schedulefree_adamw", "adaptive", _schedulefree_adamw, 2.5e-3, 1e-4, 3e-2, 1e-6),
    "schedulefree_sgd": _spec("schedulefree_sgd", "sgd", _schedulefree_sgd, 3e-1, 3e-2, 1e1, 1e-4),
}
ScheduleFree = AdamWScheduleFree | SGDScheduleFree

#: Rates (as in `_spec`) of timm's optimizers by their class; those of Adam where there is none.
_TIMM_RATES: dict[str, tuple[float, float, float, float]] = {
    "SGD": (1e-2, 1e-3, 3e-1, 1e-5),
    "SGDP": (1e-2, 1e-3, 3e-1, 1e-5),
    "SGDW": (1e-2, 1e-3, 3e-1, 1e-5),
    "Lars": (1e0, 1e-1, 3e1, 1e-3),
    "Adadelta": (1e0, 1e-1, 1e1, 1e-3),
    "AdafactorBigVision": (1e-3, 3e-5, 1e-2, 1e-6),
    "Lion": (1e-4, 3e-6, 1e-3, 1e-7),
    "SGD8bit": (1e-2, 1e-3, 3e-1, 1e-5),
    "FusedSGD": (1e-2, 1e-3, 3e-1, 1e-5),
    "Lion8bit": (1e-4, 3e-6, 1e-3, 1e-7),
    "Lamb": (3e-3, 1e-4, 3e-2, 1e-6),
    "FusedLAMB": (3e-3, 1e-4, 3e-2, 1e-6),
}
_SGD_LIKE = ("SGD", "SGDP", "SGDW", "Lars", "SGD8bit", "FusedSGD")
_ADAM_RATES = (1e-3, 3e-5, 1e-2, 1e-6)


def optimizer_spec(name: str) -> OptimizerSpec:
    """Return the record of one of ours, or of timm's.

    Raises:
        InputError: an unknown name, with those that are near it; or one of timm's that this training cannot drive,
            with the reason.
    """
    if name in OPTIMIZERS:
        return OPTIMIZERS[name]
    reason = _refusal(name)
    if reason:
        raise InputError(f"recipe.optimizer={name}: {reason}")
    cls = _timm_class(name)

    def build(groups: ParameterGroups) -> torch.optim.Optimizer:
        return _build_timm(name, groups)

    family: Family = "sgd" if cls in _SGD_LIKE else "adaptive"
    return _spec(name, family, build, *_TIMM_RATES.get(cls, _ADAM_RATES))


def build_optimizer(
    model: nn.Module, *, name: str, lr: float, weight_decay: float, layers: LayerRates
) -> torch.optim.Optimizer:
    """Build the optimizer over the model's trainable parameters, in the groups of `parameter_groups`.

    Args:
        model: its parameters that require no gradient are left out.
        name: one of OPTIMIZERS, or of timm's.
        lr: rate of a group whose ratio is 1, positive.
        weight_decay: at least 0; norms and biases get none.
        layers: how the rates of the layers relate.

    Raises:
        InputError: an unknown name, or a value outside these ranges.
    """
    spec = optimizer_spec(name)
    if not 0 < lr < float("inf"):
        raise InputError(
            f"recipe.lr={lr}: must be a positive finite number; the default of {name} is {spec.default_lr:g}"
        )
    if not 0 <= weight_decay < float("inf"):
        raise InputError(f"recipe.weight_decay={weight_decay}: must be 0 or a positive finite number; use 0 for none")
    return spec.build(parameter_groups(model, lr=lr, weight_decay=weight_decay, layers=layers))


def _build_timm(name: str, groups: ParameterGroups) -> torch.optim.Optimizer:
    lr = max(group["lr"] for group in groups)
    if name.startswith("kron"):  # else it draws from the global generator
        optimizer = timm.optim.create_optimizer_v2(groups, opt=name, lr=lr, weight_decay=0.0, deterministic=True)
    else:
        optimizer = timm.optim.create_optimizer_v2(groups, opt=name, lr=lr, weight_decay=0.0)
    for group in optimizer.param_groups:
        # Corrected weight decay refers to the peak of the group, which timm takes from the optimizer as a whole.
        if group.get("max_lr_snapshot") is not None:
            group["max_lr_snapshot"] = group["lr"]
    return optimizer


def _timm_class(name: str) -> str:
    cls = timm.optim.get_optimizer_info(name).opt_class
    return cls.rpartition(".")[2] if isinstance(cls, str) else cls.__name__


def _refusal(name: str) -> str:
    """Return why this name that is not ours cannot be used, and what to do; empty where it can."""
    if name.startswith("lookahead_"):
        return "keeps its slow weights apart from the checkpoint; use an optimizer without lookahead"
    known = [str(other) for other in timm.optim.list_optimizers()]
    if name not in known:
        near = difflib.get_close_matches(name, dict.fromkeys([*OPTIMIZERS, *known]), n=3)
        asked = f"; did you mean {' or '.join(near)}?" if near else ""
        return f"unknown; use one of {', '.join(OPTIMIZERS)}, or any of timm's such as lamb, lion or nadam{asked}"
    info = timm.optim.get_optimizer_info(name)
    if info.second_order:
        return "needs second-order gradients, which the training does not compute; use adamw"
    if isinstance(info.opt_class, str):
        package = info.opt_class.partition(".")[0]
        if importlib.util.find_spec(package) is None:
            return f"needs the package {package}, which is not installed; install it, or use adamw"
        if not torch.cuda.is_available():
            return "needs a CUDA device, and there is none; use adamw"
    return ""
