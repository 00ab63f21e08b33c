"""From a timm name to a model with its weights, a fresh classifier, and the normalisation they go with."""

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
class Preprocessing:
    """Channel statistics on the [0, 1] scale: `(pixels / 255 - mean) / std`."""

    mean: tuple[float, float, float]
    std: tuple[float, float, float]


@dataclass(frozen=True)
class BuiltModel:
    """A model on the CPU in train mode, float32, and what its images have to be normalised with."""

    model: nn.Module
    preprocessing: Preprocessing


def build_model(
    *,
    backbone: str,
    weights: str,
    num_classes: int,
    drop_rate: float,
    drop_path_rate: float,
    seed: int,
) -> BuiltModel:
    """Build the classifier. What is not loaded starts from `seed`; the caller's generators stay as they are.

    Args:
        backbone: timm name, with or without a weights tag.
        weights: none, pretrained, package, or file:/path/to/weights.safetensors.
        num_classes: width of the classifier, at least 2.
        drop_rate: dropout before the classifier, in [0, 1).
        drop_path_rate: stochastic depth, in [0, 1).
        seed: of the random start; the same seed gives the same bytes.

    Raises:
        InputError: an unknown backbone, weights that cannot be had or do not fit, an unsupported rate.
    """
    if not weights.startswith("file:"):  # which is looked at when it is read
        check_weights(backbone, weights)
    describe_backbone(backbone)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        model = _create(
            backbone,
            pretrained=weights == "pretrained",
            num_classes=num_classes,
            rates={"drop_rate": drop_rate, "drop_path_rate": drop_path_rate},
        )
        _reset_classifier(model, backbone)
    if weights == "package":
        load_packaged(model, backbone)
    elif weights.startswith("file:"):
        load_weights_file(model, backbone, weights)
    return BuiltModel(model, _preprocessing(backbone, weights))


def check_rates(backbone: str, *, drop_rate: float, drop_path_rate: float) -> None:
    """Raise InputError for a rate that the architecture does not have; nothing is allocated."""
    describe_backbone(backbone)
    with torch.device("meta"):
        _create(
            backbone, pretrained=False, num_classes=2, rates={"drop_rate": drop_rate, "drop_path_rate": drop_path_rate}
        )


def _create(backbone: str, *, pretrained: bool, num_classes: int, rates: dict[str, Any]) -> nn.Module:
    while True:
        try:
            return timm.create_model(backbone, pretrained=pretrained, num_classes=num_classes, **rates)
        except TypeError as error:
            # Not every architecture has both rates. A zero asks for nothing, so it may be left out.
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

    timm draws an EfficientNet's classifier with a spread of 1/√(classes), made for a thousand of them. For two
    the loss of tf_efficientnet_lite0 began at 4.5 on real images instead of 0.7, and the first epochs, and
    every range test, measure how fast that is unlearned.
    """
    modules = dict(model.named_modules())
    for name in classifier_names(backbone):
        head = modules.get(name)
        if isinstance(head, nn.Linear | nn.Conv2d):
            nn.init.normal_(head.weight, std=CLASSIFIER_STD)
            if head.bias is not None:
                nn.init.zeros_(head.bias)


def _preprocessing(backbone: str, weights: str) -> Preprocessing:
    source = packaged_weights(backbone) if weights == "package" else describe_backbone(backbone)
    return Preprocessing(_three(source.mean), _three(source.std))


def _three(values: tuple[float, ...]) -> tuple[float, float, float]:
    red, green, blue = (float(value) for value in values)
    return red, green, blue
