"""Parameter groups: rates by layer and by part, and no weight decay on norms and biases.

The layers are timm's own (after BEiT, arXiv 2106.08254, and discriminative rates of ULMFiT, 1801.06146). timm writes
the factor of a layer to `lr_scale`, which only timm's own schedulers apply. Here `lr` contains the factor, so that
every schedule applies it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatch
from typing import Any, Literal

from timm.models import group_parameters
from torch import nn

from components.errors import InputError

Part = Literal["head", "body"]


@dataclass(frozen=True, kw_only=True)
class LayerRates:
    """How the rates of the layers relate.

    layer_decay: factor from one layer to the next, in (0, 1]; 1 for none. towards: the end with the smaller rates.
    head_ratio: factor on the rate of the classifier, positive.
    """

    layer_decay: float
    towards: Literal["input", "output"]
    head_ratio: float


def parameter_groups(model: nn.Module, *, lr: float, weight_decay: float, layers: LayerRates) -> list[dict[str, Any]]:
    """Return torch parameter groups of the trainable parameters, from the input to the output.

    Each has `params`, `name` (unique, the same for the same model and `layers`), `part` (`head` or `body`),
    `lr` (the rate asked for × the ratio of the layer) and `weight_decay`.

    model: a timm model, or any module; in the latter each matrix begins a layer. lr: of a layer whose ratio is 1.
    weight_decay: of matrices and kernels; vectors (norms, biases) and what the model itself exempts get 0. layers: how
    the rates of the layers relate. Raises InputError: nothing to train.
    """
    head = {id(parameter) for module in head_modules(model) for parameter in module.parameters()}
    numbers = _layer_numbers(model)
    last = max(numbers.values(), default=0)
    named = getattr(model, "no_weight_decay", None)  # position embeddings, for instance
    exempt = set(named()) if callable(named) else set()
    groups: dict[tuple[float, Part, bool], dict[str, Any]] = {}
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        part: Part = "head" if id(parameter) in head else "body"
        distance = last - numbers[name] if layers.towards == "input" else numbers[name]
        ratio = layers.layer_decay**distance * (layers.head_ratio if part == "head" else 1.0)
        free = parameter.ndim <= 1 or name.endswith(".bias") or any(fnmatch(name, pattern) for pattern in exempt)
        new: dict[str, Any] = {
            "params": [],
            "part": part,
            "lr": lr * ratio,
            "weight_decay": 0.0 if free else weight_decay,
        }
        groups.setdefault((ratio, part, free), new)["params"].append(parameter)
    if not groups:
        raise InputError("the model has no parameter that requires a gradient; unfreeze some of it")
    return [group | {"name": name} for name, group in zip(_names(list(groups)), groups.values(), strict=True)]


def head_modules(model: nn.Module) -> list[nn.Module]:
    """Return the classifier: timm's own, else the last module that has parameters itself; [] without any.

    A distilled model has two.
    """
    classifier = getattr(model, "get_classifier", None)
    if callable(classifier):
        found = classifier()
        modules = list(found) if isinstance(found, tuple | list) else [found]
        found_modules = [module for module in modules if isinstance(module, nn.Module)]
        if any(next(module.parameters(), None) is not None for module in found_modules):
            return found_modules
    owners = [module for module in model.modules() if next(module.parameters(recurse=False), None) is not None]
    return owners[-1:]


def _layer_numbers(model: nn.Module) -> Mapping[str, int]:
    """Return the layer of each parameter, 0 at the input."""
    matcher = getattr(model, "group_matcher", None)
    if callable(matcher):
        numbers = group_parameters(model, matcher(coarse=False), reverse=True)
        last = max(numbers.values(), default=0)
        return {name: numbers.get(name, last) for name, _ in model.named_parameters()}
    found, number, owner = {}, -1, ""
    for name, parameter in model.named_parameters():
        module = name.rpartition(".")[0]
        # A norm belongs to the layer before it.
        if number < 0 or (parameter.ndim > 1 and module != owner):
            number, owner = number + 1, module
        found[name] = number
    return found


def _names(keys: list[tuple[float, Part, bool]]) -> list[str]:
    """Return `body_0`, `body_0_no_decay`, …, `head`: numbered where a part has several rates, from the input on."""
    rates: dict[Part, list[float]] = {"body": [], "head": []}
    for ratio, part, _ in keys:
        if ratio not in rates[part]:
            rates[part].append(ratio)
    names = []
    for ratio, part, free in keys:
        number = f"_{rates[part].index(ratio)}" if len(rates[part]) > 1 else ""
        names.append(f"{part}{number}{'_no_decay' if free else ''}")
    return names
