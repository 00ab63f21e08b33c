"""Parameter groups: no weight decay on norms and biases, and smaller rates towards the input.

timm's layer-wise decay (after BEiT, arXiv 2106.08254) leaves its factor in `lr_scale`, which only timm's own
schedulers apply. Here it is multiplied into `lr`, so that torch's schedules, or none, cannot ignore it.
"""

from typing import Any

from timm.optim import param_groups_layer_decay, param_groups_weight_decay
from torch import nn

from components.errors import InputError


def parameter_groups(model: nn.Module, *, lr: float, weight_decay: float, layer_decay: float) -> list[dict[str, Any]]:
    """Return torch parameter groups with `params`, `lr`, `weight_decay` and `lr_ratio` (= lr of group / lr).

    Args:
        model: a timm model, or any module where layer_decay is 1.
        lr: of the layer nearest the output, whose ratio is 1.
        weight_decay: for matrices and kernels; vectors (norms, biases) get 0.
        layer_decay: factor per layer towards the input, in (0, 1]; 1 for none.

    Raises:
        InputError: layer_decay outside (0, 1], or nothing to train.
    """
    if not 0 < layer_decay <= 1:
        raise InputError(f"recipe.layer_decay={layer_decay} must be in (0, 1]; use 1 for equal rates, 0.75–0.95 else")
    exempt = _exempt_by_model(model)
    if layer_decay == 1:
        groups = param_groups_weight_decay(model, weight_decay=weight_decay, no_weight_decay_list=exempt)
    else:
        groups = param_groups_layer_decay(
            model, weight_decay=weight_decay, no_weight_decay_list=exempt, layer_decay=layer_decay
        )
    if not groups:
        raise InputError("the model has no parameter that requires a gradient; unfreeze some of it")
    for group in groups:
        group["lr_ratio"] = group.pop("lr_scale", 1.0)
        group["lr"] = lr * group["lr_ratio"]
    return groups


def _exempt_by_model(model: nn.Module) -> set[str]:
    """Return what the architecture itself wants free of decay (position embeddings, for instance)."""
    named = getattr(model, "no_weight_decay", None)
    return set(named()) if callable(named) else set()
