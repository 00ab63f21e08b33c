"""From a timm name to a model with its weights, a new classifier, and the normalisation of its images."""

from dataclasses import dataclass
from typing import Any

import timm
import torch
from torch import nn

from components.errors import InputError
from components.models.catalogue import classifier_names, describe_backbone
from components.models.weight_files import load_weights_file
from components.models.weights import check_weights, load_packaged, packaged_weights

CLASSIFIER_STD = 0.01


@dataclass(frozen=True)
class BuiltModel:
    """A model on the CPU in train mode, float32. Its images are normalised as `(pixels / 255 - mean) / std`."""

    model: nn.Module
    mean: tuple[float, ...]
    std: tuple[float, ...]


def build_model(
    *,
    backbone: str,
    weights: str,
    num_classes: int,
    drop_rate: float,
    drop_path_rate: float,
    seed: int,
) -> BuiltModel:
    """Build the classifier. What is not loaded is drawn from `seed`; the caller's generators are not touched.

    backbone: timm name, with or without a weights tag. weights: none, pretrained, package, or file:/path.safetensors.
    drop_rate: dropout before the classifier; drop_path_rate: stochastic depth; both in [0, 1).

    Raises InputError: an unknown backbone, weights that are not available or do not fit, an unsupported rate.
    """
    if not weights.startswith("file:"):  # which is checked when it is read
        check_weights(backbone, weights)
    record = describe_backbone(backbone)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        rates = {"drop_rate": drop_rate, "drop_path_rate": drop_path_rate}
        model = _create(backbone, pretrained=weights == "pretrained", num_classes=num_classes, rates=rates)
        _reset_classifier(model, backbone)
    if weights == "package":
        load_packaged(model, backbone)
    elif weights.startswith("file:"):
        load_weights_file(model, backbone, weights)
    source = packaged_weights(backbone) if weights == "package" else record
    return BuiltModel(model, tuple(map(float, source.mean)), tuple(map(float, source.std)))


def build_embedder(*, backbone: str, weights: str, seed: int) -> BuiltModel:
    """Build a model that returns pooled features, (B, F), instead of logits; the rest as for `build_model`."""
    built = build_model(backbone=backbone, weights=weights, num_classes=2, drop_rate=0.0, drop_path_rate=0.0, seed=seed)
    # Every model of timm's has such a method.
    built.model.reset_classifier(0)  # type: ignore[operator]
    return built


def check_rates(backbone: str, *, drop_rate: float, drop_path_rate: float) -> None:
    """Raise InputError for a rate that the architecture does not have; nothing is allocated."""
    describe_backbone(backbone)
    with torch.device("meta"):
        rates = {"drop_rate": drop_rate, "drop_path_rate": drop_path_rate}
        _create(backbone, pretrained=False, num_classes=2, rates=rates)


def _create(backbone: str, *, pretrained: bool, num_classes: int, rates: dict[str, Any]) -> nn.Module:
    while True:
        try:
            return timm.create_model(backbone, pretrained=pretrained, num_classes=num_classes, **rates)
        except TypeError as error:
            # Not every architecture has both rates. A rate of zero may be left out.
            refused = next((name for name in rates if f"'{name}'" in str(error)), None)
            if refused is None:
                raise
            if rates[refused] != 0:
                raise InputError(
                    f"model.{refused}={rates[refused]} is not supported by backbone {backbone!r}; set it to 0"
                ) from error
            rates = {name: rate for name, rate in rates.items() if name != refused}


def _reset_classifier(model: nn.Module, backbone: str) -> None:
    """Start the classifier near zero, so that the first predictions are close to uniform.

    timm draws an EfficientNet's classifier with a standard deviation of 1/√(classes), made for a thousand of them. With
    two classes the loss of tf_efficientnet_lite0 began at 4.5 on real images instead of 0.7, and the first epochs and
    every range test measured how fast this is unlearned.
    """
    modules = dict(model.named_modules())
    for name in classifier_names(backbone):
        head = modules.get(name)
        if isinstance(head, nn.Linear | nn.Conv2d):
            nn.init.normal_(head.weight, std=CLASSIFIER_STD)
            if head.bias is not None:
                nn.init.zeros_(head.bias)
